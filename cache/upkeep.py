"""Make a cache smaller: `prune` drops rows and keys nobody names, `compact` turns small shards into large ones.

Both write the new shards first and remove the old ones after, under the key's lock: a kill in between leaves rows
in two shards, which readers do not mind and the next `compact` joins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.durable import FolderLock, commit_file, remove_files
from cache.errors import CacheError, CacheLayoutError
from cache.folder import KeyFolder
from cache.ids import IdIndex, Ids, IdSet, as_ids
from cache.key import LAYOUT_VERSION
from cache.shard import ShardSource, build_shard
from cache.stored import Shard
from cache.verify import remove_folder

COMPACT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class PruneReport:
    """What was removed, or would be in a dry run. `bytes` is what becomes free on the disk, nearly."""

    dry_run: bool
    rows: int
    bytes: int
    keys: tuple[str, ...]
    old_layouts: tuple[Path, ...]


@dataclass(frozen=True)
class CompactReport:
    """Shards and bytes before and after, and rows that lay in two shards and now lie in one."""

    shards_before: int
    shards_after: int
    bytes_before: int
    bytes_after: int
    duplicate_rows: int


def prune(
    root: Path, keep: npt.ArrayLike | None = None, drop_keys: Sequence[str] = (), dry_run: bool = True
) -> PruneReport:
    """Remove rows whose content id is not in `keep`, whole keys, and folders of other layout versions.

    Parameters
    ----------
    keep : S32 (n,), optional
        Content ids of every catalogue still in use; None keeps all rows.
    drop_keys
        Digests, or their first digits (at least 4), of keys no longer wanted.
    dry_run : bool
        Only say what would go.

    Raises
    ------
    CacheError
        If a digest names no key, or several.
    CacheBusy
        If another process is writing under a key.
    """
    wanted = None if keep is None else IdSet(as_ids(keep))
    folders = KeyFolder.all(root)
    dropped = [_one_folder(folders, digest) for digest in drop_keys]
    old = [folder for folder in folders if folder.layout() not in (None, LAYOUT_VERSION)]
    rows = size = 0
    for folder in folders:
        whole = folder.path in [item.path for item in [*dropped, *old]]
        lock = FolderLock(folder.path)
        if not dry_run:
            lock.acquire(0)
        try:
            if whole:
                rows += sum(name.rows for name in folder.shard_names())
                size += sum(entry.stat().st_size for entry in folder.path.iterdir() if entry.is_file())
                if not dry_run:
                    remove_folder(folder.path)
            elif wanted is not None:
                lost, freed = _prune_rows(folder, wanted, dry_run)
                rows, size = rows + lost, size + freed
        finally:
            lock.release()
    names = tuple(folder.path.name for folder in dropped)
    return PruneReport(dry_run, rows, size, names, tuple(folder.path for folder in old))


def _one_folder(folders: Sequence[KeyFolder], digest: str) -> KeyFolder:
    found = [folder for folder in folders if len(digest) >= 4 and folder.path.name.startswith(digest[:16])]
    if len(found) != 1:
        known = ", ".join(folder.path.name for folder in folders) or "none"
        raise CacheError(f"{digest!r} names {len(found)} keys; expected one of: {known} (at least 4 digits)")
    return found[0]


def _prune_rows(folder: KeyFolder, wanted: IdSet, dry_run: bool) -> tuple[int, int]:
    try:
        base = folder.read_key().base
    except CacheLayoutError:
        return 0, 0
    rows = size = 0
    for name in folder.shard_names():
        shard = Shard(folder.path / name.text, base)
        ids = shard.read_ids()
        kept = wanted.contains(ids)
        lost = int((~kept).sum())
        rows += lost
        size += lost * (shard.card.row_bytes + 32)
        if lost and not dry_run:
            if kept.any():
                _commit(folder, shard, ids[kept], shard.mapped()[kept])
            remove_files([shard.path])
    return rows, size


def compact(root: Path, target_bytes: int = COMPACT_BYTES) -> CompactReport:
    """Join small shards of a column into shards of about `target_bytes`, and rows that lie twice into one.

    Shards of at least half the target are left alone unless a row in them lies in an earlier shard too. Needs about
    three times `target_bytes` of memory.

    Raises
    ------
    CacheBusy
        If another process is writing under a key.
    ShardDamaged
        If a shard is damaged; nothing of it is copied.
    """
    before, size_before, duplicates = 0, 0, 0
    folders = [folder for folder in KeyFolder.all(root) if folder.layout() in (None, LAYOUT_VERSION)]
    for folder in folders:
        lock = FolderLock(folder.path)
        lock.acquire(0)
        try:
            remove_files(folder.strays())
            names = folder.shard_names()
            before += len(names)
            size_before += _bytes(folder)
            if names:
                base = folder.read_key().base
                for column in dict.fromkeys(name.column for name in names):
                    shards = [Shard(folder.path / name.text, base) for name in names if name.column == column]
                    duplicates += _compact_column(folder, shards, target_bytes)
        finally:
            lock.release()
    after = sum(len(folder.shard_names()) for folder in folders)
    return CompactReport(before, after, size_before, sum(_bytes(folder) for folder in folders), duplicates)


def _compact_column(folder: KeyFolder, shards: Sequence[Shard], target_bytes: int) -> int:
    parts = [shard.read_ids() for shard in shards]
    twice = IdIndex(np.concatenate(parts)).duplicates()
    keep = np.split(~twice, np.cumsum([len(part) for part in parts])[:-1])
    group: list[int] = []
    size = 0
    for number, shard in enumerate(shards):
        small = shard.card.file_bytes < target_bytes // 2
        if not small and keep[number].all():
            continue
        other_type = bool(group) and shards[group[0]].dtype != shard.dtype
        if other_type or size + shard.card.file_bytes > target_bytes:
            _join(folder, [shards[item] for item in group], [keep[item] for item in group])
            group, size = [], 0
        group.append(number)
        size += shard.card.file_bytes
    _join(folder, [shards[item] for item in group], [keep[item] for item in group])
    return int(twice.sum())


def _join(folder: KeyFolder, shards: Sequence[Shard], keep: Sequence[npt.NDArray[np.bool_]]) -> None:
    if not shards or (len(shards) == 1 and keep[0].all()):
        return
    if any(rows.any() for rows in keep):
        ids = np.concatenate([shard.read_ids()[rows] for shard, rows in zip(shards, keep, strict=True)])
        features = np.concatenate([shard.mapped()[rows] for shard, rows in zip(shards, keep, strict=True)])
        _commit(folder, shards[0], ids, features)
    remove_files(shard.path for shard in shards)


def _commit(folder: KeyFolder, like: Shard, ids: Ids, features: npt.NDArray[Any]) -> None:
    source = ShardSource(folder.read_key().base, like.card.column, like.card.notes)
    sequence = 1 + max(name.sequence for name in folder.shard_names())
    name, data = build_shard(source, sequence, ids, features)
    commit_file(folder.path / name, data)


def _bytes(folder: KeyFolder) -> int:
    names: Iterable[str] = (name.text for name in folder.shard_names())
    return sum((folder.path / name).stat().st_size for name in names)
