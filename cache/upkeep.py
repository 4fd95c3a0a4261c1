"""Make a cache smaller: `prune` drops rows and keys nobody names, `compact` turns small shards into large ones.

Both write the new shards first and remove the old ones after, under the key's lock: a kill in between leaves rows
in two shards, which readers do not mind and the next `compact` joins.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.arrays import Bool
from cache.durable import FolderLock, commit_new, remove_files, write_error
from cache.errors import CacheError
from cache.folder import KeyFolder, other_layout
from cache.ids import IdIndex, Ids, IdSet, as_ids
from cache.quarantine import empty, quarantined, size_of
from cache.regular import entries
from cache.shard import ShardSource, build_shard
from cache.stored import Shard

COMPACT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class PruneReport:
    """What was removed, or would be in a dry run.

    Attributes:
        dry_run: Whether nothing was removed.
        rows: Rows, counted once per column.
        bytes: What becomes free on the disk, nearly.
        keys: Folder names of whole keys.
        old_layouts: Folders of another layout version.
        quarantined: Files in quarantine.
    """

    dry_run: bool
    rows: int
    bytes: int
    keys: tuple[str, ...]
    old_layouts: tuple[Path, ...]
    quarantined: tuple[Path, ...] = ()


@dataclass(frozen=True)
class CompactReport:
    """What joining shards did.

    Attributes:
        shards_before: Shards found.
        shards_after: Shards left.
        bytes_before: Their size on disk.
        bytes_after: Likewise.
        duplicate_rows: Rows that lay in two shards and now lie in one.
    """

    shards_before: int
    shards_after: int
    bytes_before: int
    bytes_after: int
    duplicate_rows: int


def prune(
    root: Path,
    keep: npt.ArrayLike | None = None,
    drop_keys: Sequence[str] = (),
    dry_run: bool = True,
    quarantine: bool = False,
) -> PruneReport:
    """Remove rows whose content id is not in `keep`, whole keys, folders of other layout versions, the quarantine.

    A folder is of another layout only if its key.json is sound and says so; one that is damaged is left to `repair`.

    Args:
        root: The cache.
        keep: Content ids of every catalogue still in use, S32 (n,); None keeps all rows.
        drop_keys: Digests, or their first digits (at least 4), of keys no longer wanted.
        dry_run: Only say what would go.
        quarantine: Delete what earlier repairs moved to quarantine.

    Returns:
        What went.

    Raises:
        CacheError: A digest names no key, or several; or nothing tells the key of a folder whose rows are asked for.
        CacheBusy: Another process is writing under a key.
        CacheReadError: A file cannot be read.
        CacheWriteError: The disk refuses.
    """
    wanted = None if keep is None else IdSet(as_ids(keep))
    folders = KeyFolder.all(root)
    dropped = [_one_folder(folders, digest) for digest in drop_keys]
    old = [folder for folder in folders if other_layout(folder) is not None]
    whole = {folder.path for folder in (*dropped, *old)}
    rows = size = 0
    for folder in folders:
        with _locked(folder, dry_run):
            if folder.path in whole:
                lost, freed = _prune_folder(folder, dry_run)
            elif wanted is not None:
                lost, freed = _prune_rows(folder, wanted, dry_run)
            else:
                continue
        rows, size = rows + lost, size + freed
    aside = quarantined(root) if quarantine else []
    size += size_of(aside)
    if quarantine and not dry_run:
        empty(root)
    names = tuple(folder.path.name for folder in dropped)
    return PruneReport(dry_run, rows, size, names, tuple(folder.path for folder in old), tuple(aside))


@contextlib.contextmanager
def _locked(folder: KeyFolder, dry_run: bool = False) -> Iterator[None]:
    lock = FolderLock(folder.path)
    if not dry_run:
        lock.acquire(0)
    try:
        yield
    finally:
        lock.release()


def _prune_folder(folder: KeyFolder, dry_run: bool) -> tuple[int, int]:
    """Remove a key's folder, key.json last but for the lock, so that a kill leaves a key with fewer rows."""
    rows = sum(name.rows for name in folder.shard_names())
    inside = entries(folder.path)
    size = sum(path.lstat().st_size for path in inside)
    if dry_run:
        return rows, size
    if any(path.is_dir() and not path.is_symlink() for path in inside):
        raise CacheError(f"{folder.path} holds a folder, which no cache makes; move it away, then prune again")
    last = [folder.key_path, folder.path / "lock"]
    remove_files(path for path in sorted(inside) if path not in last)
    for path in last:
        remove_files([path])
    try:
        folder.path.rmdir()
    except OSError as error:
        raise write_error(folder.path, error) from error
    return rows, size


