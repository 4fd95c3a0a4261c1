"""Coverage against precision: how much of an attribute can be filled in when this share of it must be right.

The threshold is the one that the policy `precision:P` finds on these photos: that which decides the most right values
while the share of right ones among the decided reaches P, and nothing wrong on top of them. It was chosen on the photos
it is then measured on, which flatters a little; the held-out figures are of photos whose fold had no part in their
threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Bool, Float, Int64, UInt8
from pipeline.catalogue.labels import UNKNOWN, LabelSchema
from pipeline.evaluation.metrics import known_cells
from pipeline.evaluation.threshold_search import NEVER
from pipeline.evaluation.thresholds import decide, tune

FOLDS = 5


@dataclass(frozen=True)
class Coverage:
    """One attribute at one precision; None where nothing is decided or nothing can be measured.

    Attributes:
        candidate: Whose probabilities they are.
        attribute: The attribute.
        target: The share of decided values that must be right.
        photos: Photos on which the attribute is known.
        threshold: The lowest probability from which values are decided; None where no threshold keeps the promise.
        coverage: Share of these photos on which something is decided.
        precision: Share of the decided values that are right.
        held_out_coverage: `coverage` with the thresholds of other folds.
        held_out_precision: `precision` with the thresholds of other folds.
    """

    candidate: str
    attribute: str
    target: float
    photos: int
    threshold: float | None
    coverage: float | None
    precision: float | None
    held_out_coverage: float | None
    held_out_precision: float | None


def coverage(
    candidate: str,
    arrays: tuple[Float, UInt8, Bool],
    schema: LabelSchema,
    groups: Int64,
    targets: Sequence[float],
) -> tuple[Coverage, ...]:
    """How much of every attribute can be filled in, at each precision.

    A value that the schema has no column for is true where nothing else is: deciding anything there is wrong.

    Args:
        candidate: Whose probabilities they are.
        arrays: P, Y and mask, each (n, L): probabilities, targets, where the truth is known.
        schema: What the columns are.
        groups: Photos of one product share a number, (n,); a product is in one fold.
        targets: Shares above 0, at most 1.

    Returns:
        Attributes in their order, each at every target; those known on no photo are left out.
    """
    P, Y, mask = arrays
    truth = known_cells(Y, mask, schema)
    at_target = []
    for target in targets:
        policy = f"precision:{target:.17g}"
        limits = tune(P, Y, mask, schema, policy)
        held_out = _held_out(arrays, schema, groups, policy)
        at_target.append((target, limits, decide(P, schema, limits), held_out))
    return tuple(
        row
        for i in range(len(schema.attributes))
        for each in at_target
        for row in _row(candidate, i, (schema, truth), each)
    )


def _held_out(
    arrays: tuple[Float, UInt8, Bool],
    schema: LabelSchema,
    groups: Int64,
    policy: str,
) -> Bool | None:
    """Decisions (n, L) of every photo by thresholds that other folds gave; None for a single product."""
    P, Y, mask = arrays
    names, at = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return None
    folds = (np.random.default_rng(0).permutation(len(names)) % FOLDS)[at]
    D = np.zeros(P.shape, np.bool_)
    for fold in np.unique(folds):
        here, rest = folds == fold, folds != fold
        D[here] = decide(P[here], schema, tune(P[rest], Y[rest], mask[rest], schema, policy))
    return D


def _row(
    candidate: str,
    i: int,
    known_truth: tuple[LabelSchema, tuple[Bool, Bool]],
    found: tuple[float, Float, Bool, Bool | None],
) -> Iterator[Coverage]:
    schema, truth = known_truth
    columns, values = schema.slices[i], schema.values[i]
    at = [columns.start + j for j, value in enumerate(values) if value != UNKNOWN]
    true, known = (cells[:, at] for cells in truth)
    photos = int(known.any(axis=1).sum())
    if not photos:
        return
    target, limits, D, held_out = found
    limit = float(limits[at].min())
    shares = _shares(D[:, at] & known, true, photos)
    later = (None, None) if held_out is None else _shares(held_out[:, at] & known, true, photos)
    cut = limit if limit < NEVER else None
    yield Coverage(candidate, schema.attributes[i], target, photos, cut, *shares, *later)


def _shares(decided: Bool, true: Bool, photos: int) -> tuple[float, float | None]:
    """Share of the photos on which something is decided, and share of what is decided that is right."""
    count = int(decided.sum())
    return float(decided.any(axis=1).sum()) / photos, int((decided & true).sum()) / count if count else None
