"""Put right what a check found: nothing sound is touched, and what is dropped goes to quarantine.

Each finding is looked at again under the lock of its folder, so that what another process has put right meanwhile, or
a disk that gives the right bytes the second time, costs nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from cache.attached import SUFFIX
from cache.durable import FolderLock, abandoned_files, fsync_folder, remove_files, write_error
from cache.folder import KeyFolder
from cache.index import SIDE_FILES
from cache.probe import Probe
from cache.quarantine import quarantine
from cache.regular import entries
from cache.verify import (
    Problem,
    ProblemKind,
    VerifyReport,
    check_attached,
    check_index_file,
    check_key_file,
    check_shard,
)


@dataclass(frozen=True)
class Moved:
    """Something that was moved to quarantine.

    Attributes:
        source: Where it lay.
        target: Where it lies now.
    """

    source: Path
    target: Path


@dataclass(frozen=True)
class RepairReport:
    """What a repair did.

    Attributes:
        moved: What was read and found wrong, now in quarantine.
        removed: Temporary files of killed processes.
        rewritten: key.json files that were written again.
        rows_lost: Rows that `extract` has to compute again.
        left: Problems that were left alone.
    """

    moved: tuple[Moved, ...]
    removed: tuple[Path, ...]
    rewritten: tuple[Path, ...]
    rows_lost: int
    left: tuple[Problem, ...]


@dataclass
class _Repair:
    root: Path
    probe: Probe
    moved: list[Moved] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    rewritten: list[Path] = field(default_factory=list)
    left: list[Problem] = field(default_factory=list)
    rows_lost: int = 0

    def drop(self, problem: Problem) -> None:
        """Move what a problem names to quarantine."""
        self.moved.append(Moved(problem.path, quarantine(self.root, problem.path)))
        self.rows_lost += problem.rows


def repair(root: Path, report: VerifyReport, probe: Probe | None = None) -> RepairReport:
    """Move damaged and foreign files to quarantine, remove abandoned temporary files, write lost key.json files again.

    What could not be read, and folders of another layout, are left alone and named.

    Args:
        root: The cache.
        report: What `verify` found in it.
        probe: The child process that opens files with the HDF5 library.

    Returns:
        What was done.

    Raises:
        CacheBusy: Another process is writing under a key that needs a repair.
        CacheWriteError: The disk refuses.
    """
    with probe or Probe() as child:
        work = _Repair(root, child)
        for problem in report.problems:
            if problem.kind in (ProblemKind.OLD_LAYOUT, ProblemKind.UNREADABLE):
                work.left.append(problem)
                continue
            lock = FolderLock(problem.path if problem.kind is ProblemKind.NO_KEY else problem.path.parent)
            lock.acquire(0)
            try:
                for finding in _again(work, problem):
                    _put_right(work, finding)
            finally:
                lock.release()
    return RepairReport(tuple(work.moved), tuple(work.removed), tuple(work.rewritten), work.rows_lost, tuple(work.left))


def _again(work: _Repair, problem: Problem) -> list[Problem]:
    """What is wrong now, under the lock, with the thing that a problem names."""
    if problem.kind is ProblemKind.TEMPORARY:
        return [problem] if problem.path in abandoned_files(problem.path.parent) else []
    if problem.kind is ProblemKind.INDEX:
        return check_index_file(problem.path)
    if problem.path.suffix == SUFFIX:
        return check_attached(problem.path)
    folder = KeyFolder(problem.path if problem.kind is ProblemKind.NO_KEY else problem.path.parent)
    check = folder.check_key()
    if problem.kind in (ProblemKind.KEY_FILE, ProblemKind.NO_KEY):
        return check_key_file(folder, check)
    if check.key is None:
        return [problem] if check.unreadable else []
    try:
        result = check_shard(problem.path, check.key.base, True, work.probe)
    except FileNotFoundError:
        return []
    return [result] if isinstance(result, Problem) else []


def _put_right(work: _Repair, problem: Problem) -> None:
    if problem.kind is ProblemKind.TEMPORARY:
        remove_files([problem.path])
        work.removed.append(problem.path)
    elif problem.kind is ProblemKind.KEY_FILE:
        folder = KeyFolder(problem.path.parent)
        base = folder.read_key().base
        if os.path.lexists(problem.path):
            work.moved.append(Moved(problem.path, quarantine(work.root, problem.path)))
        folder.prepare(base, {})
        work.rewritten.append(problem.path)
    elif problem.kind is ProblemKind.NO_KEY:
        _drop_folder(work, problem)
    elif problem.kind is ProblemKind.INDEX:
        for path in [problem.path.with_name(problem.path.name + ending) for ending in SIDE_FILES]:
            if os.path.lexists(path):
                work.moved.append(Moved(path, quarantine(work.root, path)))
    elif problem.kind in (ProblemKind.DAMAGED, ProblemKind.WRONG_KEY):
        work.drop(problem)
    else:
        work.left.append(problem)


def _drop_folder(work: _Repair, problem: Problem) -> None:
    """Move all of a folder, key.json last but for the lock."""
    folder, lock = problem.path, problem.path / "lock"
    inside = sorted(entries(folder), key=lambda entry: (entry.name == "key.json", entry.name))
    for path in inside:
        if path != lock:
            work.moved.append(Moved(path, quarantine(work.root, path)))
    work.rows_lost += problem.rows
    remove_files([lock])
    try:
        folder.rmdir()
        fsync_folder(folder.parent)
    except OSError as error:
        raise write_error(folder, error) from error
