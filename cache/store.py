"""`FeatureCache`: the one door to a cache folder."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from cache.attached import attached_path, read_attached
from cache.errors import CacheError, CacheReadError, ShardDamaged
from cache.files import FileIndex
from cache.folder import KeyFolder, is_cache, require_layout
from cache.ids import Ids
from cache.key import BaseKey, Column
from cache.quarantine import quarantine
from cache.reader import Reader, columns_of
from cache.repair import RepairReport, repair
from cache.upkeep import COMPACT_BYTES, CompactReport, PruneReport, compact, prune
from cache.verify import VerifyReport, verify
from cache.writer import Writer, WriterOptions


@dataclass(frozen=True)
class KeyInfo:
    """What one key of a cache holds.

    Attributes:
        digest: Of the key, 64 hex digits.
        key: What can change a vector.
        notes: JSON-able facts outside the digest.
        columns: Blocks and views, oldest first.
        column_rows: Rows of each.
        rows: Rows of the fullest column.
        shards: Files.
        bytes: Their size on disk.
        created: When the key was first written to, UTC.
        modified: When it was last written to, UTC.
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

    Example:
        cache = FeatureCache(Path("features"))
        with cache.writer(key) as writer:
            writer.append(ids, {column: vectors})
        cache.reader(key.digest).read(ids, [column])
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.files = FileIndex(self.root)

    def is_there(self) -> bool:
        """Whether the folder is a cache, whole or damaged, and not a folder of other things or an empty one."""
        return is_cache(self.root)

    def keys(self) -> list[KeyInfo]:
        """Keys of this layout version, oldest first; folders without a readable key are left to `verify`."""
        infos = []
        for folder in KeyFolder.all(self.root):
            try:
                infos.append(_describe(folder))
            except CacheError:
                continue
        return sorted(infos, key=lambda info: info.created)

    def writer(
        self,
        key: BaseKey,
        notes: Mapping[str, Any] | None = None,
        wait: float | None = 0,
        options: WriterOptions | None = None,
    ) -> Writer:
        """A writer of a key, beside others that there may be; enter it with `with`.

        Args:
            key: What can change a vector.
            notes: JSON-able facts outside the digest (where the weights came from, the runtime, ...). They are joined
                with those that are there: a list adds its values, anything else replaces.
            wait: Seconds to wait while the key is compacted, pruned or repaired; 0 raises `CacheBusy` at once, None
                waits.
            options: Storage type and size of shards.
        """
        return Writer(self.root, key, notes or {}, options or WriterOptions(), wait)

    def reader(self, key_digest: str) -> Reader:
        """A reader of what is committed under a key now.

        Args:
            key_digest: At least the first 16 hex digits of the key's digest.

        Raises:
            CacheLayoutError: The cache was made by another layout version.
            CacheReadError: A file cannot be read.
            ShardDamaged: A shard that tells of a column is damaged.
            CacheError: There is no such key.
        """
        require_layout(self.root)
        folder = KeyFolder.of(self.root, key_digest)
        if not folder.path.is_dir():
            names = ", ".join(info.digest[:16] for info in self.keys()) or "none"
            raise CacheError(f"{self.root} has no key {key_digest[:16]}; it has: {names}. Run `python run.py extract`.")
        reader = Reader(folder)
        if reader.key.digest[: len(key_digest)] != key_digest:
            raise CacheError(f"{folder.path} holds key {reader.key.digest}, expected {key_digest}")
        return reader

    def attached_ids(self, key_digest: str, name: str) -> Ids:
        """Content ids that `Writer.attach_ids` put beside a key.

        Args:
            key_digest: Digest of the key.
            name: Name of the set.

        Returns:
            S32 (n,), sorted; none if there is no such set.

        Raises:
            CacheError: The set on disk is damaged.
            CacheReadError: It cannot be read.
        """
        return read_attached(attached_path(KeyFolder.of(self.root, key_digest).path, name))

    def verify(self, deep: bool = False) -> VerifyReport:
        """Check the cache; see `cache.verify.verify`."""
        return verify(self.root, deep)

    def repair(self, report: VerifyReport) -> RepairReport:
        """Put right what a check found; see `cache.repair.repair`."""
        return repair(self.root, report)

    def quarantine(self, path: Path) -> Path:
        """Move a file or folder of the cache that was found damaged out of the way; see `cache.quarantine`."""
        return quarantine(self.root, path)

    def prune(
        self,
        keep: npt.ArrayLike | None = None,
        drop_keys: Sequence[str] = (),
        dry_run: bool = True,
        quarantine: bool = False,
    ) -> PruneReport:
        """Remove rows no catalogue names, keys no longer wanted and the quarantine; see `cache.upkeep.prune`."""
        return prune(self.root, keep, drop_keys, dry_run, quarantine)

    def compact(self, target_bytes: int = COMPACT_BYTES) -> CompactReport:
        """Join small shards into large ones; see `cache.upkeep.compact`."""
        return compact(self.root, target_bytes)


def _describe(folder: KeyFolder) -> KeyInfo:
    key_file = folder.read_key()
    names = folder.shard_names()
    try:
        columns = columns_of(folder, key_file.base, names)
    except (ShardDamaged, CacheReadError):
        columns = ()
    digests = {column.digest(key_file.base)[:12]: column for column in columns}
    rows = dict.fromkeys(columns, 0)
    size, modified = 0, key_file.created
    for name in names:
        if name.column in digests:
            rows[digests[name.column]] += name.rows
        try:
            status = (folder.path / name.text).stat()
        except OSError:  # gone meanwhile, or not to be looked at
            continue
        size += status.st_size
        modified = max(modified, status.st_mtime)
    return KeyInfo(
        digest=key_file.base.digest,
        key=key_file.base,
        notes=key_file.notes,
        columns=columns,
        column_rows=rows,
        rows=max(rows.values(), default=0),
        shards=len(names),
        bytes=size,
        created=datetime.datetime.fromtimestamp(key_file.created, datetime.UTC),
        modified=datetime.datetime.fromtimestamp(modified, datetime.UTC),
    )
