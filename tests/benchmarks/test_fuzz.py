"""The fuzzer sees what it is for, every reader stands a short run of it, and what broke one once breaks it no more."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(HOME))

from benchmarks import fuzz  # noqa: E402
from benchmarks.fuzzing.mutations import IRREGULAR, put  # noqa: E402
from benchmarks.fuzzing.reader import Reader, sample_of  # noqa: E402
from benchmarks.fuzzing.readers import READERS  # noqa: E402
from benchmarks.fuzzing.sandbox import HANG, MEMORY, NAMED, RESULT, TRACEBACK, WRONG, Sandbox  # noqa: E402

CORPUS = HOME / "tests" / "corpus"
KEPT = sorted(path for path in CORPUS.rglob("*") if path.is_file())
SHORT = {"cache": 12, "options": 30, "runs": 40, "catalogue": 80}


class Broken(Reader):
    """Breaks in every way, by the first letter of what it reads."""

    name = "broken"
    seconds, megabytes = 1.0, 100
    samples = {"a.txt": b"fine and long enough to be cut"}  # noqa: RUF012

    def __init__(self, home: Path) -> None:
        self.home = home

    def read(self, sample: str, data: bytes) -> str:
        if b"traceback" in data:
            raise ZeroDivisionError
        if b"crash" in data:
            import os

            os.abort()
        if b"hang" in data:
            time.sleep(60)
        if b"memory" in data:
            return str(b"x" * (200 * 2**20))[:0]
        if b"named" in data:
            raise self.errors[0]("named")
        return "another" if b"wrong" in data else ""


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"fine", RESULT),
        (b"named", NAMED),
        (b"traceback", TRACEBACK),
        (b"crash", TRACEBACK),
        (b"hang", HANG),
        (b"memory", MEMORY),
        (b"wrong", WRONG),
    ],
)
def test_each_way_of_breaking_is_told_apart_and_the_next_input_is_served(
    tmp_path: Path, data: bytes, kind: str
) -> None:
    reader = Broken(tmp_path)
    # Only what hangs is waited for in vain; the rest may take as long as a busy machine lets it.
    seconds = 0.5 if kind == HANG else 60.0
    with Sandbox(reader.read, reader.errors, seconds, reader.megabytes) as sandbox:
        assert sandbox.run("a.txt", data).kind == kind
        assert sandbox.run("a.txt", b"fine").kind == RESULT


def test_what_breaks_is_kept_small_and_breaks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broken, "input", lambda self, rng: ("a.txt", rng.randbytes(40) + b"wrong" + rng.randbytes(400)))
    tally = fuzz.fuzz(Broken(tmp_path), 60, 0, tmp_path / "kept", inputs=5)
    assert (tally.broken, tally.kinds[WRONG], len(tally.kept)) == (5, 5, fuzz.MOST_ALIKE)
    for path in tally.kept:
        assert b"wrong" in path.read_bytes() and path.stat().st_size < 40
        assert fuzz.replay(Broken(tmp_path), path).kind == WRONG
    assert "5 inputs" in tally.line() and "5 WRONG" in tally.line()
    assert tally.row().startswith("| broken | 5 |")
    assert tally.row().count("|") == fuzz.HEAD.splitlines()[0].count("|")


def test_the_same_seed_gives_the_same_inputs(tmp_path: Path) -> None:
    reader = READERS["lists"](tmp_path)
    first, second = ([reader.input(random.Random(f"{seed}")) for seed in range(50)] for _ in range(2))
    assert first == second and len(set(first)) > 30


def test_what_is_no_file_is_put_in_its_place_and_replaced(tmp_path: Path) -> None:
    for data in (*IRREGULAR, b"bytes", *reversed(IRREGULAR), b"@nothing@"):
        put(tmp_path / "x" / "file", data)
    assert list((tmp_path / "x").iterdir()) == []


@pytest.mark.parametrize("name", READERS)
def test_a_reader_stands_a_short_run(tmp_path: Path, name: str) -> None:
    tally = fuzz.fuzz(READERS[name](tmp_path / "home"), 60, 1, tmp_path / "kept", inputs=SHORT.get(name, 150))
    assert dict(tally.breaks) == {}
    assert tally.kinds[RESULT] and (tally.kinds[NAMED] or name == "cache")


@cache
def reader_of(name: str, home: Path) -> Reader:
    return READERS[name](home)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("readers")
    reader_of.cache_clear()


@pytest.mark.parametrize("path", KEPT, ids=lambda path: str(path.relative_to(CORPUS)))
def test_what_broke_a_reader_once_ends_in_a_result_or_a_named_error(homes: Path, path: Path) -> None:
    reader = reader_of(path.parent.name, homes / path.parent.name)
    outcome = fuzz.replay(reader, path)
    assert not outcome.broken, outcome


def test_every_reader_has_kept_files_that_are_small() -> None:
    assert {path.parent.name for path in KEPT} == set(READERS)
    assert max(path.stat().st_size for path in KEPT) < 40_000
    with pytest.raises(SystemExit, match="no sample"):
        sample_of(Broken(CORPUS), CORPUS / "x~1.txt")


def test_the_command_prints_a_summary_and_says_by_its_code_whether_anything_broke(tmp_path: Path) -> None:
    command = [sys.executable, str(HOME / "benchmarks" / "fuzz.py"), "lists", "--keep", str(tmp_path / "kept")]
    done = subprocess.run([*command, "--minutes", "0.02", "--markdown"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("lists: ") and "0 traceback, 0 hang, 0 over memory, 0 WRONG" in done.stdout
    assert "| reader | inputs |" in done.stdout
    again = [*command, "--replay", str(CORPUS / "lists" / "values~digits.json")]
    done = subprocess.run(again, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stdout.startswith("named error: --allowed-values")
