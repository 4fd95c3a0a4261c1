"""The best candidate value by value, and its probabilities before and after calibration."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.catalogue.labels import UNKNOWN
from pipeline.comparison.pairs import Judged
from pipeline.comparison.records import CalibrationRow, ValueRow
from pipeline.errors import counted
from pipeline.evaluation.metrics import evaluate, known_cells
from pipeline.evaluation.ranking import average_precision
from pipeline.experiment.run_reader import Run


def value_rows(run: Run, best: Judged) -> tuple[ValueRow, ...]:
    """One row per value in schema order, then the values that only test photos have."""
    true, known = known_cells(best.Y, best.mask, best.schema)
    # A model that does not tell its counts has been shown each of its values all the same.
    trained = None if run.training_counts is None else run.training_counts[0]
    decided = best.D & known
    hits, support, chosen = ((cells.sum(axis=0)) for cells in (decided & true, true, decided))
    ranked = average_precision(best.P, true, known)
    rows = []
    for j, (attribute, value) in enumerate(best.schema.labels):
        if value == UNKNOWN:
            continue
        tp, has, says = int(hits[j]), int(support[j]), int(chosen[j])
        rows.append(
            ValueRow(
                attribute=attribute,
                value=value,
                train=0 if trained is None else int(trained[j]),
                support=has,
                decided=says,
                precision=tp / says if says else None,
                recall=tp / has if has else None,
                f1=2 * tp / (says + has) if has else None,
                average_precision=float(ranked[j]) if np.isfinite(ranked[j]) else None,
                learnable=trained is None or bool(trained[j]),
            )
        )
    return (*rows, *_unseen_rows(best))


def _unseen_rows(best: Judged) -> Iterator[ValueRow]:
    """Values that only test photos have: never decided, and with a probability of 0 everywhere."""
    photos = {row.attribute: row.photos for row in best.metrics.attributes}
    for (attribute, value), support in zip(best.unseen.labels, best.unseen.Y.sum(axis=0).tolist(), strict=True):
        measured = bool(support)
        yield ValueRow(
            attribute=attribute,
            value=value,
            train=0,
            support=support,
            decided=0,
            precision=None,
            recall=0.0 if measured else None,
            f1=0.0 if measured else None,
            average_precision=support / photos[attribute] if measured else None,
            learnable=False,
        )


def alike(best: Judged) -> tuple[str, ...]:
    """A sentence on the attributes of which all test photos have the same, so that no figure tells anything of them."""
    true, known = known_cells(best.Y, best.mask, best.schema)
    found = []
    for attribute, columns in zip(best.schema.attributes, best.schema.slices, strict=True):
        rows = known[:, columns].any(axis=1)
        labels = (*best.schema.labels[columns], *(best.unseen.labels[j] for j in best.unseen.columns(attribute)))
        cells = np.concatenate([true[:, columns], best.unseen.Y[:, best.unseen.columns(attribute)]], axis=1)[rows]
        if len(cells) and (cells == cells[0]).all():
            values = " and ".join(value for (_, value), has in zip(labels, cells[0], strict=True) if has)
            found.append(f"{attribute} (on all {counted(len(cells), 'test photo')} known: {values or 'no value'})")
    if not found:
        return ()
    return (f"Nothing can be told of {'; '.join(found)}: a figure there is no evidence that it is recognised.",)


def _method(link: str, scale: float, shift: float) -> str:
    if (scale, shift) == (1.0, 0.0):
        return "none"
    return "temperature" if link == "softmax" else "platt"


def calibration_rows(run: Run, config_id: str, best: Judged, order: np.ndarray) -> tuple[CalibrationRow, ...]:
    """One row per attribute; empty for a candidate that was not calibrated.

    Args:
        order: Of the test rows in `best`.
    """
    entry = run.decisions[config_id]
    stored = entry.get("calibration")
    if stored is None:
        return ()
    P = run.uncalibrated(config_id)
    before = None if P is None else evaluate(P[order], best.D, best.Y, best.mask, best.schema).attributes
    rows = []
    for i, (attribute, link) in enumerate(zip(best.schema.attributes, entry["links"], strict=True)):
        after, was = best.metrics.attributes[i], None if before is None else before[i]
        rows.append(
            CalibrationRow(
                attribute=attribute,
                method=_method(link, float(stored["scale"][i]), float(stored["shift"][i])),
                scale=float(stored["scale"][i]),
                shift=float(stored["shift"][i]),
                error_before=None if was is None else was.calibration_error,
                error_after=after.calibration_error,
                loss_before=None if was is None else was.log_loss,
                loss_after=after.log_loss,
            )
        )
    return tuple(rows)