def _one_folder(folders: Sequence[KeyFolder], digest: str) -> KeyFolder:
    # Folders bear 16 digits; whoever states more means the whole digest, and a wrong one names no key.
    named = [folder for folder in folders if len(digest) >= 4 and _whole_name(folder, digest).startswith(digest)]
    if len(named) != 1:
        names = ", ".join(folder.path.name for folder in folders) or "none"
        raise CacheError(f"{digest!r} names {len(named)} keys; expected one of: {names} (at least 4 digits)")
    return named[0]


def _whole_name(folder: KeyFolder, digest: str) -> str:
    short = folder.path.name
    return folder.read_key().base.digest if len(digest) > len(short) and digest.startswith(short) else short


def _prune_rows(folder: KeyFolder, wanted: IdSet, dry_run: bool) -> tuple[int, int]:
    if folder.is_empty(folder.check_key()):
        return 0, 0
    base = folder.read_key().base
    rows = size = 0
    for name in folder.shard_names():
        shard = Shard(folder.path / name.text, base)
        ids = shard.read_ids()
        kept = wanted.contains(ids)
        lost = int((~kept).sum())
        rows += lost
        size += lost * (shard.header.row_bytes + 32)
        if lost and not dry_run:
            if kept.any():
                _commit(folder, shard, ids[kept], shard.mapped().all()[kept])
            remove_files([shard.path])
    return rows, size


def compact(root: Path, target_bytes: int = COMPACT_BYTES) -> CompactReport:
    """Join small shards of a column into shards of about `target_bytes`, and rows that lie twice into one.

    Shards of at least half the target are left alone unless a row in them lies in an earlier shard too. Needs about
    three times `target_bytes` of memory.

    Args:
        root: The cache.
        target_bytes: Size that joined shards have, nearly.

    Returns:
        What it did.

    Raises:
        CacheBusy: Another process is writing under a key.
        ShardDamaged: A shard is damaged; nothing of it is copied.
        CacheReadError: A file cannot be read.
        CacheWriteError: The disk refuses.
    """
    before, size_before, duplicates = 0, 0, 0
    folders = [folder for folder in KeyFolder.all(root) if other_layout(folder) is None]
    for folder in folders:
        with _locked(folder):
            remove_files(folder.abandoned_files())
            names = folder.shard_names()
            before += len(names)
            size_before += _bytes(folder)
            if names:
                base = folder.read_key().base
                for column in dict.fromkeys(name.column for name in names):
                    shards = [Shard(folder.path / name.text, base) for name in names if name.column == column]
                    duplicates += _compact_column(folder, shards, target_bytes)
    after = sum(len(folder.shard_names()) for folder in folders)
    return CompactReport(before, after, size_before, sum(_bytes(folder) for folder in folders), duplicates)


def _compact_column(folder: KeyFolder, shards: Sequence[Shard], target_bytes: int) -> int:
    parts = [shard.read_ids() for shard in shards]
    twice = IdIndex(np.concatenate(parts)).duplicates()
    keep = np.split(~twice, np.cumsum([len(part) for part in parts])[:-1])
    group: list[int] = []
    size = 0
    for number, shard in enumerate(shards):
        small = shard.header.file_bytes < target_bytes // 2
        if not small and keep[number].all():
            continue
        other_type = bool(group) and shards[group[0]].dtype != shard.dtype
        if other_type or size + shard.header.file_bytes > target_bytes:
            _join(folder, [shards[item] for item in group], [keep[item] for item in group])
            group, size = [], 0
        group.append(number)
        size += shard.header.file_bytes
    _join(folder, [shards[item] for item in group], [keep[item] for item in group])
    return int(twice.sum())


def _join(folder: KeyFolder, shards: Sequence[Shard], keep: Sequence[Bool]) -> None:
    if not shards or (len(shards) == 1 and keep[0].all()):
        return
    if any(rows.any() for rows in keep):
        ids = np.concatenate([shard.read_ids()[rows] for shard, rows in zip(shards, keep, strict=True)])
        features = np.concatenate([shard.mapped().all()[rows] for shard, rows in zip(shards, keep, strict=True)])
        _commit(folder, shards[0], ids, features)
    remove_files(shard.path for shard in shards)


def _commit(folder: KeyFolder, like: Shard, ids: Ids, features: npt.NDArray[Any]) -> None:
    key = folder.read_key()
    source = ShardSource(key.base, like.header.column, key.notes)
    sequence = 1 + max(name.sequence for name in folder.shard_names())
    name, data = build_shard(source, sequence, ids, features)
    commit_new(folder.path / name, data)


def _bytes(folder: KeyFolder) -> int:
    size = 0
    for name in folder.shard_names():
        with contextlib.suppress(OSError):  # pruned meanwhile, or a link that leads nowhere
            size += (folder.path / name.text).stat().st_size
    return size
