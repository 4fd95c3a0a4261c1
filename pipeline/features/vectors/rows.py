"""Vectors of length 1, whether those that they are made from lie in memory or in the cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Float32, Int64, Vectors


@dataclass(frozen=True)
class UnitRows:
    """Rows scaled to length 1 when they are asked for, so that no copy of all of them is held."""

    X: Vectors

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        return self.X.shape

    def __getitem__(self, rows: slice | Int64) -> Float32:
        found = self.X[rows]
        length = np.sqrt(np.einsum("ij,ij->i", found, found))
        unit: Float32 = found / np.maximum(length, np.finfo(np.float32).tiny)[:, None]
        return unit
