"""`FeatureCache`: the one door to a cache folder."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from cache.attached import attached_path, read_attached
from cache.errors import CacheError, ShardDamaged
from cache.files import FileIndex
from cache.folder import KeyFolder, require_layout
from cache.ids import Ids
from cache.key import BaseKey, Column
from cache.reader import Reader, columns_of
from cache.upkeep import COMPACT_BYTES, CompactReport, PruneReport, compact, prune
from cache.verify import RepairReport, VerifyReport, repair, verify
from cache.writer import Writer, WriterOptions


@dataclass(frozen=True)
class KeyInfo:
    """What one key of a cache holds.

    `rows` are rows of the fullest column; `column_rows` those of each; `bytes` the size on disk;
    `created` and `modified` are times in UTC.
    """

    digest: str
    key: BaseKey
    notes: Mapping[str, Any]
    columns: tuple[Column, ...]
    column_rows: Mapping[Column, int]
    rows: int
    shards: int
    bytes: int
    created: datetime.datetime
    modified: datetime.datetime


class FeatureCache:
    """An embedding cache in a folder; nothing is created on disk until something is written.

    Examples
    --------
    >>> cache = FeatureCache(Path("features"))
    >>> with cache.writer(key) as writer:                       # doctest: +SKIP
    ...     writer.append(ids, {column: vectors})
    >>> cache.reader(key.digest).read(ids, [column])            # doctest: +SKIP
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.files = FileIndex(self.root)

    def keys(self) -> list[KeyInfo]:
        """Keys of this layout version, oldest first; folders without a readable key are left to `verify`."""
        found = []
        for folder in KeyFolder.all(self.root):
            try:
                found.append(_describe(folder))
            except CacheError:
                continue
        return sorted(found, key=lambda info: info.created)

    def writer(
        self,
        key: BaseKey,
        notes: Mapping[str, Any] | None = None,
        wait: float | None = 0,
        options: WriterOptions | None = None,
    ) -> Writer:
        """The one writer of a key; enter it with `with`.

        Parameters
        ----------
        key
            What can change a vector.
        notes
            JSON-able facts outside the digest (where the weights came from, the runtime, ...).
        wait
            Seconds to wait for another writer of the key; 0 raises `CacheBusy` at once, None waits.
        options
            Storage type and size of shards.
        """
        return Writer(self.root, key, notes or {}, options or WriterOptions(), wait)

    def reader(self, key_digest: str) -> Reader:
        """A reader of what is committed under a key now.

        Raises
        ------
        CacheLayoutError
            If the cache was made by another layout version.
        CacheError
            If there is no such key.
        """
        require_layout(self.root)
        folder = KeyFolder.of(self.root, key_digest)
        if not folder.path.is_dir():
            known = ", ".join(info.digest[:16] for info in self.keys()) or "none"
            raise CacheError(f"{self.root} has no key {key_digest[:16]}; it has: {known}. Run `python run.py extract`.")
        reader = Reader(folder)
        if reader.key.digest[: len(key_digest)] != key_digest:
            raise CacheError(f"{folder.path} holds key {reader.key.digest}, expected {key_digest}")
        return reader

    def attached_ids(self, key_digest: str, name: str) -> Ids:
        """Content ids that `Writer.attach_ids` put beside a key: S32 (n,), sorted; none if there is no such set.

        Raises
        ------
        CacheError
            If the set on disk is damaged.
        """
        return read_attached(attached_path(KeyFolder.of(self.root, key_digest).path, name))

    def verify(self, deep: bool = False) -> VerifyReport:
        """Check the cache; see `cache.verify.verify`."""
        return verify(self.root, deep)

    def repair(self, report: VerifyReport) -> RepairReport:
        """Drop what a check found bad; see `cache.verify.repair`."""
        return repair(report)

    def prune(
        self, keep: npt.ArrayLike | None = None, drop_keys: Sequence[str] = (), dry_run: bool = True
    ) -> PruneReport:
        """Remove rows no catalogue names and keys no longer wanted; see `cache.upkeep.prune`."""
        return prune(self.root, keep, drop_keys, dry_run)

    def compact(self, target_bytes: int = COMPACT_BYTES) -> CompactReport:
        """Join small shards into large ones; see `cache.upkeep.compact`."""
        return compact(self.root, target_bytes)


def _describe(folder: KeyFolder) -> KeyInfo:
    found = folder.read_key()
    names = folder.shard_names()
    try:
        columns = columns_of(folder, found.base, names)
    except ShardDamaged:
        columns = ()
    digests = {column.digest(found.base)[:12]: column for column in columns}
    rows = dict.fromkeys(columns, 0)
    size, modified = 0, found.created
    for name in names:
        if name.column in digests:
            rows[digests[name.column]] += name.rows
        try:
            status = (folder.path / name.text).stat()
        except FileNotFoundError:
            continue
        size += status.st_size
        modified = max(modified, status.st_mtime)
    return KeyInfo(
        digest=found.base.digest,
        key=found.base,
        notes=found.notes,
        columns=columns,
        column_rows=rows,
        rows=max(rows.values(), default=0),
        shards=len(names),
        bytes=size,
        created=datetime.datetime.fromtimestamp(found.created, datetime.UTC),
        modified=datetime.datetime.fromtimestamp(modified, datetime.UTC),
    )
