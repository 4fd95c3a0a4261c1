"""The vectors of an experiment, one kind or several side by side, read from the cache when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cache import FeatureCache, IdIndex, JoinedReader
from pipeline.arrays import Float32, Ids, Positions
from pipeline.features.selection import StoredRows
from pipeline.features.vectors.joined import JoinedFeatures
from pipeline.heads import ChunkedSource, FeatureChunk

CHUNK = 4096
"""Rows read from the cache at a time when not everything is held in memory."""

_LEAST_ROWS = 256


@dataclass(frozen=True, eq=False)
class StoredVectors:
    """What X is read from, by content ids."""

    cache: FeatureCache
    features: JoinedFeatures

    def of(self, kind: int) -> StoredVectors:
        """One kind alone, by its number from 1; 0 is all of them side by side."""
        return replace(self, features=self.features.take([kind - 1])) if kind else self

    def bytes_of(self, rows: int) -> int:
        """Most bytes in use while this many rows are read into an array.

        Where X is put together, of several views or kinds, one view more is counted: each part is read before it is put
        beside the others.
        """
        views, kinds = len(self.features.views), len(self.features.kinds)
        return 4 * self.features.dim * rows * (views + (views > 1 or kinds > 1))

    def read(self, ids: Ids) -> Float32:
        """X (n, d), or (V, n, d) with several views."""
        if len(self._readers) == 1:
            return self._readers[0].read(ids)
        out = np.empty((len(self._readers), len(ids), self.features.dim), np.float32)
        for view, reader in zip(out, self._readers, strict=True):
            view[:] = reader.read(ids)
        return out

    def read_first_view(self, ids: Ids) -> Float32:
        """X (n, d) of the first view."""
        return self._readers[0].read(ids)

    def stream(self, ids: Ids, limit: int) -> ChunkedSource:
        """X in chunks, in the order in which it was stored, through a buffer that takes half of the limit in bytes."""
        order = np.argsort(IdIndex(self._readers[0].ids()).find(ids), kind="stable")
        room = limit // (4 * self.features.dim)
        size = min(CHUNK, max(_LEAST_ROWS, room // 16))
        chunks = np.array_split(order, max(1, len(order) // size))
        return ChunkedSource([self._chunk(ids, at) for at in chunks], max(size, room // 2))

    def _chunk(self, ids: Ids, at: Positions) -> FeatureChunk:
        """The rows at some positions, to be read when their turn comes."""
        first, *others = (StoredRows(reader, ids[at]) for reader in self._readers)
        return FeatureChunk(first, np.arange(len(at)), at, tuple(others))

    @cached_property
    def _readers(self) -> tuple[JoinedReader, ...]:
        return self.features.readers(self.cache)
