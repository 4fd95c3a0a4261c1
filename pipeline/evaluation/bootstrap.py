"""Uncertainty: figures recomputed on resampled products (groups of photos), the same resamples for every candidate.

Most figures take the central 95 % of their resamples. A mean over values cannot: a rare value drops out of every third
resample, and as rare values score low, the resampled means lie above the figure - for the majority baseline all of
them. Moving them by the figure minus their median mends that, but F1 of a rare value on few photos tends to lie below
its F1 on many, so that the truth may well lie above. The interval reported reaches from the lower of both lower ends to
the higher of both upper ends (`interval_of`): it holds its figure always, and the truth more often than either.
`benchmarks/coverage.py` measures how often.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Float, Float32, Int64, Positions
from pipeline.evaluation.metrics import PhotoSums
from pipeline.machine import memory_limit

OVERALL = (
    "accuracy",
    "key_macro_f1",
    "macro_f1",
    "micro_f1",
    "iou",
    "all_keys_right",
    "samples_f1",
    "element_accuracy",
    "log_loss",
)
"""The figures of `OverallMetrics` that get an interval; rank-based ones would need a sort per resample."""

PER_ATTRIBUTE = ("accuracy", "macro_f1", "iou")

MEANS_OVER_VALUES = frozenset({"macro_f1", "key_macro_f1"})
"""Figures that resamples without the rare values bias upwards."""

FEW_PRODUCTS = 30
"""Test products below which next to nothing is told: with no mistake among them, one in ten may still be wrong."""

MACRO_INTERVALS = (
    "Intervals of macro F1 held the truth in 93 to 100 % of simulated test sets, those of attribute F1 in 86 to 98 %,"
    " those of accuracy in 95 to 97 %; paired differences in 83 to 87 %, 89 to 90 % and 93 to 94 %"
    " (benchmarks/coverage.py)."
)
"""How far 95 % intervals can be trusted, for those who read them: the measured coverage, lowest to highest."""

RATIOS = ("known", "right", "cells", "agree", "overlap", "true", "predicted", "loss", "iou", "pair")
"""The fields of `PhotoSums` with one column per attribute."""

FRACTIONS = ("loss", "iou", "sample")
"""Sums that are no whole numbers."""

WEIGHTS, KEEP = 1 << 21, 1 << 27
"""Numbers drawn at a time, and kept at most."""


@dataclass(frozen=True)
class Resampled:
    """Figures on every resample: overall[name] (B,), attributes[name] (B, K). NaN where a resample defines none."""

    overall: dict[str, Float]
    attributes: dict[str, Float]


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of groups with replacement: deterministic in the seed, hence paired between candidates.

    Attributes:
        groups: Int (n,), which photos belong together.
        resamples: B.
    """

    groups: Int64
    resamples: int = 10_000
    seed: int = 0

    @cached_property
    def _order(self) -> tuple[Positions, Positions]:
        order = np.argsort(self.groups, kind="stable")
        ranked = self.groups[order]
        return order, np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self._order[1])

    def figures(self, sums: PhotoSums) -> Resampled:
        """Every figure of `OVERALL` and `PER_ATTRIBUTE` on every resample of these n photos."""
        grouped = self._grouped(sums)
        parts = [grouped.figures(*drawn) for drawn in self._with_positives(grouped.positives)]
        return Resampled(
            {name: np.concatenate([part.overall[name] for part in parts]) for name in OVERALL},
            {name: np.concatenate([part.attributes[name] for part in parts]) for name in PER_ATTRIBUTE},
        )

    def shares(self, part: Bool, whole: Bool) -> Float:
        """Share of `part` in `whole`, both (n, K), on every resample: (B, K), NaN where there is nothing to share."""
        parts, wholes = (self._sum(cells, np.float32) for cells in (part, whole))
        return np.concatenate([_divide(weights @ parts, weights @ wholes) for weights in self._weights()])

    def _with_positives(self, grouped: Float) -> Iterable[tuple[Float32, Float]]:
        """Weights, and the positives per value that they give.

        Positives are the same for every candidate of a comparison, so the last ones are kept.
        """
        if self.resamples * max(self.count, grouped.shape[1]) > self._most_kept:
            return ((weights, weights @ grouped) for weights in self._weights())
        name = hashlib.sha256(grouped.tobytes()).digest()
        if name not in self._last:
            self._last.clear()
            self._last[name] = [weights @ grouped for weights in self._weights()]
        return zip(self._weights(), self._last[name], strict=True)

    @cached_property
    def _last(self) -> dict[bytes, list[Float]]:
        return {}

    def _weights(self) -> Iterable[Float32]:
        """How often each group is drawn, (b, groups) at a time; kept for the next candidate while that is small."""
        return self._kept if self.resamples * self.count <= self._most_kept else self._drawn()

    @cached_property
    def _most_kept(self) -> int:
        """Numbers that may be kept twice, of 4 bytes each: a quarter of what may be held in memory at most."""
        return min(KEEP, memory_limit(None) // 32)

    @cached_property
    def _kept(self) -> tuple[Float32, ...]:
        return tuple(self._drawn())

    def _drawn(self) -> Iterator[Float32]:
        rng = np.random.default_rng(self.seed)
        step = max(1, WEIGHTS // self.count)
        for start in range(0, self.resamples, step):
            rows = min(step, self.resamples - start)
            drawn = rng.integers(0, self.count, (rows, self.count)) + np.arange(rows)[:, None] * self.count
            yield np.bincount(drawn.ravel(), minlength=rows * self.count).reshape(rows, -1).astype(np.float32)

    def _sum(self, values: npt.NDArray[np.generic], dtype: type = np.float64) -> Float:
        order, starts = self._order
        result: Float = np.add.reduceat(values[order].astype(dtype), starts, axis=0)
        return result

    def _grouped(self, sums: PhotoSums) -> _Grouped:
        some = sums.known.any(axis=1)
        both = (sums.true + sums.predicted).sum(axis=1)
        extra = {
            "some": some,
            "all_right": some & (sums.right | ~sums.known).all(axis=1),
            "sample": 2 * sums.overlap.sum(axis=1) / np.maximum(both, 1),
            "samples": both > 0,
        }
        named = {name: getattr(sums, name) for name in RATIOS} | {
            name: column[:, None] for name, column in extra.items()
        }
        scored = np.asarray((sums.tp | sums.fn).any(axis=0))
        tp, fp, fn = (self._sum(part[:, scored], np.float32) for part in (sums.tp, sums.fp, sums.fn))
        whole = {name: self._sum(part, np.float32) for name, part in named.items() if name not in FRACTIONS}
        return _Grouped(
            counts=_Wide.of({"tp": tp, "decided": tp + fp, **whole}),
            fractions=_Wide.of({name: self._sum(named[name]) for name in FRACTIONS}),
            positives=tp + fn,
            values=tuple(int(scored[columns].sum()) for columns in sums.columns),
        )


@dataclass(frozen=True)
class _Wide:
    """Named arrays (groups, w) side by side: one product over all of them costs less than many small ones."""

    names: tuple[str, ...]
    ends: tuple[int, ...]
    values: Float

    @classmethod
    def of(cls, parts: Mapping[str, Float]) -> _Wide:
        ends = np.cumsum([part.shape[1] for part in parts.values()])
        return cls(tuple(parts), tuple(int(end) for end in ends[:-1]), np.concatenate(list(parts.values()), axis=1))

    def times(self, weights: Float) -> dict[str, Float]:
        """Weighted sums (b, w) by name."""
        product = weights.astype(self.values.dtype, copy=False) @ self.values
        return dict(zip(self.names, np.split(product, self.ends, axis=1), strict=True))


@dataclass(frozen=True)
class _Grouped:
    """Per group: counts (float32, which holds them exactly), sums of fractions (float64), and positives per value.

    tp, decided and positives have a column per value that has a positive at all;

    Attributes:
        values: Their number per attribute.
    """

    counts: _Wide
    fractions: _Wide
    positives: Float
    values: tuple[int, ...]

    def figures(self, weights: Float, positives: Float) -> Resampled:
        """The figures under each row of weights (b, groups), with the positives they give (b, values)."""
        total = self.counts.times(weights) | self.fractions.times(weights)
        every = {name: column.sum(axis=1, dtype=np.float64) for name, column in total.items()}
        there = positives > 0
        f1 = np.zeros(positives.shape, np.float32)
        np.divide(2 * total["tp"], total["decided"] + positives, out=f1, where=there)
        f1_sums, there_sums = self._per_attribute(f1), self._per_attribute(there)
        accuracy = _divide(total["right"], total["known"])
        attribute_macro = _divide(f1_sums, there_sums)
        overall = {
            "accuracy": _nanmean(accuracy),
            "key_macro_f1": _nanmean(attribute_macro),
            "macro_f1": _divide(f1_sums.sum(axis=1), there_sums.sum(axis=1)),
            "micro_f1": _divide(2 * every["overlap"], every["true"] + every["predicted"]),
            "iou": _divide(every["iou"], every["pair"]),
            "all_keys_right": _divide(every["all_right"], every["some"]),
            "samples_f1": _divide(every["sample"], every["samples"]),
            "element_accuracy": _divide(every["agree"], every["cells"]),
            "log_loss": _divide(every["loss"], every["cells"]),
        }
        attributes = {"accuracy": accuracy, "macro_f1": attribute_macro, "iou": _divide(total["iou"], total["pair"])}
        return Resampled(overall, attributes)

    def _per_attribute(self, values: npt.NDArray[np.generic]) -> Float:
        """Sums (b, K) of a column per value."""
        ends = np.cumsum([0, *self.values])
        return np.stack([values[:, a:b].sum(axis=1, dtype=np.float64) for a, b in pairwise(ends)], axis=1)


def resampled_score(figures: Resampled, single: Sequence[bool]) -> Float:
    """`metrics.validation_score` on every resample, (B,).

    Args:
        single: Per attribute.
    """
    share = np.where(np.asarray(single), figures.attributes["accuracy"], figures.attributes["iou"])
    return _nanmean(_nanmean(np.stack([figures.attributes["macro_f1"], share], axis=-1)))


def interval(figures: Float) -> tuple[float, float] | None:
    """The central 95 % of resampled figures (B,); None when fewer than half of the resamples define one."""
    defined = figures[np.isfinite(figures)]
    if len(defined) * 2 < max(1, len(figures)):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def interval_of(name: str, figures: Float, estimate: float | None) -> tuple[float, float] | None:
    """The 95 % interval of one figure.

    Args:
        name: Which figure; those of `MEANS_OVER_VALUES` also reach over the resamples moved onto the estimate.
        figures: The figure on every resample, (B,).
        estimate: The figure on the photos themselves.

    Returns:
        (low, high), or None when there is no estimate, or fewer than half of the resamples define the figure.
    """
    span = None if estimate is None else interval(figures)
    if span is None or estimate is None or name not in MEANS_OVER_VALUES:
        return span
    shift = estimate - float(np.nanmedian(figures))
    return max(0.0, span[0] + min(shift, 0.0)), min(1.0, span[1] + max(shift, 0.0))


def _divide(part: Float, whole: Float) -> Float:
    out = np.full(part.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def _nanmean(values: Float) -> Float:
    """Mean over the last axis of what is not NaN; NaN where nothing is, without a warning."""
    defined = np.isfinite(values)
    return _divide(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))
