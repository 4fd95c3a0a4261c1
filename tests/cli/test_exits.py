"""How every command ends when it is stopped or refused: a clear line, a documented code, nothing torn or left over."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(HOME), str(HOME / "benchmarks"), str(HOME / "tests" / "cache")]

from cachekit import unexpected_files  # noqa: E402
from soak_processes import Command, Ended, Limits  # noqa: E402

NETWORK = ("--backbone", "test_resnet", "--weights", "random:0", "--size", "32")
PLAN = """
cache: {out}/features
data: {{data: {data}}}
out: {out}/plan
extractions:
  only: {{backbone: test_resnet, weights: "random:0", size: 32}}
runs:
- {{name: first, extraction: only, heads: [linear], optimizers: [adam], lr: [0.1], epochs: 2}}
"""
COMMANDS = (
    *("extract", "fit-heads", "compare", "predict", "audit", "vocabulary", "sample", "reproduce", "finetune"),
    *("cache verify", "cache compact", "cache prune", "cache export"),
)
WRITING = tuple(name for name in COMMANDS if name != "cache verify")
is_root = os.geteuid() == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue, its cache in several shards, a run and its model."""
    home = tmp_path_factory.mktemp("made")
    data, cache = str(home / "catalogue"), str(home / "features")
    steps = (
        ("sample", data, "--images", "40"),
        ("extract", "--data", data, "--cache", cache, *NETWORK, "--features", "levels"),
        ("extract", "--data", data, "--cache", cache, *NETWORK),
        ("fit-heads", "--data", data, "--cache", cache, "--use", "pooled", "--heads", "linear", "--epochs", "2",
         "--out", str(home / "run")),
    )  # fmt: skip
    for words in steps:
        ended = Command(words, home / "made").wait()
        assert ended.code == 0, ended
    return home


def words_of(name: str, made: Path, out: Path) -> list[str]:
    """The words of a command that writes below `out`, which holds a cache already."""
    data = ["--data", str(made / "catalogue"), "--cache", str(out / "features")]
    (out.parent / "plan.yaml").write_text(PLAN.format(out=out, data=made / "catalogue"))
    words = {
        "extract": [*data, *NETWORK, "--features", "pooled,levels", "--views", "hflip"],
        "fit-heads": [*data, "--use", "pooled", "--heads", "linear,mlp", "--epochs", "3", "--out", str(out / "run")],
        "compare": [str(made / "run"), "--report", str(out / "r.html"), "--json", str(out / "t.json"),
                    "--csv", str(out / "t.csv"), "--bootstrap", "200"],
        "predict": [str(made / "catalogue" / "images"), "--model", str(made / "run" / "models" / "best.joblib"),
                    "--out", str(out / "p.csv")],
        "audit": [*data, "--use", "pooled", "--folds", "2", "--out", str(out / "audit")],
        "vocabulary": ["--data", str(made / "catalogue"), "--out", str(out / "m.csv")],
        "sample": [str(out / "sample"), "--images", "10"],
        "reproduce": [str(out.parent / "plan.yaml")],
        "finetune": [*data[:2], *NETWORK, "--attribute", "neck", "--epochs", "2", "--train", "head", "--out",
                     str(out / "tuned")],
        "cache verify": [*data[2:], "--deep"],
        "cache compact": data[2:],
        "cache prune": [*data[2:], "--drop-cache-key", next(each.name for each in (out / "features").iterdir()
                        if len(each.name) == 16), "--yes"],
        "cache export": [*data[2:], "--use", "pooled", "--out", str(out / "f.h5")],
    }  # fmt: skip
    return [*name.split(), *words[name]]


@pytest.fixture
def out(tmp_path: Path, made: Path) -> Path:
    """A folder of its own for what a command writes, with a copy of the cache."""
    shutil.copytree(made / "features", tmp_path / "out" / "features")
    return tmp_path / "out"


def check(ended: Ended, out: Path, codes: tuple[int, ...]) -> None:
    """The end is a documented one, its error one or two clear lines, and no unfinished file is left."""
    assert not ended.hung, ended
    assert ended.code in codes, ended
    assert not any(word in ended.err for word in ("Traceback", "Errno", "iostream", "Exception ignored")), ended
    assert len(ended.err.strip().splitlines()) <= 3, ended
    assert ended.code not in (1, 130) or ended.err.strip(), ended
    strays = [path.name for path in out.rglob("*") if path.name.endswith(".partial") or path.name.startswith(".tmp-")]
    assert strays == [] and unexpected_files(out / "features") == [], ended
    run = out / "run"
    assert not run.exists() or (run / "run.json").is_file(), f"a torn run folder: {list(run.iterdir())}, {ended}"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *((name, signal.SIGTERM) for name in COMMANDS),
        *((name, number) for number in (signal.SIGINT, signal.SIGHUP) for name in ("extract", "fit-heads", "finetune")),
    ],
)
def test_a_stopping_signal_ends_every_command_the_same_way(
    name: str, number: signal.Signals, made: Path, out: Path
) -> None:
    after = {signal.SIGTERM: 0.03, signal.SIGINT: 0.12, signal.SIGHUP: 0.3}[number]
    command = Command(words_of(name, made, out), out.parent / "said")
    command.kill(number, after)
    ended = command.wait()
    check(ended, out, (130,) if ended.sent and ended.err else (0,))
    assert ended.code == 0 or "interrupted; what was finished is kept" in ended.err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_closed_pipe_ends_every_command_without_a_word(name: str, made: Path, out: Path) -> None:
    ended = Command(words_of(name, made, out), out.parent / "said", limits=Limits(stdout="closed")).wait()
    assert (ended.code, ended.err) == (1, ""), ended
    check(Ended(ended.words, 0, "", ""), out, (0,))


