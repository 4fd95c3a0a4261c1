"""Candidates against each other: paired differences on the same resamples, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from pipeline.arrays import Bool, Float, Float32, Positions, UInt8
from pipeline.catalogue.labels import LabelSchema
from pipeline.comparison.records import Difference, Pair
from pipeline.evaluation.bootstrap import Bootstrap, Resampled, interval
from pipeline.evaluation.figures import Metrics
from pipeline.evaluation.metrics import evaluate, photo_sums
from pipeline.evaluation.unseen import Unseen

DIFFERENCES = ("accuracy", "key_macro_f1", "micro_f1", "iou", "all_keys_right")
DECIDING = ("accuracy", "key_macro_f1")
"""The two figures that the verdict goes by; they are what the balanced validation score is made of."""

MOST = 24
"""Candidates of which every two are compared; the verdict of each on the best is there for all of them."""

NO_DIFFERENCE = "no difference shown"
WORDS = {
    "first better": "is shown to be better than",
    "second better": "is shown to be worse than",
    NO_DIFFERENCE: "shows no difference from",
    "mixed": "is better in one figure and worse in the other than",
}
"""What a verdict says of the first, before the name of the second."""


@dataclass(frozen=True)
class Predicted:
    """What a candidate says of the test photos, and what is true of them; arrays are (n, L).

    Attributes:
        P: Probabilities, float32.
        D: Decisions.
        Y: The truth, uint8, where `mask` says that it is known.
        schema: Which columns are which attribute.
        unseen: The values that training never saw: true, and never decided.
    """

    P: Float32
    D: Bool
    Y: UInt8
    mask: Bool
    schema: LabelSchema
    unseen: Unseen


@dataclass(frozen=True)
class Judged(Predicted):
    """A candidate's predictions of the test photos, its figures, and its figures on every resample."""

    name: str
    metrics: Metrics
    figures: Resampled

    @property
    def test(self) -> tuple[Float32, UInt8, Bool]:
        """(P, Y, mask)."""
        return self.P, self.Y, self.mask


def judged(name: str, predicted: Predicted, resamples: Bootstrap) -> Judged:
    """The figures of a candidate's predictions, on the photos themselves and on every resample of them."""
    every = vars(predicted)
    return Judged(**every, name=name, metrics=evaluate(**every), figures=resamples.figures(photo_sums(**every)))


@dataclass(frozen=True)
class _Figures:
    """What a difference needs of a candidate; its arrays need not be kept."""

    attributes: tuple[str, ...]
    overall: Mapping[str, float | None]
    resampled: Mapping[str, Float]


@dataclass(frozen=True)
class PairedComparison:
    """Compares candidates by name; `judge` gives one again when it must be judged on some of its attributes only."""

    judge: Callable[[str], Judged]
    resamples: Bootstrap
    _figures_of: dict[tuple[str, tuple[str, ...] | None], _Figures] = field(default_factory=dict)

    def add(self, candidate: Judged) -> None:
        """Remember a candidate's figures."""
        self._figures_of[candidate.name, None] = _figures(candidate)

    def pair(self, first: str, second: str) -> Pair:
        """The first minus the second, on the attributes that both predict."""
        differences = self.differences(first, second)
        return Pair(first, second, differences, verdict(differences))

    def pairs(self, names: Sequence[str]) -> tuple[Pair, ...]:
        """Every two of the first `MOST` names."""
        return tuple(self.pair(first, second) for first, second in combinations(names[:MOST], 2))

    def differences(self, first: str, second: str) -> Mapping[str, Difference]:
        """Differences of the figures that both have; empty without an attribute in common."""
        mine, theirs = self._figures_of[first, None], self._figures_of[second, None]
        shared = tuple(attribute for attribute in theirs.attributes if attribute in mine.attributes)
        if not shared:
            return {}
        mine, theirs = (self._restricted(name, shared) for name in (first, second))
        differences = {}
        for name in DIFFERENCES:
            here, there = mine.overall[name], theirs.overall[name]
            span = interval(mine.resampled[name] - theirs.resampled[name])
            if here is not None and there is not None and span is not None:
                differences[name] = Difference(here - there, *span, within_noise=span[0] <= 0.0 <= span[1])
        return differences

    def _restricted(self, name: str, attributes: tuple[str, ...]) -> _Figures:
        whole = self._figures_of[name, None]
        if set(whole.attributes) == set(attributes):
            return whole
        if (name, attributes) not in self._figures_of:
            whole_again = self.judge(name)
            part = _of_attributes(whole_again, attributes)
            self._figures_of[name, attributes] = _figures(judged(name, part, self.resamples))
        return self._figures_of[name, attributes]


def verdict(differences: Mapping[str, Difference]) -> str:
    """What the paired intervals show of two candidates; see `Pair`."""
    decisive = [d for name in DECIDING if (d := differences.get(name)) is not None and not d.within_noise]
    signs = {d.value > 0 for d in decisive}
    if not decisive:
        return NO_DIFFERENCE
    return "mixed" if len(signs) > 1 else ("first better" if signs == {True} else "second better")


def subset(schema: LabelSchema, attributes: Sequence[str]) -> tuple[LabelSchema, Positions]:
    """The schema of some attributes, in the order given, and the places of their columns. The gate is left behind."""
    at = [schema.attributes.index(attribute) for attribute in attributes]
    columns = np.concatenate([np.arange(schema.slices[i].start, schema.slices[i].stop) for i in at])
    part = replace(
        schema,
        attributes=tuple(attributes),
        values=tuple(schema.values[i] for i in at),
        single=tuple(schema.single[i] for i in at),
        gate=None,
        category_attribute=None,
    )
    return part, columns.astype(np.intp)


def _of_attributes(candidate: Predicted, attributes: Sequence[str]) -> Predicted:
    schema, at = subset(candidate.schema, attributes)
    P, D, Y, mask = candidate.P[:, at], candidate.D[:, at], candidate.Y[:, at], candidate.mask[:, at]
    return Predicted(P, D, Y, mask, schema, candidate.unseen.of_attributes(attributes))


def _figures(candidate: Judged) -> _Figures:
    overall = {name: getattr(candidate.metrics.overall, name) for name in DIFFERENCES}
    return _Figures(
        candidate.schema.attributes, overall, {name: candidate.figures.overall[name] for name in DIFFERENCES}
    )
