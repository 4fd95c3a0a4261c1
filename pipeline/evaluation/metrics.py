"""How good probabilities and decisions are: per attribute and overall, on known cells only.

A cell is one value on one photo. Cells whose truth is unknown count nowhere, nor does the UNKNOWN value that
`--na class` adds. What cannot be computed is None and left out of means; it is never 0. Ratios: with tp, fp, fn over
the cells in question, F1 = 2 tp / (2 tp + fp + fn). A true value that fitting never saw (`Unseen`) is a false negative
and makes its attribute wrong; only figures over cells (loss, element accuracy, calibration) are over the values that
can be decided, which many easy cells more would flatter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Float, UInt8
from pipeline.catalogue.labels import UNKNOWN, LabelSchema
from pipeline.errors import OptionError
from pipeline.evaluation.figures import AttributeMetrics, Metrics, OverallMetrics
from pipeline.evaluation.ranking import average_precision, calibration_error
from pipeline.evaluation.unseen import Unseen

Targets = UInt8 | Bool

TINY = 1e-7
"""Probabilities are clipped to [TINY, 1 - TINY] before a logarithm is taken."""

FEW = 10
"""A value with fewer known test photos than this is rare: its own F1 is little more than luck."""


@dataclass(frozen=True)
class PhotoSums:
    """What each photo adds to each figure; all figures but rank-based ones are ratios of sums of these.

    Arrays (n, K), one column per attribute: known (bool), right (bool: exactly the true values are decided), cells,
    agree, overlap, true, predicted (numbers of values), loss (nats), iou (0 where neither is present), pair (bool:
    either is present).  tp, fp, fn (n, L + U) bool: per attribute its values, then its unseen ones;

    Attributes:
        columns: Where each attribute's stand.
    """

    known: Bool
    right: Bool
    cells: Float
    agree: Float
    overlap: Float
    true: Float
    predicted: Float
    loss: Float
    iou: Float
    pair: Bool
    tp: Bool
    fp: Bool
    fn: Bool
    columns: tuple[slice, ...]


def known_cells(Y: Targets, mask: Bool, schema: LabelSchema) -> tuple[Bool, Bool]:
    """(Y, mask) as booleans with the UNKNOWN value of `--na class` turned back into masked cells."""
    mask = np.array(mask, bool)
    true = np.asarray(Y, bool)
    for columns, values in zip(schema.slices, schema.values, strict=True):
        if UNKNOWN in values:
            column = columns.start + values.index(UNKNOWN)
            mask[true[:, column], columns] = False
            mask[:, column] = False
    return true & mask, mask


def evaluate(P: Float, D: Bool, Y: Targets, mask: Bool, schema: LabelSchema, unseen: Unseen | None = None) -> Metrics:
    """All metrics of probabilities P, decisions D, targets Y and mask, all (n, L).

    Args:
        unseen: True values of these photos that the schema has no column for; none when left out.

    Raises:
        OptionError: The arrays do not fit each other.
    """
    _check_shapes(schema, P=P, D=D, Y=Y, mask=mask)
    unseen = unseen or Unseen.none(len(P))
    sums = photo_sums(P, D, Y, mask, schema, unseen)
    true, mask = known_cells(Y, mask, schema)
    ranked = unseen.beside(average_precision(P, true, mask), _unseen_precision(sums, schema, unseen), schema)
    errors = [
        calibration_error(P[:, c], true[:, c], mask[:, c], single)
        for c, single in zip(schema.slices, schema.single, strict=True)
    ]
    rows = tuple(_attribute_metrics(i, sums, ranked, errors[i], schema) for i in range(len(schema.attributes)))
    return Metrics(rows, _overall_metrics(sums, ranked, rows))


def photo_sums(
    P: Float | None, D: Bool, Y: Targets, mask: Bool, schema: LabelSchema, unseen: Unseen | None = None
) -> PhotoSums:
    """The per-photo sums behind the figures, from arrays (n, L); without P the loss is left at 0."""
    unseen = unseen or Unseen.none(len(D))
    true, mask = known_cells(Y, mask, schema)
    decided = np.asarray(D, bool) & mask

    def per_attribute(cells: npt.NDArray[Any]) -> Float:
        return np.stack([cells[:, c].sum(axis=1, dtype=np.float64) for c in schema.slices], axis=1)

    tp, fp, fn = true & decided, decided & ~true, true & ~decided
    overlap, wrong, cells = per_attribute(tp), per_attribute(fp) + per_attribute(fn), per_attribute(mask)
    missed = np.stack([unseen.Y[:, unseen.columns(name)].sum(axis=1) for name in schema.attributes], axis=1)
    union = overlap + wrong + missed
    nowhere = np.zeros_like(unseen.Y)
    return PhotoSums(
        known=cells > 0,
        right=(cells > 0) & (wrong + missed == 0),
        cells=cells,
        agree=cells - wrong,
        overlap=overlap,
        true=per_attribute(true) + missed,
        predicted=per_attribute(decided),
        loss=np.zeros_like(cells) if P is None else per_attribute(_loss(P, true, mask)),
        iou=overlap / np.maximum(union, 1.0),
        pair=union > 0,
        tp=unseen.beside(tp, nowhere, schema),
        fp=unseen.beside(fp, nowhere, schema),
        fn=unseen.beside(fn, unseen.Y, schema),
        columns=_columns(schema, unseen),
    )


def validation_score(P: Float, D: Bool, Y: Targets, mask: Bool, schema: LabelSchema) -> float:
    """What chooses a configuration and a threshold policy: mean over attributes of (macro F1 + accuracy) / 2.

    Accuracy is the attribute's accuracy (single-valued) or IoU (multi-valued). An attribute of which neither is defined
    is left out; NaN when that leaves none. Arrays are (n, L).
    """
    _check_shapes(schema, P=P, D=D, Y=Y, mask=mask)
    sums = photo_sums(None, D, Y, mask, schema)
    scores = []
    for i, columns in enumerate(sums.columns):
        share = _share(sums.right, sums.known, i) if schema.single[i] else _share(sums.iou, sums.pair, i)
        scores.append(mean_of([macro_f1(*_label_counts(sums, columns)), share]))
    score = mean_of(scores)
    return float("nan") if score is None else score


def macro_f1(tp: Float, fp: Float, fn: Float) -> float | None:
    """Mean F1 over values (w,) with at least one positive; None when there is none."""
    scored = (tp + fn) > 0
    if not scored.any():
        return None
    return float((2 * tp[scored] / (2 * tp + fp + fn)[scored]).mean())


def mean_of(figures: Iterable[float | None]) -> float | None:
    """Mean of the figures that exist; None when there is none."""
    defined = [figure for figure in figures if figure is not None]
    return float(np.mean(defined)) if defined else None


def _loss(P: Float, true: Bool, mask: Bool) -> Float:
    """Binary cross-entropy (n, L) in nats, 0 on unknown cells."""
    chance = np.clip(np.where(true, P, 1.0 - P), TINY, 1.0 - TINY)
    return np.where(mask, -np.log(chance), 0.0)


def _attribute_metrics(
    i: int, sums: PhotoSums, ranked: Float, error: float | None, schema: LabelSchema
) -> AttributeMetrics:
    columns = sums.columns[i]
    tp, fp, fn = _label_counts(sums, columns)
    photos = int(sums.known[:, i].sum())
    total = {name: float(getattr(sums, name)[:, i].sum()) for name in ("cells", "agree", "loss", "true", "predicted")}
    balanced = _mean_recall(tp, fn) if schema.single[i] else _mean_balanced(tp, fp, fn, photos)
    return AttributeMetrics(
        attribute=schema.attributes[i],
        single=schema.single[i],
        values=columns.stop - columns.start - (UNKNOWN in schema.values[i]),
        photos=photos,
        scored_values=int(((tp + fn) > 0).sum()),
        rare_values=_rare(tp + fn),
        log_loss=_ratio(total["loss"], total["cells"]),
        element_accuracy=_ratio(total["agree"], total["cells"]),
        micro_f1=_ratio(2.0 * tp.sum(), total["true"] + total["predicted"]),
        macro_f1=macro_f1(tp, fp, fn),
        samples_f1=_samples_f1(sums, slice(i, i + 1)),
        mean_average_precision=mean_of(_finite(ranked[columns])),
        accuracy=_share(sums.right, sums.known, i),
        balanced_accuracy=balanced,
        iou=_share(sums.iou, sums.pair, i),
        predicted_per_photo=_ratio(total["predicted"], photos),
        true_per_photo=_ratio(total["true"], photos),
        calibration_error=error,
    )


def _overall_metrics(sums: PhotoSums, ranked: Float, rows: tuple[AttributeMetrics, ...]) -> OverallMetrics:
    tp, fp, fn = _label_counts(sums, slice(None))
    some = sums.known.any(axis=1)
    photos = int(some.sum())
    true, predicted, cells = float(sums.true.sum()), float(sums.predicted.sum()), float(sums.cells.sum())

    def over_attributes(figure: Callable[[AttributeMetrics], float | None]) -> float | None:
        return mean_of(figure(row) for row in rows)

    return OverallMetrics(
        photos=photos,
        photos_all_known=int(sums.known.all(axis=1).sum()),
        attributes=len(rows),
        keys_scored=sum(row.photos > 0 for row in rows),
        scored_values=int(((tp + fn) > 0).sum()),
        rare_values=_rare(tp + fn),
        log_loss=_ratio(float(sums.loss.sum()), cells),
        element_accuracy=_ratio(float(sums.agree.sum()), cells),
        micro_f1=_ratio(2.0 * float(tp.sum()), true + predicted),
        macro_f1=macro_f1(tp, fp, fn),
        key_macro_f1=over_attributes(lambda row: row.macro_f1),
        samples_f1=_samples_f1(sums, slice(None)),
        mean_average_precision=mean_of(_finite(ranked)),
        accuracy=over_attributes(lambda row: row.accuracy),
        balanced_accuracy=over_attributes(lambda row: row.balanced_accuracy),
        iou=_ratio(float(sums.iou.sum()), float(sums.pair.sum())),
        all_keys_right=_ratio(float((sums.right | ~sums.known)[some].all(axis=1).sum()), photos),
        predicted_per_photo=_ratio(predicted, photos),
        true_per_photo=_ratio(true, photos),
        calibration_error=over_attributes(lambda row: row.calibration_error),
    )


def _columns(schema: LabelSchema, unseen: Unseen) -> tuple[slice, ...]:
    """Where each attribute's values, its unseen ones included, stand among the columns of `PhotoSums`."""
    widths = [
        columns.stop - columns.start + len(unseen.columns(name))
        for name, columns in zip(schema.attributes, schema.slices, strict=True)
    ]
    ends = np.cumsum([0, *widths])
    return tuple(slice(int(a), int(b)) for a, b in pairwise(ends))


