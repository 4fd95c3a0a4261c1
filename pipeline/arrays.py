"""The types of arrays that signatures name, by what an element is; shapes and units stand in the docstrings."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
UInt8 = npt.NDArray[np.uint8]
UInt = npt.NDArray[np.unsignedinteger]
"""Whole numbers in the narrowest type that holds them."""
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float = npt.NDArray[np.floating]
"""Whatever float it comes as: callers' feature matrices, figures computed in float32 or float64."""
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]
"""Where rows or columns stand, as NumPy's searches and sorts give them."""
Texts = npt.NDArray[np.str_]
Ids = npt.NDArray[np.bytes_]
"""Content ids, 32 bytes each (`S32`); the same type as `cache.Ids`, for packages that do not know the cache."""
Pixels = UInt8
"""Photos as (n, height, width, 3), or one without n: RGB, 0 to 255."""


class Vectors(Protocol):
    """A float32 array (n, d), or rows of the cache that can be indexed like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""

    def __getitem__(self, rows: Any, /) -> Float32:
        """The rows at some positions, (r, d)."""
