"""The reader of one key: rows by content id, in batches or mapped, every byte verified before it is returned."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cache.arrays import Bool, Int64
from cache.errors import CacheError, MissingRows
from cache.folder import KeyFolder
from cache.ids import IdIndex, Ids, as_ids, ids_to_hex
from cache.key import BaseKey, Column
from cache.shard import ShardName
from cache.stored import MappedRows, Shard

_T = TypeVar("_T")
_UNCHANGED = 3
_PATIENCE = 60.0  # seconds: one `compact` replaces many shards, and on a busy machine each reading may meet the next
_THREADS = min(4, os.cpu_count() or 1)
_THREADED_BYTES = 4 * 1024 * 1024


class _ColumnRows:
    """Shards of one column and where each id lies in them."""

    def __init__(self, column: Column, shards: Sequence[Shard]) -> None:
        self.shards = list(shards)
        self.starts = np.cumsum([0, *(shard.rows for shard in shards)])
        parts = [shard.read_ids() for shard in shards]
        self.index = IdIndex(np.concatenate(parts) if parts else np.empty(0, dtype="S32"))
        self.dtype: np.dtype[Any] = np.result_type(*(shard.dtype for shard in shards)) if parts else np.dtype("f4")
        self.column = column

    def read(self, places: Int64, out: npt.NDArray[Any]) -> None:
        """Copy the rows at `places` (positions in shard order) into `out` (n, d)."""
        steps = np.diff(places)
        run = bool(len(places) and (steps == 1).all())
        order = np.arange(len(places)) if bool((steps >= 0).all()) else np.argsort(places, kind="stable")
        ordered = places[order]
        cuts = np.searchsorted(ordered, self.starts).tolist()

        def copy(number: int) -> None:
            part = slice(cuts[number], cuts[number + 1])
            first = int(self.starts[number])
            rows = self.shards[number].mapped()
            if run:
                start = int(places[part.start]) - first
                rows.copy_run(start, start + part.stop - part.start, out[part])
            else:
                rows.copy_rows(ordered[part] - first, out, order[part])

        numbers = [number for number in range(len(self.shards)) if cuts[number] < cuts[number + 1]]
        if out.nbytes < _THREADED_BYTES or len(numbers) < 2:
            for number in numbers:
                copy(number)
            return
        # Checking and copying both leave Python's lock, so a second core hides the cost of the checksums.
        with ThreadPoolExecutor(_THREADS) as pool:
            for done in [pool.submit(copy, number) for number in numbers]:
                done.result()


class Reader:
    """A consistent view of one key: what was committed when the reader was made.

    Only what is asked for is opened; no file stays open between calls, so a reader may cross a fork or be pickled
    by making it again. Shards that were compacted away meanwhile are found again in their new place.
    """

    def __init__(self, folder: KeyFolder) -> None:
        self._folder = folder
        key_file = folder.read_key()
        self.key: BaseKey = key_file.base
        self.notes: Mapping[str, Any] = key_file.notes
        self._names = folder.shard_names()
        self._rows: dict[Column, _ColumnRows] = {}
        self.columns: tuple[Column, ...] = columns_of(folder, self.key, self._names)

    def ids(self, column: Column) -> Ids:
        """Distinct content ids of a column, in the order in which they were stored: S32 (n,)."""
        index = self._retried(lambda: self._open(column)).index
        return index.ids[~index.duplicates()]

    def contains(self, ids: npt.ArrayLike, column: Column) -> Bool:
        """True where the column holds the row: bool (n,)."""
        wanted = as_ids(ids)
        if column not in self.columns:
            return np.zeros(len(wanted), dtype=np.bool_)
        return self._retried(lambda: self._open(column)).index.find(wanted) >= 0

    def read(
        self, ids: npt.ArrayLike, columns: Sequence[Column], out_dtype: npt.DTypeLike | None = np.float32
    ) -> npt.NDArray[Any]:
        """Rows in the order of `ids`, the columns side by side.

        Args:
            ids: S32 (n,), may repeat.
            columns: Columns in the order in which they are joined.
            out_dtype: float32 unless told otherwise; None keeps the storage type.

        Returns:
            (n, sum of dims).

        Raises:
            MissingRows: The cache lacks a row; the text says how many and what to run.
            ShardDamaged: Bytes on disk are not those that were written.
            CacheReadError: A file cannot be read.
        """
        wanted = as_ids(ids)
        if not columns:
            raise CacheError("no column was asked for; name at least one block and view")
        return self._retried(lambda: self._read(wanted, columns, out_dtype))

    def _retried(self, work: Callable[[], _T]) -> _T:
        """Do `work`, again on the new set of shards when one was compacted away meanwhile."""
        until, unchanged = time.monotonic() + _PATIENCE, 0
        while unchanged <= _UNCHANGED and time.monotonic() < until:
            try:
                return work()
            except FileNotFoundError:
                names = self._folder.shard_names()
                unchanged = unchanged + 1 if names == self._names else 0
                self._names = names
                self._rows.clear()
        raise CacheError(f"{self._folder.path} changes faster than it can be read; let `cache compact` finish")

    def _read(self, ids: Ids, columns: Sequence[Column], out_dtype: npt.DTypeLike | None) -> npt.NDArray[Any]:
        opened = [self._open(column) for column in columns]
        dtype = np.dtype(out_dtype) if out_dtype is not None else np.result_type(*(rows.dtype for rows in opened))
        places = [self._find(rows, ids) for rows in opened]
        out = np.empty((len(ids), sum(column.block.dim for column in columns)), dtype)
        start = 0
        for column, rows, place in zip(columns, opened, places, strict=True):
            rows.read(place, out[:, start : start + column.block.dim])
            start += column.block.dim
        return out

    def _find(self, rows: _ColumnRows, ids: Ids) -> Int64:
        places = rows.index.find(ids)
        absent = places < 0
        if absent.any():
            count = int(absent.sum())
            first = ids_to_hex(ids[absent][:1])[0]
            raise MissingRows(
                f"{count} of {len(ids)} rows of {rows.column.name} are not in {self._folder.path} (first: {first}); "
                "run `python run.py extract` with the same options to compute them",
                count,
            )
        return places

    def batches(
        self, ids: npt.ArrayLike, columns: Sequence[Column], batch_size: int = 1024
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Rows in the order of `ids`, at most `batch_size` at a time: float32 (b, sum of dims)."""
        wanted = as_ids(ids)
        for start in range(0, len(wanted), batch_size):
            yield self.read(wanted[start : start + batch_size], columns)

    def shards(self, column: Column) -> Iterator[tuple[Ids, npt.NDArray[Any]]]:
        """Each shard's rows, of one set of shards: all are mapped before the first is given.

        Args:
            column: Block and view.

        Yields:
            Ids S32 (n,) and features (n, d), mapped without copying, in the storage type. A row that a killed
            `compact` left twice comes twice.

        Raises:
            MissingRows: There is no such column.
            ShardDamaged: Bytes on disk are not those that were written.
            CacheReadError: A file cannot be read.
        """

        def mapped() -> tuple[_ColumnRows, list[MappedRows]]:
            rows = self._open(column)
            return rows, [shard.mapped() for shard in rows.shards]

        opened, parts = self._retried(mapped)
        for start, part in zip(opened.starts, parts, strict=False):
            features = part.all()
            yield opened.index.ids[start : start + len(features)], features

    def _open(self, column: Column) -> _ColumnRows:
        if column not in self._rows:
            if column not in self.columns:
                names = ", ".join(sorted(item.name for item in self.columns)) or "none"
                raise MissingRows(
                    f"{self._folder.path} has no column {column.name} ({column.block.dim} values); it has: {names}. "
                    "Run `python run.py extract` with this block and view."
                )
            digest = column.digest(self.key)[:12]
            paths = [self._folder.path / name.text for name in self._names if name.column == digest]
            self._rows[column] = _ColumnRows(column, [Shard(path, self.key) for path in paths])
        return self._rows[column]


def columns_of(folder: KeyFolder, base: BaseKey, names: Sequence[ShardName]) -> tuple[Column, ...]:
    """Columns that have at least one shard, oldest first; each is told by the first of its shards still there."""
    columns: dict[str, Column] = {}
    for name in names:
        if name.column not in columns:
            try:
                columns[name.column] = Shard(folder.path / name.text, base).header.column
            except FileNotFoundError:
                continue
    return tuple(columns.values())
