"""What every threshold would do on the test photos: counts at 0, 0.01, ..., 1 per attribute and per value.

For looking at only. Thresholds are chosen on validation; one picked here would flatter itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Bool, Float32, Float64, Int64, UInt8
from pipeline.catalogue.labels import UNKNOWN, LabelSchema
from pipeline.evaluation.metrics import known_cells
from pipeline.evaluation.thresholds import decide
from pipeline.evaluation.unseen import Unseen

Counts = Int64

STEPS = 100
VALUES = 400
"""Values, over all attributes, that get counts of their own: those most often true."""


@dataclass(frozen=True)
class Sweep:
    """Counts of cells at each threshold i / STEPS: how many are decided, how many of those are true.

    Attributes:
        name: A value, or "" for all values of the attribute together.
        positives: True cells.
        threshold: The one in use (for an attribute None when its values have several).
    """

    name: str
    positives: int
    decided: tuple[int, ...]
    right: tuple[int, ...]
    threshold: float | None


@dataclass(frozen=True)
class AttributeSweep:
    """One attribute: photos on which it is known, its counts, those of its more frequent values, those first."""

    attribute: str
    single: bool
    photos: int
    overall: Sweep
    values: tuple[Sweep, ...]


def sweep_thresholds(
    P: Float32,
    Y: UInt8,
    mask: Bool,
    unseen: Unseen,
    schema: LabelSchema,
    thresholds: Float64,
) -> tuple[AttributeSweep, ...]:
    """Counts for every attribute known on some photo.

    What may be decided is what the decision rule would decide at threshold 0: the best value of a single-valued
    attribute, every value of a multi-valued one, nothing that the category silences.

    Args:
        P: Probabilities (n, L) of the test photos.
        Y: Their targets (n, L).
        mask: Which of these are known, (n, L).
        unseen: The values that training never saw: true, and never decided.
        schema: Which columns are which attribute.
        thresholds: Those in use, (L,).
    """
    true, known = known_cells(Y, mask, schema)
    possible = decide(P, schema, np.zeros(schema.size)) & known
    decided, right = _at_or_above(P, possible), _at_or_above(P, possible & true)
    positives = true.sum(axis=0)
    enough = np.sort(positives)[::-1][min(VALUES, len(positives)) - 1] if len(positives) else 0
    sweeps = []
    for attribute, values, columns, single in zip(
        schema.attributes, schema.values, schema.slices, schema.single, strict=True
    ):
        photos = int(known[:, columns].any(axis=1).sum())
        if not photos:
            continue
        at = [columns.start + j for j, value in enumerate(values) if value != UNKNOWN]
        limits = {float(thresholds[column]) for column in at}
        overall = Sweep(
            "",
            int(positives[at].sum() + unseen.Y[:, unseen.columns(attribute)].sum()),
            _whole(decided[:, at].sum(axis=1)),
            _whole(right[:, at].sum(axis=1)),
            limits.pop() if len(limits) == 1 else None,
        )
        frequent = [column for column in at if positives[column] >= max(1, int(enough))]
        rows = tuple(
            Sweep(
                values[column - columns.start],
                int(positives[column]),
                _whole(decided[:, column]),
                _whole(right[:, column]),
                float(thresholds[column]),
            )
            for column in sorted(frequent, key=lambda column: -int(positives[column]))
        )
        sweeps.append(AttributeSweep(attribute, single, photos, overall, rows))
    return tuple(sweeps)


def _at_or_above(P: Float32, cells: Bool) -> Counts:
    """(STEPS + 1, L): chosen cells of each column whose probability is at least i / STEPS."""
    rows, columns = np.nonzero(cells)
    # searchsorted rather than a product: 0.29 * 100 is less than 29.
    grid = np.arange(STEPS + 1) / STEPS
    step = np.searchsorted(grid, P[rows, columns].astype(np.float64), side="right") - 1
    size = P.shape[1]
    counts = np.bincount(step * size + columns, minlength=(STEPS + 1) * size).reshape(STEPS + 1, size)
    result: Counts = counts[::-1].cumsum(axis=0)[::-1]
    return result


def _whole(counts: Counts) -> tuple[int, ...]:
    return tuple(int(count) for count in counts)
