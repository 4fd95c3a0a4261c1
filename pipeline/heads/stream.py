"""Features larger than memory: stored chunks, in one or several views, streamed through a buffer of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.arrays import Float, Float32, Int64, UInt8
from pipeline.errors import HeadError
from pipeline.heads.source import CHUNK, drawn


class Rows(Protocol):
    """Anything that can be indexed like an array (s, d): an array, a memory map, a reader of stored rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(s, d)."""

    def __getitem__(self, positions: Int64, /) -> Float:
        """The rows at some positions, (r, d)."""


@dataclass(frozen=True)
class FeatureChunk:
    """One stored piece of the features.

    Attributes:
        features: (s, d), any float dtype; may be memory-mapped, it is read only when its turn comes.
        positions: (r,) rows of `features` to use.
        rows: (r,) the target row of each; a stored vector may serve several rows.
        more_views: The same rows in further views.
    """

    features: Rows
    positions: Int64
    rows: Int64
    more_views: tuple[Rows, ...] = ()

    @property
    def views(self) -> tuple[Rows, ...]:
        """Every view of the rows, `features` first."""
        return self.features, *self.more_views

    def read(self, cut: slice, view_of: UInt8) -> Float32:
        """Read some of the rows; a view is read only where it is shown.

        Args:
            cut: Which of the chunk's r rows.
            view_of: The view that each of them shows.

        Returns:
            Features (rows cut, d) float32.
        """
        positions = self.positions[cut]
        if not self.more_views:
            return np.asarray(self.features[positions], np.float32)
        out = np.empty((len(positions), int(self.features.shape[1])), np.float32)
        for v, view in enumerate(self.views):
            at = np.flatnonzero(view_of == v)
            if len(at):
                out[at] = view[positions[at]]
        return out


class ChunkedSource:
    """Features streamed from chunks in a shuffled order, through a buffer of `buffer_rows` shuffled rows.

    Holds the buffer, a batch, and at most 8,192 rows of one chunk (twice, where it has several views) in memory,
    however many chunks and views there are. A row can only travel within the buffer, so the buffer should hold several
    chunks; one that holds all rows gives the very batches of `ArraySource`. The view that a row shows in an epoch is
    the same in both.

    Args:
        chunks: Their rows must be 0..n-1, each once, in as many views everywhere.
        buffer_rows: Rows of the buffer; a batch at least is held whatever it says.
        device: Where batches go; None is the CPU.

    Attributes:
        dim: d, the numbers per row.

    Raises:
        HeadError: When the chunks hold no row, miss one, or differ in their numbers or views.
    """

    def __init__(
        self, chunks: Sequence[FeatureChunk], buffer_rows: int = 16_384, device: torch.device | None = None
    ) -> None:
        used = [chunk for chunk in chunks if len(chunk.rows)]
        if not used:
            raise HeadError("no chunk holds a row of the catalogue; extract the features first")
        self._stored = used
        self._buffer_rows = buffer_rows
        self._device = device or torch.device("cpu")
        dims = {int(view.shape[1]) for chunk in used for view in chunk.views}
        if len(dims) > 1:
            raise HeadError(f"chunks hold features of different sizes: {sorted(dims)}")
        views = {len(chunk.views) for chunk in used}
        if len(views) > 1:
            raise HeadError(f"chunks hold different numbers of views: {sorted(views)}")
        self.dim, self._views = dims.pop(), views.pop()
        self._n = sum(len(chunk.rows) for chunk in used)
        in_chunk = np.zeros(self._n, np.bool_)
        for chunk in used:
            if chunk.rows.min() < 0 or chunk.rows.max() >= self._n:
                raise HeadError(f"chunk rows must lie in 0..{self._n - 1}, each once")
            in_chunk[chunk.rows] = True
        if not in_chunk.all():
            raise HeadError(f"{int((~in_chunk).sum())} of {self._n} rows are in no chunk")

    def __len__(self) -> int:
        return self._n

    def batches(self, batch_size: int, seed: Sequence[int] | None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `FeatureSource.batches`; batches run across buffers, so only the last one can be short."""
        size = max(self._buffer_rows, batch_size)
        shuffle = _InOrder() if seed is None else _Shuffle(seed, self._n, self._views, size >= self._n)
        rows, features, filled = np.empty(size, np.int64), np.empty((size, self.dim), np.float32), 0
        for chunk_rows, chunk in self._read(shuffle):
            while len(chunk_rows):
                take = min(size - filled, len(chunk_rows))
                rows[filled : filled + take], features[filled : filled + take] = chunk_rows[:take], chunk[:take]
                chunk_rows, chunk, filled = chunk_rows[take:], chunk[take:], filled + take
                if filled == size:
                    order = shuffle.order(rows[:filled])
                    whole = filled - filled % batch_size
                    yield from self._cut(rows, features, order[:whole], batch_size)
                    filled -= whole
                    rows[:filled], features[:filled] = rows[order[whole:]], features[order[whole:]]
            del chunk  # what is left of it would keep the whole piece in memory while the next one is read
        yield from self._cut(rows, features, shuffle.order(rows[:filled]), batch_size)

    def _cut(self, rows: Int64, features: Float32, order: Int64, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(order), size):
            at = order[start : start + size]
            yield torch.from_numpy(rows[at]).to(self._device), torch.from_numpy(features[at]).to(self._device)

    def _read(self, shuffle: _Shuffle | _InOrder) -> Iterator[tuple[Int64, Float32]]:
        for chunk, view in shuffle.order_of(self._stored, self._views):
            for start in range(0, len(chunk.rows), CHUNK):
                cut = slice(start, start + CHUNK)
                rows = chunk.rows[cut]
                yield rows, chunk.read(cut, shuffle.view_of(rows, view))


class _InOrder:
    """Every view of every row, view after view, in the order of the chunks."""

    def order_of(self, chunks: Sequence[FeatureChunk], views: int) -> Iterator[tuple[FeatureChunk, int]]:
        return ((chunk, view) for view in range(views) for chunk in chunks)

    def view_of(self, rows: Int64, view: int) -> UInt8:
        return np.full(len(rows), view, np.uint8)

    def order(self, rows: Int64) -> Int64:
        return np.arange(len(rows))


class _Shuffle:
    """Every row once, in the view drawn for it; chunks in a random order, rows shuffled within the buffer."""

    def __init__(self, seed: Sequence[int], n: int, views: int, holds_all: bool) -> None:
        """Shuffle n rows through a buffer that holds all of them or only some, in which case no order is kept."""
        self._random = np.random.default_rng([*seed, 1])
        self._order: Int64 | None = None
        self._views: UInt8 | None = None
        if holds_all or views > 1:
            order, self._views = drawn(seed, n, views)
            self._order = order if holds_all else None

    def order_of(self, chunks: Sequence[FeatureChunk], views: int) -> Iterator[tuple[FeatureChunk, int]]:
        return ((chunks[i], 0) for i in self._random.permutation(len(chunks)))

    def view_of(self, rows: Int64, view: int) -> UInt8:
        return np.zeros(len(rows), np.uint8) if self._views is None else self._views[rows]

    def order(self, rows: Int64) -> Int64:
        if self._order is None:
            return self._random.permutation(len(rows))
        place = np.empty(len(rows), np.int64)  # the buffer holds every row: the order of an array
        place[rows] = np.arange(len(rows))
        return place[self._order]
