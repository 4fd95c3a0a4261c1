"""Where training rows come from: arrays in memory (with views), or shards streamed with bounded memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.errors import HeadError

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

_CHUNK = 8192


@runtime_checkable
class FeatureSource(Protocol):
    """Features of n target rows, d numbers each, read in batches.

    `len()` is n. `batches` yields (rows (b,) int64, features (b, d) float32); with a seed every row comes once, in an
    order that only the seed decides; without one every row (and view) comes once, in a fixed order. The features
    belong to the caller, who may overwrite them, until the next batch is asked for.
    """

    dim: int

    def __len__(self) -> int:
        """Number of target rows."""

    def batches(self, batch_size: int, seed: Sequence[int] | None) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the rows."""


class ArraySource:
    """Features (n, d), or (V, n, d) with V views of each photo, in memory.

    With a seed, each row shows one view drawn at random; without, all views come one after the other.
    On a GPU the array moves there whole when it takes less than half of the free memory.
    Raises HeadError for other shapes, no rows, or features that are not finite.
    """

    def __init__(self, X: npt.NDArray[np.floating], device: torch.device | None = None) -> None:
        array = np.asarray(X)
        if array.ndim not in (2, 3) or 0 in array.shape:
            raise HeadError(f"features must be (photos, numbers) or (views, photos, numbers), got shape {array.shape}")
        self._device = device or torch.device("cpu")
        self._views = array.shape[0] if array.ndim == 3 else 1
        self._n, self.dim = int(array.shape[-2]), int(array.shape[-1])
        flat = array.reshape(-1, self.dim)
        check_finite(flat)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a read-only map is fine: the tensor is never written to
            self._flat = torch.from_numpy(np.ascontiguousarray(flat, np.float32))
        if self._device.type == "cuda" and 2 * self._flat.nbytes < torch.cuda.mem_get_info(self._device)[0]:
            self._flat = self._flat.to(self._device)

    def __len__(self) -> int:
        return self._n

    def batches(self, batch_size: int, seed: Sequence[int] | None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `FeatureSource.batches`; the features lie in one buffer that the next batch overwrites."""
        rows, flat_rows = self._order(seed)
        buffer = torch.empty((min(batch_size, len(rows)), self.dim), device=self._flat.device)
        for start in range(0, len(rows), batch_size):
            picked = flat_rows[start : start + batch_size].to(self._flat.device)
            out = torch.index_select(self._flat, 0, picked, out=buffer[: len(picked)])
            yield rows[start : start + batch_size].to(self._device), out.to(self._device)

    def _order(self, seed: Sequence[int] | None) -> tuple[Tensor, Tensor]:
        if seed is None:
            flat_rows = torch.arange(self._views * self._n)
            return flat_rows % self._n, flat_rows
        random = np.random.default_rng(list(seed))
        rows = torch.from_numpy(random.permutation(self._n))
        if self._views == 1:
            return rows, rows
        return rows, rows + self._n * torch.from_numpy(random.integers(self._views, size=self._n))


class Rows(Protocol):
    """Anything that can be indexed like an array (s, d): an array, a memory map, a reader of stored rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(s, d)."""

    def __getitem__(self, positions: Int64, /) -> npt.NDArray[np.floating]:
        """The rows at some positions, (r, d)."""


@dataclass(frozen=True)
class Shard:
    """One stored piece of the features.

    features : (s, d), any float dtype; may be memory-mapped, it is read only when its turn comes.
    positions : (r,) rows of `features` to use.
    rows : (r,) the target row of each; a stored vector may serve several rows.
    """

    features: Rows
    positions: Int64
    rows: Int64


class ShardSource:
    """Features streamed from shards in a shuffled order, through a buffer of `buffer_rows` shuffled rows.

    Holds the buffer, a batch, and one piece of a shard of at most 8,192 rows in memory, however many shards there are.
    A row can only travel within the buffer, so the buffer should hold several shards. The shards' rows must be 0..n-1,
    each once.
    """

    def __init__(self, shards: Sequence[Shard], buffer_rows: int = 16_384, device: torch.device | None = None) -> None:
        used = [s for s in shards if len(s.rows)]
        if not used:
            raise HeadError("no shard holds a row of the catalogue; extract the features first")
        self._shards = used
        self._buffer_rows = buffer_rows
        self._device = device or torch.device("cpu")
        dims = {int(s.features.shape[1]) for s in used}
        if len(dims) > 1:
            raise HeadError(f"shards hold features of different sizes: {sorted(dims)}")
        self.dim = dims.pop()
        self._n = sum(len(s.rows) for s in used)
        seen = np.zeros(self._n, np.bool_)
        for shard in used:
            if shard.rows.min() < 0 or shard.rows.max() >= self._n:
                raise HeadError(f"shard rows must lie in 0..{self._n - 1}, each once")
            seen[shard.rows] = True
        if not seen.all():
            raise HeadError(f"{int((~seen).sum())} of {self._n} rows are in no shard")

    def __len__(self) -> int:
        return self._n

    def batches(self, batch_size: int, seed: Sequence[int] | None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `FeatureSource.batches`; batches run across buffers, so only the last one can be short."""
        random = None if seed is None else np.random.default_rng(list(seed))
        size = max(self._buffer_rows, batch_size)
        rows, features, filled = np.empty(size, np.int64), np.empty((size, self.dim), np.float32), 0
        for chunk_rows, stored, positions in self._chunks(random):
            while len(chunk_rows):
                take = min(size - filled, len(chunk_rows))
                rows[filled : filled + take] = chunk_rows[:take]
                features[filled : filled + take] = stored[positions[:take]]
                chunk_rows, positions, filled = chunk_rows[take:], positions[take:], filled + take
                if filled == size:
                    order = np.arange(filled) if random is None else random.permutation(filled)
                    whole = filled - filled % batch_size
                    yield from self._cut(rows, features, order[:whole], batch_size)
                    filled -= whole
                    rows[:filled], features[:filled] = rows[order[whole:]], features[order[whole:]]
        order = np.arange(filled) if random is None else random.permutation(filled)
        yield from self._cut(rows, features, order, batch_size)

    def _cut(self, rows: Int64, features: Float32, order: Int64, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(order), size):
            at = order[start : start + size]
            yield torch.from_numpy(rows[at]).to(self._device), torch.from_numpy(features[at]).to(self._device)

    def _chunks(self, random: np.random.Generator | None) -> Iterator[tuple[Int64, Rows, Int64]]:
        order = np.arange(len(self._shards)) if random is None else random.permutation(len(self._shards))
        for shard in (self._shards[i] for i in order):
            for start in range(0, len(shard.rows), _CHUNK):
                cut = slice(start, start + _CHUNK)
                yield shard.rows[cut], shard.features, shard.positions[cut]


def check_finite(X: npt.NDArray[np.floating]) -> None:
    """Raise HeadError naming the first row of (n, d) features that holds a NaN or an infinity."""
    for start in range(0, len(X), _CHUNK):
        bad = ~np.isfinite(X[start : start + _CHUNK]).all(axis=1)
        if bad.any():
            row = start + int(np.flatnonzero(bad)[0])
            raise HeadError(f"features must be finite, row {row} holds a NaN or an infinity; extract that photo again")


def moments(source: FeatureSource) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (d,) of all rows and views, float64; 1 where a feature does not vary.

    Chunks are merged with Chan's formula, so that a large mean does not swallow a small variance.
    Raises HeadError when a streamed feature is not finite.
    """
    count, mean, squares = 0, torch.zeros(source.dim, dtype=torch.float64), torch.zeros(source.dim, dtype=torch.float64)
    for _, x in source.batches(_CHUNK // 4, None):
        chunk = x.double().cpu()
        own, size = chunk.mean(dim=0), len(chunk)
        delta, total = own - mean, count + size
        squares += ((chunk - own) ** 2).sum(dim=0) + delta**2 * (count * size / total)
        mean, count = mean + delta * (size / total), total
    if not bool(torch.isfinite(squares).all()):
        raise HeadError("features must be finite; a streamed shard holds a NaN or an infinity, verify the cache")
    deviation = (squares / count).sqrt()
    return mean, torch.where(deviation > 1e-6 * mean.abs(), deviation, torch.ones_like(deviation))
