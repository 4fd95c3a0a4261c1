"""A writer of one key: takes rows, commits them as immutable shards, loses at most the shard in flight.

Others may write under the key at the same time. What they commit after this writer first asked for a column is not seen
by it: rows may be computed twice, which readers do not mind and `compact` joins.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.arrays import Bool
from cache.attached import attached_path, write_attached
from cache.commit import Committer, as_stored, commit_rows
from cache.durable import FolderLock, make_folder, remove_files
from cache.errors import CacheError, CacheWriteError
from cache.folder import KeyFolder, make_root, require_layout, root_locked
from cache.header import DTYPES
from cache.ids import IdIndex, Ids, IdSet, as_ids
from cache.key import BaseKey, Column
from cache.shard import ShardSource
from cache.stored import Shard


@dataclass(frozen=True)
class WriterOptions:
    """How rows become shards.

    Attributes:
        dtype: Storage type of features: "float32" or "float16".
        shard_rows: Rows after which a shard is committed.
        shard_seconds: Seconds after which a shard is committed even if it has fewer rows.
    """

    dtype: str = "float32"
    shard_rows: int = 1024
    shard_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise CacheError(f"storage dtype {self.dtype!r} is unknown; expected one of {', '.join(DTYPES)}")
        if self.shard_rows < 1:
            raise CacheError(f"shard_rows is {self.shard_rows}; expected at least 1")


class _Pending:
    """Rows of one column that are not on disk yet; every change is one statement, so an interrupt tears nothing."""

    def __init__(self, present: IdSet) -> None:
        self.present = present
        self.parts: list[tuple[Ids, npt.NDArray[Any]]] = []

    @property
    def rows(self) -> int:
        return sum(len(ids) for ids, _ in self.parts)

    def add(self, ids: Ids, features: npt.NDArray[Any]) -> None:
        self.parts.append((ids, features))
        self.present.add(ids)

    def first(self, rows: int) -> tuple[Ids, npt.NDArray[Any]]:
        """The oldest `rows` rows, or all there are."""
        if len(self.parts) > 1:
            ids, features = zip(*self.parts, strict=True)
            self.parts = [(np.concatenate(ids), np.concatenate(features))]
        all_ids, all_features = self.parts[0]
        return all_ids[:rows], all_features[:rows]

    def drop(self, rows: int) -> None:
        ids, features = self.parts[0]
        self.parts = [(ids[rows:], features[rows:])] if len(ids) > rows else []


class Writer:
    """Appends rows under one key; made by `FeatureCache.writer` and used as a context manager.

    On leaving the block, whatever the reason, the rows already appended are committed; only a refused write is not
    tried a second time.
    """

    def __init__(
        self, root: Path, base: BaseKey, notes: Mapping[str, Any], options: WriterOptions, wait: float | None
    ) -> None:
        self.base = base
        self._root = root
        self._folder = KeyFolder.of(root, base.digest)
        self._notes = dict(notes)
        self._options = options
        self._wait = wait
        self._lock = FolderLock(self._folder.path)
        self._pending: dict[Column, _Pending] = {}
        self._sequence = 0
        self._oldest: float | None = None
        self._failed = False
        self._pid = 0

    def __enter__(self) -> Writer:
        require_layout(self._root)
        make_root(self._root)
        self._acquire()
        try:
            self._pid = os.getpid()
            remove_files(self._folder.abandoned_files())
            with root_locked(self._root):
                self._notes = dict(self._folder.prepare(self.base, self._notes).notes)
            self._sequence = 1 + max((name.sequence for name in self._folder.shard_names()), default=-1)
        except BaseException:
            self._lock.release()
            raise
        return self

    def _acquire(self) -> None:
        while True:
            make_folder(self._folder.path)
            try:
                return self._lock.acquire(self._wait, shared=True)
            except CacheWriteError:
                # The key was removed between the two calls: the folder is made again, anything else is an error.
                if self._folder.path.is_dir():
                    raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pid != os.getpid():
            return
        try:
            if not self._failed:
                self.flush()
        finally:
            self._lock.release()
            self._pid = 0

    def missing(self, ids: npt.ArrayLike, column: Column) -> Bool:
        """True where the row is neither stored nor waiting to be stored: bool (n,)."""
        return ~self._column(column).present.contains(as_ids(ids))

    def append(self, ids: npt.ArrayLike, features: Mapping[Column, npt.ArrayLike]) -> int:
        """Take rows in and commit full shards; rows already there are left out.

        Args:
            ids: Content ids, S32 (b,).
            features: One array per column, float (b, d).

        Returns:
            New rows, counted once per column.

        Raises:
            CacheError: A shape is wrong, or a value is not finite (or not in the storage type).
            CacheWriteError: The disk refuses a shard; nothing is tried again afterwards.
        """
        self._check_open()
        wanted = as_ids(ids)
        dtype = self._options.dtype
        stored = {column: as_stored(column, wanted, array, dtype) for column, array in features.items()}
        first = ~IdIndex(wanted).duplicates()
        new_rows = 0
        for column, array in stored.items():
            pending = self._column(column)
            new = first & ~pending.present.contains(wanted)
            if new.any():
                pending.add(wanted[new], array[new])
                new_rows += int(new.sum())
        if new_rows and self._oldest is None:
            self._oldest = time.monotonic()
        self._commit_full()
        return new_rows

    def committer(self) -> Committer:
        """What other processes, of other hosts too, commit rows with; this writer holds the key's lock for them."""
        self._check_open()
        return Committer(self._root.absolute(), self.base, self._notes, self._options.dtype)

    def numbers(self, count: int) -> range:
        """Numbers of shards that this writer will not use itself.

        Args:
            count: How many.
        """
        self._check_open()
        self._sequence += count
        return range(self._sequence - count, self._sequence)

    def attach_ids(self, name: str, ids: npt.ArrayLike) -> None:
        """Add content ids to a named set beside the key, at once; the key's digest does not know of it.

        Args:
            name: Lower-case letters, digits and _.
            ids: S32 (n,).

        Raises:
            CacheError: The name cannot be one.
            CacheReadError: The set that is there cannot be read.
            CacheWriteError: The disk refuses.
        """
        self._check_open()
        with root_locked(self._root):
            write_attached(attached_path(self._folder.path, name), as_ids(ids))

    def flush(self) -> None:
        """Commit every row appended so far.

        Raises:
            CacheWriteError: The disk refuses.
        """
        self._check_open()
        for column, pending in self._pending.items():
            while pending.rows:
                self._commit(column, pending)
        self._oldest = None

    def _commit_full(self) -> None:
        if self._oldest is not None and time.monotonic() - self._oldest >= self._options.shard_seconds:
            self.flush()
            return
        for column, pending in self._pending.items():
            while pending.rows >= self._options.shard_rows:
                self._commit(column, pending)
        if not any(pending.rows for pending in self._pending.values()):
            self._oldest = None

    def _commit(self, column: Column, pending: _Pending) -> None:
        ids, features = pending.first(self._options.shard_rows)
        source = ShardSource(self.base, column, self._notes)
        try:
            commit_rows(self._folder, source, self._sequence, ids, features)
        except CacheWriteError:
            self._failed = True
            raise
        # An interrupt before this line commits the same rows again under the same name: harmless.
        pending.drop(len(ids))
        self._sequence += 1

    def _column(self, column: Column) -> _Pending:
        self._check_open()
        if column not in self._pending:
            self._pending[column] = _Pending(IdSet(self._stored_ids(column)))
        return self._pending[column]

    def _stored_ids(self, column: Column) -> Ids | None:
        digest = column.digest(self.base)[:12]
        names = [name for name in self._folder.shard_names() if name.column == digest]
        parts = [Shard(self._folder.path / name.text, self.base).read_ids() for name in names]
        return np.concatenate(parts) if parts else None

    def _check_open(self) -> None:
        if self._pid == 0:
            raise CacheError("the writer is closed; use it within `with cache.writer(...) as writer:`")
        if self._pid != os.getpid():
            raise CacheError("the writer belongs to another process; open one in this process")
        if self._failed:
            raise CacheError("the writer stopped at a refused write; start again once the disk has room")
