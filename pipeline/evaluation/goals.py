"""What is best is the user's choice: the figure of validation photos that a configuration is chosen by (`--choose`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.arrays import Bool, Float, Int64
from pipeline.catalogue.labels import LabelSchema
from pipeline.evaluation.bootstrap import Bootstrap, resampled_score
from pipeline.evaluation.metrics import Targets, evaluate, known_cells, mean_of, photo_sums, validation_score
from pipeline.evaluation.ranking import average_precision

BALANCED = "balanced"
"""The choice where nobody asks for another, and that of every run from before there was one."""

FIGURES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "macro-f1": "macro_f1",
    "all-right": "all_keys_right",
    "iou": "iou",
    "map": "mean_average_precision",
}
"""The field of `OverallMetrics` behind each choice but `BALANCED`, which is no figure of its own."""

MEANINGS: Mapping[str, str] = {
    BALANCED: "the mean over attributes of (macro F1 + accuracy) / 2, where attributes of several values have IoU for"
    " accuracy",
    "accuracy": "attribute accuracy, the mean over attributes",
    "macro-f1": "macro F1, the mean over all values",
    "all-right": "the share of photos on which every known attribute is right",
    "iou": "the mean IoU over photos and attributes",
    "map": "mean average precision, which no threshold has a say in",
}
"""What each choice means, for those who read its scores."""

RESAMPLES = 1000
RANKED_RESAMPLES = 200
"""Of the products, for the noise between two scores; a ranking is sorted again for each."""


def score(choose: str, P: Float, D: Bool, Y: Targets, mask: Bool, schema: LabelSchema) -> float:
    """The score of probabilities P and decisions D, (n, L) each; NaN where nothing can be measured.

    Args:
        choose: One of `MEANINGS`.
        P, D, Y, mask: As in `metrics.evaluate`.
        schema: What the columns are.
    """
    if choose == BALANCED:
        return validation_score(P, D, Y, mask, schema)
    figure = getattr(evaluate(P, D, Y, mask, schema).overall, FIGURES[choose])
    return float("nan") if figure is None else float(figure)


def resampled(
    choose: str, said: Sequence[tuple[Float, Bool]], truth: tuple[Targets, Bool, Int64], schema: LabelSchema
) -> list[Float]:
    """`score` on resampled products, (B,) for each of several (P, D), the same resamples for all.

    Args:
        choose: One of `MEANINGS`.
        said: Probabilities and decisions, (n, L) each.
        truth: Targets and mask, (n, L) each, and which photos are of one product, (n,).
        schema: What the columns are.
    """
    Y, mask, groups = truth
    if choose == "map":
        true, known = known_cells(Y, mask, schema)
        return [np.array([_map(P[at], true[at], known[at]) for at in _drawn_rows(groups)]) for P, _ in said]
    resamples = Bootstrap(groups, RESAMPLES)
    found = [resamples.figures(photo_sums(None, D, Y, mask, schema)) for _, D in said]
    if choose == BALANCED:
        return [resampled_score(figures, schema.single) for figures in found]
    return [figures.overall[FIGURES[choose]] for figures in found]


def _map(P: Float, true: Bool, known: Bool) -> float:
    of_values = average_precision(P, true, known)
    mean = mean_of(float(figure) for figure in of_values[np.isfinite(of_values)])
    return float("nan") if mean is None else mean


def _drawn_rows(groups: Int64) -> Iterator[Int64]:
    names, at = np.unique(groups, return_inverse=True)
    rows = np.split(np.argsort(at, kind="stable"), np.cumsum(np.bincount(at))[:-1])
    random = np.random.default_rng(0)
    for _ in range(RANKED_RESAMPLES):
        yield np.concatenate([rows[i] for i in random.integers(len(names), size=len(names))])
