"""What says the same is shown once: figures that are equal for all candidates, policies that come to one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.comparison.records import Candidate, Comparison, PolicyRow
from pipeline.comparison.table import decimal

FIRST = ("accuracy", "attribute accuracy")
FIGURES: Mapping[str, str] = {
    "key_macro_f1": "attribute F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "mean_average_precision": "mAP",
    "iou": "IoU",
    "all_keys_right": "all right",
}
"""Columns of the candidates after `FIRST`: field of `OverallMetrics`, head."""

OF_POLICY = ("accuracy", "key_macro_f1", "micro_f1", "iou", "all_keys_right", "predicted_per_photo", "true_per_photo")


@dataclass(frozen=True)
class Policies:
    """Threshold policies with one result: their names, and the cells of the row."""

    names: Sequence[str]
    chosen: bool
    figures: Sequence[str]


def prepare(comparison: Comparison) -> dict[str, object]:
    """What the templates name: columns to show, those that equal another, and rows of policies."""
    same = _same((*comparison.candidates, comparison.majority))
    best = comparison.best_candidate.metrics.attributes
    return {
        "same": same,
        "once": [(head, figure) for figure, head in FIGURES.items() if figure not in same],
        "iou_differs": any(decimal(row.iou) != decimal(row.accuracy) for row in best),
        "policies": _joined(comparison.policies),
    }


def _same(candidates: Sequence[Candidate]) -> dict[str, tuple[str, str]]:
    """Figure -> its head and that of an earlier one which is equal, in three decimals, for every candidate.

    With one value per photo IoU, micro F1 and accuracy are one thing, and with one attribute so are the means over
    attributes, values and photos.
    """
    shown = {_column(FIRST[0], candidates): FIRST[1]}
    same = {}
    for figure, head in FIGURES.items():
        column = _column(figure, candidates)
        if column in shown:
            same[figure] = (head, shown[column])
        else:
            shown[column] = head
    return same


def _column(figure: str, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    return tuple(decimal(getattr(each.metrics.overall, figure)) for each in candidates)


def _joined(rows: Sequence[PolicyRow]) -> list[Policies]:
    alike: dict[tuple[str, ...], list[PolicyRow]] = {}
    for row in rows:
        figures = (row.validation_score, *(getattr(row.metrics.overall, name) for name in OF_POLICY))
        alike.setdefault(tuple(decimal(figure) for figure in figures), []).append(row)
    return [
        Policies([row.policy for row in same], any(row.chosen for row in same), figures)
        for figures, same in alike.items()
    ]