@pytest.mark.parametrize("name", ["extract", "compare", "sample", "cache verify"])
def test_a_full_device_behind_the_output_is_said(name: str, made: Path, out: Path) -> None:
    ended = Command(words_of(name, made, out), out.parent / "said", limits=Limits(stdout="/dev/full")).wait()
    check(ended, out, (1,))
    assert ended.err.startswith("error: ") and "No space left on device; free some space" in ended.err


@pytest.fixture
def small_disk(tmp_path: Path, made: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a disk in memory with a copy of the cache: full but for `room` bytes, where that is said."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)]
    if not is_root or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here; root can")

    def made_with(room: int = -1) -> Path:
        shutil.copytree(made / "features", disk / "features")
        if room >= 0:
            free = os.statvfs(disk)
            with (disk / "filler").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - room)
        return disk

    yield made_with
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("name", [each for each in WRITING if each not in ("cache prune", "vocabulary")])
def test_a_full_disk_is_said_and_leaves_nothing_torn(name: str, made: Path, small_disk: Callable[..., Path]) -> None:
    disk = small_disk(0 if name == "predict" else 8192)
    ended = Command(words_of(name, made, disk), disk.parent / "said").wait()
    check(ended, disk, (0, 1) if name == "cache compact" else (1,))
    assert ended.code == 0 or "free some space" in ended.err, ended
    (disk / "filler").unlink()
    again = Command(words_of(name, made, disk), disk.parent / "said").wait()
    check(again, disk, (0,))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_disk_is_said(name: str, made: Path, small_disk: Callable[..., Path]) -> None:
    disk = small_disk()
    words = words_of(name, made, disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    ended = Command(words, disk.parent / "said").wait()
    check(ended, disk, (0,) if name == "cache verify" else (1,))
    assert ended.code == 0 or "Read-only file system; " in ended.err or "that can be written" in ended.err, ended


@pytest.mark.parametrize("name", ["extract", "fit-heads", "compare", "predict", "vocabulary", "cache export"])
def test_a_folder_that_may_not_be_written_is_said(name: str, made: Path, out: Path) -> None:
    words = words_of(name, made, out)
    folders = [out, out / "features", *(each for each in (out / "features").iterdir() if each.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    ended = Command(words, out.parent / "said", limits=Limits(powerless=True)).wait()
    for folder in folders:
        folder.chmod(0o755)
    check(ended, out, (1,))
    assert "Permission denied; " in ended.err or "that can be written" in ended.err, ended


@pytest.mark.parametrize(
    ("name", "megabytes"),
    [*((name, 24) for name in ("extract", "compare", "predict", "finetune")), ("fit-heads", 2), ("audit", 2)],
)
def test_no_memory_is_said(name: str, megabytes: int, made: Path, out: Path) -> None:
    """Where a library ends the process itself, as the C library does, there is at least nothing torn."""
    limits = Limits(memory_bytes=megabytes * 2**20)
    ended = Command(words_of(name, made, out), out.parent / "said", limits=limits).wait()
    library = ended.code in (127, -signal.SIGABRT, -signal.SIGSEGV)
    check(Ended(ended.words, 0, "", "") if library else ended, out, (0, 1) if library or megabytes > 2 else (1,))
    assert ended.code != 1 or "not enough memory; " in ended.err, ended


@pytest.mark.parametrize(
    "name", ["fit-heads", "compare", "predict", "audit", "vocabulary", "reproduce", "cache export"]
)
def test_two_at_once_leave_what_one_of_them_wrote(name: str, made: Path, out: Path) -> None:
    words = words_of(name, made, out)
    commands = [Command(words, out.parent / f"said{number}") for number in range(2)]
    ends = [command.wait() for command in commands]
    for ended in ends:
        check(ended, out, (0, 1))
        assert ended.code == 0 or any(word in ended.err for word in ("another process", "exists", "not empty")), ended
    assert 0 in [ended.code for ended in ends], ends
    for run in out.rglob("run.json"):
        again = Command(["compare", str(run.parent)], out.parent / "said").wait()
        assert again.code == 0, again
    if name in ("predict", "vocabulary"):
        (alone := out.parent / "alone").mkdir()
        shutil.copytree(out / "features", alone / "features")
        assert Command(words_of(name, made, alone), out.parent / "said").wait().code == 0
        (written,) = (path.name for path in alone.glob("*.csv"))
        assert (out / written).read_bytes() == (alone / written).read_bytes()
