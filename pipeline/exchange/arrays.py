"""Heads on arrays of one's own, without a catalogue and a cache: the same split, choice and figures as `fit-heads`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pandas import isna
from pandas.api.types import is_scalar

from pipeline.arrays import Bool, Float, Float32, Float64, Int64, Texts, UInt8
from pipeline.catalogue.cells import Cell, natural
from pipeline.catalogue.labels import LabelSchema
from pipeline.catalogue.splits import Split
from pipeline.catalogue.stratified import make_split
from pipeline.errors import HeadError, OptionError
from pipeline.evaluation.majority import majority_baseline
from pipeline.evaluation.metrics import evaluate
from pipeline.evaluation.thresholds import decide
from pipeline.evaluation.unseen import Unseen
from pipeline.experiment.candidates import Fit, JudgedHead, Truth, best_of, judge
from pipeline.heads import FittedHead, HeadConfig, SweepOptions, Targets, fit_many
from pipeline.model.prediction import decided_values

HEADS = (HeadConfig(head="linear"), HeadConfig(head="mlp-per-key"))
"""What is tried where nothing is said."""

Labels = Mapping[str, Sequence[str | Sequence[str] | None]]


@dataclass(frozen=True, eq=False)
class FittedArrays:
    """The best of some heads, and how good it is on rows that had no part in it.

    Attributes:
        head: Features to probabilities.
        schema: The attributes and values of its columns.
        thresholds: float64 (L,), from validation rows.
        policy: How they were chosen.
        validation: Score of each configuration on validation rows, by which this one was chosen, by its id.
        test: Figures of the test rows by name, such as accuracy and macro_f1 (`OverallMetrics`).
        majority: The same of the baseline that never looks at a row.
        parts: train, validation or test for each row, (n,).
    """

    head: FittedHead
    schema: LabelSchema
    thresholds: Float64
    policy: str
    validation: Mapping[str, float]
    test: Mapping[str, Any]
    majority: Mapping[str, Any] = field(repr=False)
    parts: Texts = field(repr=False)

    def predict_proba(self, X: Float) -> Float32:
        """Probabilities (n, L) of features (n, d), a column for each of `schema.labels`."""
        return self.head.predict_proba(X)

    def predict(self, X: Float) -> list[dict[str, str | list[str] | None]]:
        """Per row of features (n, d) its values, as `Predictor.predict` gives them."""
        return decided_values(decide(self.predict_proba(X), self.schema, self.thresholds), self.schema)


def fit_arrays(
    X: Float,
    labels: Labels,
    groups: Sequence[Any] | None = None,
    heads: Sequence[HeadConfig] = HEADS,
    seed: int = 0,
) -> FittedArrays:
    """Fit heads on features and labels, choose one on validation rows, and judge it on test rows.

    Rows are dealt 64/16/20 with every value's share equal in the parts; test rows are looked at once, for the figures
    of the one that was chosen.

    Args:
        X: Features (n, d), finite.
        labels: Per attribute an entry for each row: a value, several (which makes the attribute multi-valued), or None
            where it is unknown.
        groups: What rows must stay together, such as their product; None where each is its own.
        heads: What is tried.
        seed: Of the split.

    Returns:
        The chosen head.

    Raises:
        OptionError: The arrays do not fit together.
        CatalogueError: There are too few rows, or one group has more than a fifth of them.
        HeadError: A head cannot be fit, or every one diverged.
    """
    rows = _Rows.of(X, labels, groups, seed)
    fitted = [
        head
        for head in fit_many(list(heads), rows.side("train"), rows.side("validation"), SweepOptions())
        if not head.diverged
    ]
    if not fitted:
        raise HeadError("every head diverged; try smaller learning rates")
    truth = Truth(rows.schema, *rows.take("validation", rows.Y, rows.known, rows.groups))
    (held,) = rows.take("validation", rows.X)
    judged = [_judged(head, held, truth) for head in fitted]
    best = best_of(judged)
    P = best.head.predict_proba(*rows.take("test", rows.X))
    seen, known = rows.take("train", rows.Y, rows.known)
    return FittedArrays(
        head=best.head,
        schema=rows.schema,
        thresholds=best.thresholds,
        policy=best.chosen,
        validation={each.config_id: each.score for each in judged},
        test=rows.figures(P, decide(P, rows.schema, best.thresholds)),
        majority=rows.figures(*majority_baseline(seen, known, rows.schema).predict(len(P))),
        parts=rows.split.parts,
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    """What was given, as arrays in the order in which it was given.

    Attributes:
        schema: Of the rows that are no test rows.
        Y, known: Targets (n, L).
        unseen: What only test rows have.
    """

    X: Float32
    groups: Int64
    split: Split
    schema: LabelSchema
    Y: UInt8
    known: Bool
    unseen: Unseen

    @classmethod
    def of(cls, X: Float, labels: Labels, groups: Sequence[Any] | None, seed: int) -> _Rows:
        features = np.asarray(X, np.float32)
        cells = {name: [_cell(entry, name) for entry in entries] for name, entries in labels.items()}
        _check_lengths(features, cells, groups)
        # One after the other: a pandas column answers to the labels of its index, not to places.
        names = [str(each) for each in (range(len(features)) if groups is None else groups)]
        numbers: Int64 = np.unique(names, return_inverse=True)[1].astype(np.int64)
        every = _schema(cells, np.ones(len(features), np.bool_))
        split = make_split(numbers, *every.encode(cells), seed=seed, labels=every.column_names)
        schema = _schema(cells, split.parts != "test")
        return cls(features, numbers, split, schema, *schema.encode(cells), _unseen(cells, schema, every))

    def take(self, part: str, *arrays: Any) -> tuple[Any, ...]:
        """The rows of a part of each of these arrays."""
        at = self.split.rows(part)
        return tuple(array[at] for array in arrays)

    def side(self, part: str) -> tuple[Float32, Targets]:
        """What a fit takes of a part."""
        X, Y, known = self.take(part, self.X, self.Y, self.known)
        return X, Targets(Y, known, self.schema.slices, self.schema.single)

    def figures(self, P: Float32, D: Bool) -> Mapping[str, Any]:
        """Of probabilities and decisions of the test rows."""
        Y, known = self.take("test", self.Y, self.known)
        unseen = self.unseen.take(self.split.rows("test"))
        found: Mapping[str, Any] = evaluate(P, D, Y, known, self.schema, unseen).to_json()["overall"]
        return found


def _judged(head: FittedHead, X: Float32, truth: Truth) -> JudgedHead:
    return judge(Fit(head.config.config_id, head, (head,)), head.predict_proba(X), truth, "auto")


def _cell(entry: Any, attribute: str) -> Cell:
    if is_scalar(entry) and isna(entry):  # None, and what pandas columns have in its place
        return None
    values = (entry,) if isinstance(entry, str) else tuple(entry) if isinstance(entry, list | tuple | set) else (None,)
    if not all(isinstance(value, str) for value in values):
        raise OptionError(f"{attribute} holds {entry!r:.60}; expected a text, several in a list, or None for unknown")
    return tuple(sorted(set(values), key=natural))


def _check_lengths(X: Float32, cells: Mapping[str, Sequence[Cell]], groups: Sequence[Any] | None) -> None:
    if X.ndim != 2 or not len(X):
        raise OptionError(f"features have the shape {X.shape}; expected (rows, numbers)")
    counts = {name: len(entries) for name, entries in cells.items()}
    counts |= {} if groups is None else {"groups": len(groups)}
    for name, count in counts.items():
        if count != len(X):
            raise OptionError(f"{name} has {count} entries for {len(X)} rows of features")
    if strange := [name for name in cells if not isinstance(name, str)]:
        raise OptionError(f"{strange[0]!r:.60} names an attribute; expected a text")
    if not cells:
        raise OptionError("no labels are given; expected an attribute with an entry for each row")


def _schema(cells: Mapping[str, Sequence[Cell]], rows: Bool) -> LabelSchema:
    """What these rows show; an attribute without a known value is left out."""
    seen = {name: [cell for cell, at in zip(of, rows, strict=True) if at and cell] for name, of in cells.items()}
    kept = [name for name, of in seen.items() if of]
    if not kept:
        raise OptionError(f"no attribute has a known value ({', '.join(cells)})")
    values = tuple(tuple(sorted({value for cell in seen[name] for value in cell}, key=natural)) for name in kept)
    # Of all rows, so that the parts do not decide it.
    single = tuple(all(cell is None or len(cell) == 1 for cell in cells[name]) for name in kept)
    return LabelSchema(tuple(kept), values, single)


def _unseen(cells: Mapping[str, Sequence[Cell]], schema: LabelSchema, every: LabelSchema) -> Unseen:
    """What only test rows have, of the attributes that can be predicted."""
    labels = tuple(label for label in every.labels if label not in schema.labels and label[0] in schema.attributes)
    Y = np.array([[value in (cells[name][i] or ()) for name, value in labels] for i in range(_rows(cells))], np.bool_)
    return Unseen(labels, Y.reshape(_rows(cells), len(labels)))


def _rows(cells: Mapping[str, Sequence[Cell]]) -> int:
    return len(next(iter(cells.values())))
