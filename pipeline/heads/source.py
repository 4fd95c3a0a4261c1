"""Where training rows come from: what every source offers, arrays in memory, checks and moments of features."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pipeline.arrays import Float, Float32, Int64, UInt8
from pipeline.errors import HeadError, counted

CHUNK = 8192
"""Most rows handled at a time."""


@runtime_checkable
class FeatureSource(Protocol):
    """Features of n target rows, read in batches; `len()` is n.

    Attributes:
        dim: d, the numbers per row.
    """

    dim: int

    def __len__(self) -> int:
        """Number of target rows."""

    def batches(self, batch_size: int, seed: Sequence[int] | None) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the rows.

        Args:
            batch_size: Most rows b of a batch.
            seed: With one, every row comes once, in an order that only the seed decides; without, every row (and view)
                comes once, in a fixed order.

        Yields:
            Rows (b,) int64 and their features (b, d) float32, which belong to the caller, who may overwrite them, until
            the next batch is asked for.
        """


class ArraySource:
    """Features in memory; float32 ones that lie row after row are not copied.

    With a seed, each row shows one view drawn at random; without, all views come one after the other.
    On a GPU the array moves there whole when it takes less than half of the free memory.

    Args:
        X: (n, d), or (V, n, d) with V views of each photo.
        device: Where batches go; None is the CPU.

    Raises:
        HeadError: For other shapes, no rows, or features that are not finite.
    """

    def __init__(self, X: Float, device: torch.device | None = None) -> None:
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
        order, views = drawn(seed, self._n, self._views)
        rows = torch.from_numpy(order)
        if views is None:
            return rows, rows
        return rows, rows + self._n * torch.from_numpy(views[order].astype(np.int64))


def drawn(seed: Sequence[int], n: int, views: int) -> tuple[Int64, UInt8 | None]:
    """What one epoch shows.

    Args:
        seed: Decides everything.
        n: Rows.
        views: Views of each of them.

    Returns:
        The order of the rows (n,), and the view (n,) that each row shows; None where there is one view.
    """
    random = np.random.default_rng(list(seed))
    order = random.permutation(n)
    if views == 1:
        return order, None
    view_of = np.empty(n, np.uint8)
    view_of[order] = random.integers(views, size=n)
    return order, view_of


def check_finite(X: Float) -> None:
    """Check features (n, d).

    Raises:
        HeadError: Naming the first row that holds a NaN or an infinity.
    """
    for start in range(0, len(X), CHUNK):
        bad = ~np.isfinite(X[start : start + CHUNK]).all(axis=1)
        if bad.any():
            row = start + int(np.flatnonzero(bad)[0])
            raise HeadError(f"features must be finite, row {row} holds a NaN or an infinity; extract that photo again")


def checked_rows(rows: Float32, given: tuple[int, ...], count: int) -> Float32:
    """One row of features per row of targets, as a head without epochs takes them.

    Args:
        rows: (n, d), made of what was given.
        given: The shape of that, for the error.
        count: Rows of targets.

    Raises:
        HeadError: They are not one finite row for each.
    """
    if rows.ndim != 2 or 0 in rows.shape or len(rows) != count:
        raise HeadError(f"features of shape {given} do not fit {counted(count, 'row')} of targets")
    check_finite(rows)
    return rows


def moments(source: FeatureSource) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of all rows and views.

    Batches are merged with Chan's formula, so that a large mean does not swallow a small variance.

    Returns:
        Both (d,) float64; the deviation is 1 where a feature does not vary.

    Raises:
        HeadError: When a streamed feature is not finite.
    """
    count, mean, squares = 0, torch.zeros(source.dim, dtype=torch.float64), torch.zeros(source.dim, dtype=torch.float64)
    for _, x in source.batches(CHUNK // 4, None):
        chunk = x.double().cpu()
        own, size = chunk.mean(dim=0), len(chunk)
        delta, total = own - mean, count + size
        squares += chunk.sub_(own).square_().sum(dim=0) + delta**2 * (count * size / total)
        mean, count = mean + delta * (size / total), total
    if not bool(torch.isfinite(squares).all()):
        raise HeadError("features must be finite; a streamed chunk holds a NaN or an infinity, verify the cache")
    deviation = (squares / count).sqrt()
    return mean, torch.where(deviation > 1e-6 * mean.abs(), deviation, torch.ones_like(deviation))
