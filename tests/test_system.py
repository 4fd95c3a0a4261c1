"""Files that are whole or not there, whoever writes beside whom; bounds that respect the control group."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import machine
from pipeline.errors import CatalogueError, OptionError, RunError
from pipeline.machine import cores, memory_limit, memory_size
from pipeline.system import (
    only_writer,
    open_regular,
    parsed,
    read_text,
    sync_tree,
    whole_file,
    write_json,
    write_text,
    wrong_text,
)

ROOT = Path(__file__).resolve().parents[1]


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    """With one fixed temporary name, two writers of 150 pages each lost some to the other's rename."""
    page = tmp_path / "report.html"
    code = "import sys; from pathlib import Path; from pipeline.system import write_text\n"
    code += "for _ in range(150): write_text(Path(sys.argv[1]), sys.argv[2] * 50_000)"
    command = [sys.executable, "-c", code, str(page)]
    writers = [subprocess.Popen([*command, text], cwd=ROOT) for text in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert page.read_text() in ("a" * 50_000, "b" * 50_000)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_threads_of_one_process_have_names_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: write_text(tmp_path / "page.html", str(n) * 1000), range(64)))
    assert len(set((tmp_path / "page.html").read_text())) <= 2
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_failed_write_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "x.json"
    write_json(path, {"size": (1, 2), "path": Path("a")})
    before = path.read_text()
    with pytest.raises(TypeError, match="object has no place in a JSON file"):
        write_json(path, {"bad": object()})
    with pytest.raises(ZeroDivisionError), whole_file(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == before == '{\n "size": [\n  1,\n  2\n ],\n "path": "a"\n}\n'
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_a_file_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("fsync"), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (steps.append("rename"), replace(self, to)))
    write_text(tmp_path / "a.txt", "x")
    assert steps == ["fsync", "rename", "fsync"], "file, name, folder"


def test_other_people_may_read_what_was_written(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_memory_is_that_of_the_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "slice" / "job"
    own.mkdir(parents=True)
    (tmp_path / "own").write_text("0::/slice/job\n")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_OWN_CGROUP", tmp_path / "own")
    limit = own / "memory.max"
    limit.write_text("max\n")
    whole = memory_size()
    assert memory_limit(None) == whole // 2
    limit.write_text(f"{2**30}\n")
    assert (memory_size(), memory_limit(None), memory_limit(0.25)) == (2**30, 2**29, 2**28)
    (own.parent / "memory.max").write_text(f"{2**29}\n")
    assert memory_size() == 2**29, "a group is held by all around it"
    (tmp_path / "own").write_text("5:cpu:/\n4:memory:/batch\n")
    (tmp_path / "memory" / "batch").mkdir(parents=True)
    (tmp_path / "memory" / "batch" / "memory.limit_in_bytes").write_text(f"{2**28}\n")
    assert memory_size() == 2**28, "version 1"


def test_cores_are_counted_where_a_system_has_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == os.cpu_count()


def test_a_tree_is_brought_to_the_disk_with_every_file_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run" / "models").mkdir(parents=True)
    (tmp_path / "run" / "models" / "best.joblib").write_bytes(b"x")
    (tmp_path / "run" / "split.csv").write_text("x")
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(str(Path(f"/proc/self/fd/{handle}").readlink())), fsync(handle))
    )
    sync_tree(tmp_path / "run")
    assert sorted(Path(path).name for path in synced) == ["best.joblib", "models", "run", "split.csv"]


@pytest.mark.parametrize(
    "fault", [ValueError("x"), RecursionError("x"), TypeError("x"), MemoryError("x"), StopIteration("x"), KeyError("x")]
)
def test_whatever_a_parser_raises_becomes_the_named_error(fault: Exception) -> None:
    with (
        pytest.raises(CatalogueError, match=r"^f\.csv: no \('?x'?\); do$") as caught,
        parsed(CatalogueError, "f.csv: no (", "); do"),
    ):
        raise fault
    assert caught.value.__cause__ is fault


def test_a_reason_can_be_told_whatever_is_in_it() -> None:
    with pytest.raises(CatalogueError, match=r"^TypeError$"), parsed(CatalogueError, ""):
        raise TypeError
    with pytest.raises(CatalogueError, match=r"^a\\ud800$"), parsed(CatalogueError, "", lines=1):
        raise ValueError("a\ud800\nadvice")
    with pytest.raises(CatalogueError, match="^x{500}$"), parsed(CatalogueError, ""):
        raise ValueError("x" * 10**6)


def test_errors_with_a_name_and_interrupts_pass_the_boundary() -> None:
    with pytest.raises(OptionError, match="^said$"), parsed(CatalogueError, "no "):
        raise OptionError("said")
    with pytest.raises(KeyboardInterrupt), parsed(CatalogueError, "no "):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", ""),
        ("é😀", ""),
        ("a\0", "a NUL character"),
        ("é\udc80", "a lone surrogate, \\udc80, which is no character"),
    ],
)
def test_what_no_file_can_be_written_with_is_named(text: str, wrong: str) -> None:
    assert wrong_text(text) == wrong


def test_only_regular_files_are_opened_and_links_to_them(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfx")
    (tmp_path / "link").symlink_to("file")
    assert read_text(tmp_path / "link", 4) == "x"
    with pytest.raises(OSError, match="larger than the 3 bytes"):
        read_text(tmp_path / "link", 3)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            open_regular(path)


def test_a_new_file_replaces_nothing_and_the_first_writer_wins(tmp_path: Path) -> None:
    path = tmp_path / "mapping.csv"
    with whole_file(path, new=True) as first:
        first.write_text("first")
        assert not path.exists()
        with pytest.raises(FileExistsError) as caught, whole_file(path, new=True) as second:
            second.write_text("second")
            path.write_text("somebody else's")
        assert caught.value.filename == str(path)
        path.unlink()
    assert path.read_text() == "first"
    assert [each.name for each in tmp_path.iterdir()] == ["mapping.csv"]


def test_a_refused_write_names_the_file_and_not_the_unfinished_one(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, whole_file(tmp_path / "report.html"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "report.html")


def test_a_folder_has_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        only_writer(tmp_path, RunError),
        pytest.raises(RunError, match="another process is writing into .*; let it finish, or name another folder"),
        only_writer(tmp_path, RunError),
    ):
        pass
    with only_writer(tmp_path, RunError):
        assert list(tmp_path.iterdir()) == []
