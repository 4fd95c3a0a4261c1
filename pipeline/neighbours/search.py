"""The rows nearest to a vector by cosine, found exactly, without reading every number of every row.

A row splits into its part in a few directions and the rest. The cosine with a query is the product of the first parts
plus that of the rests, and the latter is at most the product of their lengths. So a narrow copy of all rows gives an
upper limit of every cosine; rows are then compared in full, best limit first, until no limit reaches the worst cosine
kept. What is found is what a comparison with every row would find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pipeline.arrays import Bool, Float32, Float64, Int64, Vectors
from pipeline.features.near_duplicates import directions
from pipeline.machine import cores

NARROW = 128
"""Directions of the narrow copy: a tenth of the bytes of 1,280 numbers."""

FEW = 20_000
"""Up to this many rows are compared in full; the narrow copy would save nothing that can be felt."""

_BLOCK = 1 << 15
_PORTION = 1 << 13
_FIRST = 2048
_GATHER = 2048
_SLACK = 1e-5  # single-precision rounding of products of vectors of length 1
_MANY = 0.2  # above this share of the rows, one pass over all of them is cheaper than gathering


class Nearest(NamedTuple):
    """Rows and their cosines, nearest first: int64 (k,), float32 (k,)."""

    rows: Int64
    cosine: Float32


class Search:
    """Rows of vectors, ready to be searched. Safe to be used by several threads at once.

    Args:
        X: float32 (n, d), of unit length (see `to_unit`); kept, not copied.
    """

    def __init__(self, X: Float32) -> None:
        self.X = X
        self._limits = _Limits(X) if len(X) > FEW and X.shape[1] > NARROW else None

    def nearest(self, query: Float32, count: int, among: Bool | None = None) -> Nearest:
        """The rows nearest to a vector; of equally near ones the first.

        Args:
            query: float32 (d,), of unit length.
            count: At most so many.
            among: Rows that are searched, bool (n,); all when left out.
        """
        if among is not None and np.count_nonzero(among) <= FEW:
            return self._best(query, np.flatnonzero(among), count)
        if self._limits is None or count > FEW:
            return self._in_full(query, count, among)
        limit = self._limits.of(query)
        if among is not None:
            limit[~among] = -np.inf
        some = max(_FIRST, count)
        first = np.argpartition(limit, -some)[-some:]
        least = self._best(query, first, count).cosine[-1]
        left = np.flatnonzero(limit >= least)
        if len(left) > _MANY * len(limit):
            return self._in_full(query, count, among)
        return self._best(query, left, count)

    def _best(self, query: Float32, rows: Int64, count: int) -> Nearest:
        """The best of some rows, compared in full a block at a time."""
        parts = [self.X[rows[at : at + _GATHER]] @ query for at in range(0, len(rows), _GATHER)]
        return _top(rows, np.concatenate([*parts, np.zeros(0, np.float32)]), count)

    def _in_full(self, query: Float32, count: int, among: Bool | None) -> Nearest:
        cosine = np.empty(len(self.X), np.float32)
        _each_block(len(cosine), lambda at: np.matmul(self.X[at], query, out=cosine[at]))
        rows = np.arange(len(cosine)) if among is None else np.flatnonzero(among)
        return _top(rows, cosine[rows], count)


def nearest_in_one_pass(X: Vectors, Q: Float32, count: int, among: Bool | None = None) -> list[Nearest]:
    """What `Search.nearest` finds for each of some vectors, reading every row once and holding a portion of them.

    Args:
        X: Rows of unit length (n, d), in memory or not.
        Q: float32 (m, d), of unit length.
        count: At most so many of each.
        among: Rows that are searched, bool (n,); all when left out.
    """
    found = [Nearest(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in Q]
    wanted = np.arange(X.shape[0]) if among is None else np.flatnonzero(among)
    for at in range(0, len(wanted), _PORTION):
        rows = wanted[at : at + _PORTION]
        part = X[rows]
        for number, query in enumerate(Q):
            best = found[number]
            cosine = np.concatenate([best.cosine, part @ query])
            found[number] = _top(np.concatenate([best.rows, rows]), cosine, count)
    return found


class _Limits:
    """Upper limits of the cosines with rows of X, float32 (n, d), from a narrow copy of them."""

    def __init__(self, X: Float32) -> None:
        self.basis = basis = directions(X, NARROW, centred=False)
        self.narrow = np.empty((len(X), NARROW), np.float32)
        self.rest = np.empty(len(X), np.float32)

        def fold(at: slice) -> None:
            narrow = np.matmul(X[at], basis, out=self.narrow[at])
            self.rest[at] = np.sqrt(np.maximum(1 - np.einsum("ij,ij->i", narrow, narrow), 0))

        _each_block(len(X), fold)

    def of(self, query: Float32) -> Float32:
        """The limits (n,) for a vector (d,) of unit length."""
        narrow = query @ self.basis
        rest = np.float32(np.sqrt(max(0.0, 1 - float(narrow @ narrow))))
        limit = np.empty(len(self.rest), np.float32)

        def bound(at: slice) -> None:
            np.matmul(self.narrow[at], narrow, out=limit[at])
            limit[at] += self.rest[at] * rest + np.float32(_SLACK)

        _each_block(len(limit), bound)
        return limit


def to_unit(X: Float32, widths: Sequence[int]) -> Float32:
    """Rows of unit length, in place, in which every block counts the same.

    Args:
        X: float32 (n, d), blocks side by side.
        widths: Width of each block; the cosine of two rows becomes the mean of their blocks' cosines.
    """
    share = np.float32(1 / np.sqrt(len(widths)))
    ends = np.cumsum([0, *widths])
    for start in range(0, len(X), _BLOCK):
        for first, last in pairwise(ends):
            part = X[start : start + _BLOCK, first:last]
            length: Float64 | Float32 = np.sqrt(np.einsum("ij,ij->i", part, part))
            part *= (share / np.maximum(length, np.finfo(np.float32).tiny))[:, None]
    return X


def _top(rows: Int64, cosine: Float32, count: int) -> Nearest:
    if len(rows) > count:
        kept = np.flatnonzero(cosine >= np.partition(cosine, -count)[-count])
        rows, cosine = rows[kept], cosine[kept]
    order = np.lexsort((rows, -cosine))[:count]
    return Nearest(rows[order], cosine[order])


def _each_block(rows: int, work: Callable[[slice], object]) -> None:
    """Do something for every block of rows, on all cores: products leave Python's lock."""
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(work, _blocks(rows)))


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(at, min(at + _BLOCK, rows)) for at in range(0, rows, _BLOCK))
