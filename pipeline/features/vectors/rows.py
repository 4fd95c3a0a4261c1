"""Vectors as rows that can be asked for by position, whether they lie in memory or in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Float32, Int64


class Vectors(Protocol):
    """An array (n, d), or what can be indexed by rows like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""

    def __getitem__(self, rows: Any, /) -> npt.NDArray[np.float32]:
        """The rows at some positions, float32 (r, d)."""


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
