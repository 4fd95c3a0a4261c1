"""The vectors of an audit: in memory where they and their copies fit, else read from the cache as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Float32, Int64, Vectors
from pipeline.experiment.cached_rows import CachedRows
from pipeline.heads import ChunkedSource

_COPIES = 4
"""Bytes in use over those of the vectors: standardising and comparing them makes copies."""

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class AuditVectors:
    """X of n photos.

    Attributes:
        rows: Whose vectors.
        limit: Bytes that they and their copies may take.
        X: All of them, float32 (n, d), where that is enough.
    """

    rows: CachedRows
    limit: int
    X: Float32 | None

    @classmethod
    def of(cls, rows: CachedRows, limit: int) -> AuditVectors:
        """The vectors of these photos, read if there is room for them."""
        fits = _COPIES * 4 * rows.features.dim * len(rows.ids) <= limit
        return cls(rows, limit, rows.read() if fits else None)

    def __len__(self) -> int:
        return len(self.rows.ids)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return len(self), self.rows.features.dim

    def __getitem__(self, at: slice | Int64) -> Float32:
        """Some of them, float32 (m, d)."""
        return self.rows.vectors.read_first_view(self.rows.ids[at]) if self.X is None else self.X[at]

    def source(self, at: Int64) -> Float32 | ChunkedSource:
        """Some of them, to be fitted on: an array, or a stream through a buffer of a quarter of the limit."""
        return self.rows.vectors.stream(self.rows.ids[at], self.limit // 2) if self.X is None else self.X[at]

    def chunks(self, at: Int64) -> Iterator[tuple[Int64, Float32]]:
        """Portions of some positions, and their vectors (m, d): all of them at once where all are in memory."""
        step = max(1, len(at)) if self.X is not None else _CHUNK
        for start in range(0, len(at), step):
            part = at[start : start + step]
            yield part, self[part]

    def looks(self) -> Vectors:
        """What near-duplicates are told by: the pooled vectors where they are used, else all that is."""
        block, width = self.rows.features.blocks[0]
        if block != "pooled":
            return self if self.X is None else self.X
        if self.X is not None:
            return self.X[:, :width]
        return self.rows.features.read_pooled(self.rows.vectors.cache, self.rows.ids, self.limit // 2)

    def some(self, most: int) -> Int64 | None:
        """Positions, ascending, of at most so many photos drawn by chance; None where all are in memory."""
        if self.X is not None:
            return None
        if len(self) <= most:
            return np.arange(len(self))
        return np.sort(np.random.default_rng(0).choice(len(self), most, replace=False))
