"""A shard on disk: opened by its header, read and mapped with every checksum compared."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.arrays import Bool, Int64
from cache.durable import CLOCK_NS
from cache.errors import NotAFile
from cache.header import DTYPES, Checksum, checksum, damaged, read_header
from cache.ids import Ids
from cache.key import BaseKey
from cache.regular import opened
from cache.shard import ShardName, bytes_of

_PIECE_BYTES = 512 * 1024
"""Much less than a core's cache, much more than what a call in Python costs."""
_VERIFIED: dict[tuple[str | int, ...], Bool] = {}


class Shard:
    """A shard on disk, opened by its header: ids and checksums are verified here, features when they are first read.

    Once a process has verified a group, it is trusted until the file changes. No file stays open, so it may cross a
    fork.
    """

    def __init__(self, path: Path, base: BaseKey | None = None) -> None:
        """Read header and checksums.

        Args:
            path: The file.
            base: The key it must belong to; None takes any.

        Raises:
            ShardDamaged: It is not what its name and header say, or no file; `foreign` if it is of another key.
            CacheReadError: It cannot be read.
            FileNotFoundError: It is gone, for example compacted away.
        """
        self.path = path
        name = ShardName.parse(path.name)
        if name is None:
            raise damaged(path, "its name is not a shard's")
        self.name = name
        try:
            with opened(path) as descriptor:
                self.header = read_header(path, descriptor)
                self._check_header(os.fstat(descriptor).st_size, base)
                sums = os.pread(descriptor, 8 * self.header.groups, self.header.checksums_at)
        except NotAFile as error:
            raise damaged(path, f"it is not a file: {error}") from error
        self.dtype = DTYPES[self.header.dtype]
        self.dim = self.header.dim
        self.rows = self.header.rows
        if checksum(sums) != self.header.checksums_sum:
            raise damaged(path, "its checksums are damaged")
        self.sums: list[int] = np.frombuffer(sums, "<u8").tolist()

    def _check_header(self, size: int, base: BaseKey | None) -> None:
        header = self.header
        if size != header.file_bytes:
            raise damaged(self.path, f"it has {size:,} bytes, expected {header.file_bytes:,}")
        if header.rows != self.name.rows:
            raise damaged(self.path, f"its name says {self.name.rows} rows, its content {header.rows}")
        if base is not None and header.key != base.digest:
            text = f"it belongs to key {header.key[:16]}, expected {base.digest[:16]}"
            raise damaged(self.path, text, foreign=True)
        if header.column_digest[:12] != self.name.column:
            raise damaged(self.path, f"its name is not that of the column {header.column.name} it holds")

    def read_ids(self) -> Ids:
        """Content ids in row order, S32 (n,), verified."""
        with opened(self.path) as descriptor:
            data = os.pread(descriptor, 32 * self.rows, self.header.ids_at)
        if checksum(data) != self.header.ids_sum:
            raise damaged(self.path, "its content ids are damaged")
        return np.frombuffer(data, dtype="S32")

    def mapped(self) -> MappedRows:
        """The features mapped read-only without a copy; they stay readable when the file is removed.

        Raises:
            ShardDamaged: The file has another size.
            CacheReadError: It cannot be read.
            FileNotFoundError: It is gone.
        """
        with opened(self.path) as descriptor:
            status = os.fstat(descriptor)
            if status.st_size != self.header.file_bytes:
                raise damaged(self.path, f"it has {status.st_size:,} bytes, expected {self.header.file_bytes:,}")
            with open(descriptor, "rb", buffering=0, closefd=False) as file:
                array = np.memmap(file, self.dtype, "r", self.header.features_at, (self.rows, self.dim))
        verified = np.zeros(len(self.sums), dtype=np.bool_)
        changed = max(status.st_mtime_ns, status.st_ctime_ns)
        if changed + CLOCK_NS < time.time_ns():  # else a change within one tick of the clock would not show
            stamp = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
            verified = _VERIFIED.setdefault((self.name.sha256, *stamp), verified)
        return MappedRows(self, array, verified)


class MappedRows:
    """The features of one shard in memory: verified group by group before anything of them is given away."""

    def __init__(self, shard: Shard, array: npt.NDArray[Any], verified: Bool) -> None:
        self._shard = shard
        self._array = array
        self._verified = verified  # shared by all mappings of exactly this file, unchanged, in this process

    def all(self) -> npt.NDArray[Any]:
        """Every row, (n, d), not copied."""
        self._verify(np.arange(len(self._verified)))
        return self._array

    def copy_rows(self, rows: Int64, out: npt.NDArray[Any], places: Int64) -> None:
        """Copy `rows` (ascending) into `out[places]`; groups that hold a row are verified before."""
        self._verify(np.unique(rows // self._shard.header.group_rows))
        out[places] = self._array[rows]

    def copy_run(self, start: int, stop: int, out: npt.NDArray[Any]) -> None:
        """Copy rows `start` to `stop` into `out`; groups that hold a row are verified before."""
        if (start, stop) == (0, len(self._array)) and not self._verified.any() and self._copied_and_verified(out):
            return
        group_rows = self._shard.header.group_rows
        self._verify(np.arange(start // group_rows, -(-stop // group_rows)))
        out[:] = self._array[start:stop]

    def _copied_and_verified(self, out: npt.NDArray[Any]) -> bool:
        """Copy every row and sum up what is copied, piece by piece, so that each comes from memory once.

        Returns:
            Whether it was what was written; if not, `out` holds nothing of use, and `_verify` finds the place.
        """
        header, total = self._shard.header, Checksum()
        step = max(1, _PIECE_BYTES // header.row_bytes)
        for start in range(0, header.rows, step):
            piece = self._array[start : start + step]
            total.update(bytes_of(piece))
            out[start : start + step] = piece
        self._verified[:] = sound = total.value == header.features_sum
        return sound

    def _verify(self, groups: Int64) -> None:
        view, header, verified = bytes_of(self._array), self._shard.header, self._verified
        # One call for the whole shard leaves Python's lock once; the groups are for parts, and to name what is damaged.
        if len(groups) == len(verified) and not verified.any() and checksum(view) == header.features_sum:
            verified[:] = True
            return
        step = header.group_rows * header.row_bytes
        for group in groups[~verified[groups]].tolist():
            if checksum(view[group * step : (group + 1) * step]) != self._shard.sums[group]:
                first = group * header.group_rows
                last = min(first + header.group_rows, header.rows) - 1
                raise damaged(self._shard.path, f"the features of rows {first}-{last} are damaged")
            verified[group] = True
