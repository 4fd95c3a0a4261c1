"""A shard on disk: opened by its card, read and mapped with every checksum compared."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.durable import CLOCK_NS
from cache.ids import Ids
from cache.key import BaseKey
from cache.shard import DTYPES, ShardName, bytes_of, checksum, damaged, read_card

_VERIFIED: dict[tuple[str | int, ...], npt.NDArray[np.bool_]] = {}


class Shard:
    """A shard on disk, opened by its card: ids and checksums are verified here, features when they are first read.

    Once a process has verified a group, it is trusted until the file changes. No file stays open, so it may cross a
    fork.
    """

    def __init__(self, path: Path, base: BaseKey | None = None) -> None:
        """Read card and checksums.

        Raises
        ------
        ShardDamaged
            If the file is not what its name and card say, or belongs to another key than `base`.
        FileNotFoundError
            If it is gone, for example compacted away.
        """
        self.path = path
        name = ShardName.parse(path.name)
        if name is None:
            raise damaged(path, "its name is not a shard's")
        self.name = name
        with _opened(path) as descriptor:
            size = os.fstat(descriptor).st_size
            self.card = read_card(path, descriptor)
            self._check_card(size, base)
            self.dtype = DTYPES[self.card.dtype]
            self.dim = int(self.card.block["dim"])
            self.rows = self.card.rows
            groups = -(-self.rows // self.card.group_rows)
            sums = os.pread(descriptor, 8 * groups, self.card.checksums_at)
        if checksum(sums) != self.card.checksums_sum:
            raise damaged(path, "its checksums are damaged")
        self.sums: list[int] = np.frombuffer(sums, "<u8").tolist()

    def _check_card(self, size: int, base: BaseKey | None) -> None:
        card = self.card
        if size != card.file_bytes:
            raise damaged(self.path, f"it has {size:,} bytes, expected {card.file_bytes:,}")
        if card.rows != self.name.rows:
            raise damaged(self.path, f"its name says {self.name.rows} rows, its content {card.rows}")
        if base is not None and card.key != base.digest:
            raise damaged(self.path, f"it belongs to key {card.key[:16]}, expected {base.digest[:16]}")
        if card.column_digest[:12] != self.name.column:
            raise damaged(self.path, f"its name is not that of the column {card.column.name} it holds")

    def read_ids(self) -> Ids:
        """Content ids in row order, S32 (n,), verified."""
        with _opened(self.path) as descriptor:
            data = os.pread(descriptor, 32 * self.rows, self.card.ids_at)
        if checksum(data) != self.card.ids_sum:
            raise damaged(self.path, "its content ids are damaged")
        return np.frombuffer(data, dtype="S32")

    def mapped(self) -> npt.NDArray[Any]:
        """Features (n, d) mapped read-only without a copy, verified."""
        array, verified = self._map()
        self._verify(array, verified, np.arange(len(self.sums)))
        return array

    def read_rows(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any], where: npt.NDArray[np.int64]) -> None:
        """Copy `rows` (ascending) into `out[where]`; groups that hold a row are verified before."""
        array, verified = self._map()
        self._verify(array, verified, np.unique(rows // self.card.group_rows))
        out[where] = array[rows]

    def read_run(self, start: int, stop: int, out: npt.NDArray[Any]) -> None:
        """Copy rows `start` to `stop` into `out`; groups that hold a row are verified before."""
        array, verified = self._map()
        self._verify(array, verified, np.arange(start // self.card.group_rows, -(-stop // self.card.group_rows)))
        out[:] = array[start:stop]

    def _map(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """The features, and which groups of exactly this file, unchanged, this process has verified before."""
        with self.path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if status.st_size != self.card.file_bytes:
                raise damaged(self.path, f"it has {status.st_size:,} bytes, expected {self.card.file_bytes:,}")
            array = np.memmap(file, self.dtype, "r", self.card.features_at, (self.rows, self.dim))
        verified = np.zeros(len(self.sums), dtype=np.bool_)
        changed = max(status.st_mtime_ns, status.st_ctime_ns)
        if changed + CLOCK_NS < time.time_ns():  # else a change within one tick of the clock would not show
            stamp = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
            verified = _VERIFIED.setdefault((self.name.sha256, *stamp), verified)
        return array, verified

    def _verify(self, array: npt.NDArray[Any], verified: npt.NDArray[np.bool_], groups: npt.NDArray[np.int64]) -> None:
        view = bytes_of(array)
        # One call for the whole shard leaves Python's lock once; the groups are for parts, and to name what is damaged.
        if len(groups) == len(verified) and not verified.any() and checksum(view) == self.card.features_sum:
            verified[:] = True
            return
        step = self.card.group_rows * self.card.row_bytes
        for group in groups[~verified[groups]].tolist():
            if checksum(view[group * step : (group + 1) * step]) != self.sums[group]:
                first = group * self.card.group_rows
                last = min(first + self.card.group_rows, self.rows) - 1
                raise damaged(self.path, f"the features of rows {first}-{last} are damaged")
            verified[group] = True


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor for reading: a file object costs as much again as the system call, for every shard there is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
