"""Labels that are likely wrong, by confident learning (Northcutt, Jiang and Chuang 2021) on out-of-fold probabilities.

The method is cleanlab's: a photo counts for value j when p_j reaches the mean p_j of the photos labelled j; from these
counts follows how many labels of each value are wrong and which. A label is named when both of its pruning rules do
("both"), and ranked by its normalised margin, (p_given - largest other p + 1) / 2.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Bool, Float32, Float64, Int64, UInt8


@dataclass(frozen=True)
class DoubtfulCell:
    """One label that is likely wrong.

    Attributes:
        row: The photo's position.
        column: Of the label (its attribute and value) that is given, or missing.
        suggested: Column of the value that is more likely; None when the label is merely too much.
        score: Normalised margin, 0 (surely wrong) to 1.
        given_p, suggested_p: Probabilities of either.
        kind: Wrong (of one value per photo), extra or missing (of several).
    """

    row: int
    column: int
    suggested: int | None
    score: float
    given_p: float
    suggested_p: float
    kind: str


def supported(Y: UInt8, mask: Bool, groups: Int64, least: int) -> Bool:
    """(L,): labels that photos of at least `least` groups have; others are too rare for a judgement."""
    enough = [len(np.unique(groups[(Y[:, c] == 1) & mask[:, c]])) >= least for c in range(Y.shape[1])]
    return np.array(enough, np.bool_)


def single_issues(Y: UInt8, mask: Bool, P: Float32, columns: Int64) -> list[DoubtfulCell]:
    """Issues of an attribute of which a photo has one value.

    Args:
        Y, mask, P: (n, L) targets, known cells, out-of-fold probabilities.
        columns: Those of the attribute that are judged; rows that have none of them are passed over. Nothing is found
            among fewer than two columns.
    """
    rows = np.flatnonzero((Y[:, columns].sum(axis=1) == 1) & mask[:, columns].all(axis=1))
    if len(columns) < 2 or not len(rows):
        return []
    given = Y[np.ix_(rows, columns)].argmax(axis=1)
    p = P[np.ix_(rows, columns)].astype(np.float64) + 1e-9
    p /= p.sum(axis=1, keepdims=True)
    named, scores = _confident_learning(given, p)
    best = p.argmax(axis=1)
    return [
        DoubtfulCell(
            row=int(rows[i]),
            column=int(columns[given[i]]),
            suggested=int(columns[best[i]]),
            score=float(scores[i]),
            given_p=float(p[i, given[i]]),
            suggested_p=float(p[i, best[i]]),
            kind="wrong",
        )
        for i in np.flatnonzero(named & (best != given))
    ]


def multi_issues(Y: UInt8, mask: Bool, P: Float32, columns: Sequence[int] | Int64) -> list[DoubtfulCell]:
    """Issues of an attribute of which a photo may have several values: each column is a yes or no of its own."""
    issues = []
    for column in map(int, columns):
        rows = np.flatnonzero(mask[:, column])
        given = Y[rows, column].astype(np.int64)
        if not len(rows) or given.min() == given.max():
            continue
        yes = P[rows, column].astype(np.float64)
        named, scores = _confident_learning(given, np.stack([1 - yes, yes], axis=1))
        for i in np.flatnonzero(named & ((yes > 0.5) != (given == 1))):
            missing = given[i] == 0
            issues.append(
                DoubtfulCell(
                    row=int(rows[i]),
                    column=column,
                    suggested=column if missing else None,
                    score=float(scores[i]),
                    given_p=float(1 - yes[i] if missing else yes[i]),
                    suggested_p=float(yes[i] if missing else 1 - yes[i]),
                    kind="missing" if missing else "extra",
                )
            )
    return issues


def _confident_learning(given: Int64, p: Float64) -> tuple[Bool, Float64]:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    with warnings.catch_warnings():
        # It says that it leaves the last few photos of a rare value alone, which is meant.
        warnings.filterwarnings("ignore", "May not flag all label issues", UserWarning)
        named = find_label_issues(given, p, filter_by="both", n_jobs=1)
    return named, get_label_quality_scores(given, p, method="normalized_margin")