def _unseen_precision(sums: PhotoSums, schema: LabelSchema, unseen: Unseen) -> Float:
    """Average precision (U,) of values whose probability is 0 on every photo: their share of the known photos."""
    known = sums.known[:, [schema.attributes.index(name) for name, _ in unseen.labels]]
    return average_precision(np.zeros(unseen.Y.shape), unseen.Y, known)


def _rare(positives: Float) -> int:
    return int(((positives > 0) & (positives < FEW)).sum())


def _label_counts(sums: PhotoSums, columns: slice) -> tuple[Float, Float, Float]:
    counts = [part[:, columns].sum(axis=0, dtype=np.float64) for part in (sums.tp, sums.fp, sums.fn)]
    return counts[0], counts[1], counts[2]


def _samples_f1(sums: PhotoSums, attributes: slice) -> float | None:
    both = sums.true[:, attributes].sum(axis=1) + sums.predicted[:, attributes].sum(axis=1)
    shares = 2.0 * sums.overlap[:, attributes].sum(axis=1)[both > 0] / both[both > 0]
    return float(shares.mean()) if len(shares) else None


def _mean_recall(tp: Float, fn: Float) -> float | None:
    scored = (tp + fn) > 0
    return float((tp[scored] / (tp + fn)[scored]).mean()) if scored.any() else None


def _mean_balanced(tp: Float, fp: Float, fn: Float, photos: int) -> float | None:
    positives, negatives = tp + fn, photos - tp - fn
    both = (positives > 0) & (negatives > 0)
    if not both.any():
        return None
    return float(((tp[both] / positives[both] + 1.0 - fp[both] / negatives[both]) / 2.0).mean())


def _share(part: npt.NDArray[Any], whole: Bool, attribute: int) -> float | None:
    return _ratio(float(part[:, attribute].sum()), float(whole[:, attribute].sum()))


def _ratio(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None


def _finite(figures: Float) -> list[float]:
    return [float(figure) for figure in figures if np.isfinite(figure)]


def _check_shapes(schema: LabelSchema, **arrays: npt.NDArray[Any]) -> None:
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or len(shapes["P"]) != 2 or shapes["P"][1] != schema.size:
        raise OptionError(f"metrics need P, D, Y and mask of one shape (n, {schema.size}), found {shapes}")
