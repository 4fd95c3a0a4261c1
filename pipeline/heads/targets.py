"""What heads learn from: multi-hot targets, which cells are known, and how columns form attributes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Float64, Int64, UInt8
from pipeline.errors import HeadError

LEAST_SHARE = 1e-4
"""A value that is rarer counts as this rare, or its logarithm would drown every score."""


@dataclass(frozen=True)
class Targets:
    """Targets of n photos over L columns.

    Attributes:
        Y: (n, L) uint8, 1 where the photo has the value.
        mask: (n, L) bool, True where the truth is known; other cells of Y are never read.
        slices: Per attribute, its columns; together they cover 0..L in order.
        single: Per attribute, True when a photo has at most one value.

    Raises:
        HeadError: The shapes or the attributes do not fit each other.
    """

    Y: UInt8
    mask: Bool
    slices: tuple[slice, ...]
    single: tuple[bool, ...]

    def __post_init__(self) -> None:
        if self.Y.ndim != 2 or self.Y.shape != self.mask.shape:
            raise HeadError(f"targets {self.Y.shape} and mask {self.mask.shape} must both be (photos, labels)")
        if self.Y.dtype != np.uint8 or self.mask.dtype != np.bool_:
            raise HeadError(f"targets must be uint8 and the mask bool, got {self.Y.dtype} and {self.mask.dtype}")
        edges = [0, *(s.stop for s in self.slices)]
        if [s.start for s in self.slices] != edges[:-1] or edges[-1] != self.Y.shape[1]:
            raise HeadError(f"the keys' columns end at {edges[1:]}, but the targets have {self.Y.shape[1]} columns")
        if len(self.single) != len(self.slices):
            raise HeadError(f"{len(self.slices)} attributes but {len(self.single)} single-valued flags")
        if self.Y.size and int(self.Y.max()) > 1:
            raise HeadError(f"targets must be 0 or 1, found {int(self.Y.max())}")

    @classmethod
    def plain(
        cls,
        Y: npt.ArrayLike,
        mask: npt.ArrayLike | None = None,
        sizes: Sequence[int] | None = None,
        single: Sequence[bool] | None = None,
    ) -> Targets:
        """Targets from anything array-like; without `sizes` all columns form one multi-valued attribute."""
        labels = np.asarray(Y)
        if labels.ndim != 2:
            raise HeadError(f"targets must be (photos, labels), got shape {labels.shape}")
        with np.errstate(invalid="ignore"):  # a NaN is caught by the comparison that follows
            values = labels.astype(np.uint8)
        if not np.array_equal(values, labels):
            raise HeadError("targets must be 0 or 1; give unknown cells through the mask")
        given = np.ones(values.shape, np.bool_) if mask is None else np.asarray(mask, np.bool_)
        widths = list(sizes) if sizes is not None else [values.shape[1]]
        ends = [int(e) for e in np.cumsum([0, *widths])]
        slices = tuple(slice(a, b) for a, b in itertools.pairwise(ends))
        return cls(values, given, slices, tuple(single) if single is not None else (False,) * len(slices))

    def __len__(self) -> int:
        return int(self.Y.shape[0])

    @property
    def size(self) -> int:
        """L, the number of columns."""
        return int(self.Y.shape[1])

    def take(self, rows: Int64) -> Targets:
        """The same attributes on some of the photos."""
        return Targets(self.Y[rows], self.mask[rows], self.slices, self.single)

    @cached_property
    def known_counts(self) -> Float64:
        """Known cells per column, (L,)."""
        counts: Float64 = self.mask.sum(axis=0, dtype=np.float64)
        return counts

    @cached_property
    def positive_counts(self) -> Float64:
        """Known positive cells per column, (L,)."""
        counts = np.zeros(self.size)
        for start in range(0, len(self), 65_536):  # bounds the temporary on large catalogues
            rows = slice(start, start + 65_536)
            counts += (self.Y[rows].astype(bool) & self.mask[rows]).sum(axis=0)
        return counts

    @cached_property
    def shares(self) -> Float64:
        """Share of the known cells that are positive per column, (L,); 0 where none is known."""
        shares: Float64 = self.positive_counts / np.maximum(self.known_counts, 1.0)
        return shares

    def logit_adjustment(self, strength: float) -> Float64:
        """What logit adjustment takes off the logits, (L,): tau log(share) for single-valued attributes, else 0.

        Menon et al. 2021, post hoc, https://arxiv.org/abs/2007.07314.
        """
        taken = np.zeros(self.size)
        for columns, single in zip(self.slices, self.single, strict=True):
            if single:
                taken[columns] = strength * np.log(np.maximum(self.shares[columns], LEAST_SHARE))
        return taken

    @cached_property
    def not_learnable(self) -> tuple[int, ...]:
        """Columns whose known cells are all 0, all 1, or absent: nothing can be learnt about them."""
        one_class = (self.positive_counts == 0) | (self.positive_counts == self.known_counts)
        return tuple(int(i) for i in np.flatnonzero(one_class))
