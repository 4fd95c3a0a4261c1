"""Check a cache without trusting it, and drop what is bad so that the next `extract` computes just that again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.attached import SUFFIX, read_attached
from cache.durable import FolderLock, remove_files, strays
from cache.errors import CacheBusy, CacheError, CacheLayoutError, ShardDamaged
from cache.folder import KeyFolder
from cache.ids import IdIndex, Ids
from cache.key import BaseKey
from cache.probe import Probe
from cache.shard import ShardName
from cache.stored import Shard

_CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be.

    `kind` is one of: damaged (a shard that must not be read), wrong-key (a shard of another key or column),
    key-file (key.json lost or damaged, the key is known from the shards), no-key (a folder whose key nobody knows),
    old-layout, stray (a temporary file). `rows` are the rows lost by dropping it.
    """

    kind: str
    path: Path
    detail: str
    rows: int = 0


@dataclass(frozen=True)
class VerifyReport:
    """What a check saw: totals, problems, and rows that lie in two shards (harmless; `compact` joins them)."""

    deep: bool
    keys: int
    shards: int
    rows: int
    bytes: int
    duplicate_rows: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """True if there is nothing to repair."""
        return not self.problems


@dataclass(frozen=True)
class RepairReport:
    """What a repair removed or wrote again, and the rows that `extract` has to compute again."""

    removed: tuple[Path, ...]
    rewritten: tuple[Path, ...]
    rows_lost: int
    left: tuple[Problem, ...]


@dataclass
class _Totals:
    shards: int = 0
    rows: int = 0
    bytes: int = 0
    duplicates: int = 0


def verify(root: Path, deep: bool = False, probe: Probe | None = None) -> VerifyReport:
    """Check names, sizes, keys, ids and their checksums, and that the HDF5 library can open each shard.

    Parameters
    ----------
    deep : bool
        Also read every byte and compare it with the SHA-256 in the file's name.
    probe : Probe, optional
        The child process that opens files with the HDF5 library.
    """
    totals = _Totals()
    problems: list[Problem] = []
    folders = KeyFolder.all(root)
    with probe or Probe() as child:
        for folder in folders:
            problems += _check_folder(folder, deep, child, totals)
    if not _in_use(root):
        problems += [Problem("stray", path, "a temporary file of a killed process") for path in strays(root)]
    return VerifyReport(
        deep, len(folders), totals.shards, totals.rows, totals.bytes, totals.duplicates, tuple(problems)
    )


def _check_folder(folder: KeyFolder, deep: bool, probe: Probe, totals: _Totals) -> list[Problem]:
    names = folder.shard_names()
    problems = []
    if not _in_use(folder.path):
        problems += [Problem("stray", path, "a temporary file of a killed process") for path in folder.strays()]
    try:
        base = folder.read_key().base
    except CacheLayoutError as error:
        return [*problems, Problem("old-layout", folder.path, str(error))]
    except CacheError as error:
        if names or folder.key_path.exists():
            lost = sum(name.rows for name in names)
            problems.append(Problem("no-key", folder.path, str(error), lost))
        return problems
    if not folder.key_file_is_whole(base):
        problems.append(Problem("key-file", folder.key_path, "lost or damaged; the shards still tell the key"))
    for path in sorted(folder.path.glob(f"*{SUFFIX}")):
        try:
            read_attached(path)
        except (CacheError, OSError) as error:
            problems.append(Problem("damaged", path, str(error)))
    good: dict[str, list[Ids]] = {}
    for name in names:
        path = folder.path / name.text
        try:
            ids = _check_shard(path, name, base, deep, probe)
        except FileNotFoundError:
            continue
        except (ShardDamaged, OSError) as error:
            kind = "wrong-key" if "belongs to key" in str(error) else "damaged"
            problems.append(Problem(kind, path, _detail(error), name.rows))
            continue
        good.setdefault(name.column, []).append(ids)
        totals.shards += 1
        totals.rows += len(ids)
        totals.bytes += path.stat().st_size
    for parts in good.values():
        totals.duplicates += int(IdIndex(np.concatenate(parts)).duplicates().sum())
    return problems


def _check_shard(path: Path, name: ShardName, base: BaseKey, deep: bool, probe: Probe) -> Ids:
    """Ids of a shard in which nothing was found wrong; raises `ShardDamaged` otherwise."""
    shard = Shard(path, base)
    ids = shard.read_ids()
    card = shard.card
    if card.column.digest(base) != card.column_digest:
        raise ShardDamaged("it does not hold the column that it names")
    if deep:
        digest = file_digest(path)
        if not digest.startswith(name.sha256):
            raise ShardDamaged(f"its bytes have the SHA-256 {digest[:32]}, its name says {name.sha256}")
    seen = probe.ask(path)
    if "error" in seen:
        raise ShardDamaged(seen["error"])
    expected = {
        "features": [[card.rows, shard.dim], card.dtype, card.features_at],
        "ids": [[card.rows, 32], "uint8", card.ids_at],
        "checksums": [[len(shard.sums)], "uint64", card.checksums_at],
    }
    if seen["key"] != base.digest or seen["datasets"] != expected:
        raise ShardDamaged("the HDF5 library sees other datasets than the shard's own description")
    return ids


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def repair(report: VerifyReport) -> RepairReport:
    """Drop damaged and foreign shards, strays and folders without a key; write lost key.json files again.

    Folders of another layout are left to `prune`. Nothing sound is touched.

    Raises
    ------
    CacheBusy
        If another process is writing under a key that needs a repair.
    CacheWriteError
        If the disk refuses.
    """
    removed: list[Path] = []
    rewritten: list[Path] = []
    left: list[Problem] = []
    lost = 0
    for problem in report.problems:
        if problem.kind == "old-layout":
            left.append(problem)
            continue
        folder = problem.path if problem.kind == "no-key" else problem.path.parent
        lock = FolderLock(folder)
        lock.acquire(0)
        try:
            if problem.kind == "key-file":
                key_folder = KeyFolder(folder)
                found = key_folder.read_key()
                key_folder.prepare(found.base, found.notes)
                rewritten.append(problem.path)
            elif problem.kind == "no-key":
                remove_folder(folder)
                removed.append(folder)
            else:
                remove_files([problem.path])
                removed.append(problem.path)
            lost += problem.rows
        finally:
            lock.release()
    return RepairReport(tuple(removed), tuple(rewritten), lost, tuple(left))


def remove_folder(folder: Path) -> None:
    """Remove a key's folder, key.json last but for the lock, so that a kill leaves a key with fewer rows.

    To be called under its lock.
    """
    last = [folder / "key.json", folder / "lock"]
    remove_files(path for path in _plain_files(folder) if path not in last)
    for path in last:
        remove_files([path])
    folder.rmdir()


def _plain_files(folder: Path) -> Iterator[Path]:
    return (entry for entry in sorted(folder.iterdir()) if not entry.is_dir())


def _in_use(folder: Path) -> bool:
    """True while a live process holds the folder's lock: its temporary file is at work, not stray."""
    if not (folder / "lock").exists():
        return False
    lock = FolderLock(folder)
    try:
        lock.acquire(0)
    except CacheBusy:
        return True
    except CacheError:
        return False
    lock.release()
    return False


def _detail(error: Exception) -> str:
    """The finding without the advice that an error adds for its reader."""
    return str(error).split(". Nothing of it was used", 1)[0]
