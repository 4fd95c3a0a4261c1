"""Columns of one key, or of several, read as one matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from cache.arrays import Bool
from cache.errors import CacheError
from cache.ids import Ids, as_ids
from cache.key import BaseKey, Column
from cache.reader import Reader

Strip = tuple[Reader, tuple[Column, ...]]
"""Columns of one key that stand side by side."""


class JoinedReader:
    """Strips of columns side by side; a row is one content, in all of them.

    Args:
        strips: In the order of the matrix.

    Raises:
        CacheError: There is no column.
    """

    def __init__(self, strips: Sequence[Strip]) -> None:
        self.strips = tuple((reader, tuple(columns)) for reader, columns in strips)
        if not any(columns for _, columns in self.strips):
            raise CacheError("no column was asked for; name at least one block and view")

    @property
    def keys(self) -> tuple[BaseKey, ...]:
        """The keys, each once, in the order in which they first appear."""
        return tuple(dict.fromkeys(reader.key for reader, _ in self.strips))

    @property
    def names(self) -> tuple[str, ...]:
        """Per column `block/view`; of several keys with the number of its key in front, as in `2:pooled/identity`."""
        keys = self.keys
        return tuple(
            f"{keys.index(reader.key) + 1}:{column.name}" if len(keys) > 1 else column.name
            for reader, columns in self.strips
            for column in columns
        )

    @property
    def dims(self) -> tuple[int, ...]:
        """Width of each column."""
        return tuple(column.block.dim for _, columns in self.strips for column in columns)

    @property
    def dim(self) -> int:
        """Width of the matrix."""
        return sum(self.dims)

    def contains(self, ids: npt.ArrayLike) -> Bool:
        """True where every column holds the row: bool (n,)."""
        wanted = as_ids(ids)
        have = np.ones(len(wanted), np.bool_)
        for reader, columns in self.strips:
            for column in columns:
                have &= reader.contains(wanted, column)
        return have

    def ids(self) -> Ids:
        """Content ids that every column holds, in the order in which the first one stored them: S32 (n,)."""
        reader, columns = next(strip for strip in self.strips if strip[1])
        ids = reader.ids(columns[0])
        return ids[self.contains(ids)]

    def read(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Rows in the order of `ids`: float32 (n, d). Raises as `Reader.read` does."""
        wanted = as_ids(ids)
        if len(self.strips) == 1:
            reader, columns = self.strips[0]
            return reader.read(wanted, columns)
        out, start = np.empty((len(wanted), self.dim), np.float32), 0
        for reader, columns in self.strips:
            width = sum(column.block.dim for column in columns)
            out[:, start : start + width] = reader.read(wanted, columns)
            start += width
        return out

    def batches(self, ids: npt.ArrayLike, batch_size: int = 1024) -> Iterator[npt.NDArray[np.float32]]:
        """Rows in the order of `ids`, at most `batch_size` at a time: float32 (b, d)."""
        wanted = as_ids(ids)
        for start in range(0, len(wanted), batch_size):
            yield self.read(wanted[start : start + batch_size])
