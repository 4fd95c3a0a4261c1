"""Baselines without the library that fitted them: logistic regression as arrays, LightGBM as its own text.

Both answer as the `MultiOutputClassifier` does that they were made of, with one array of probabilities for all columns.
Nothing else is taken: an object of another kind could only be kept by a pickle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.arrays import Float, Float32, Float64
from pipeline.errors import HeadError
from pipeline.heads.baselines.trees import Trees, read_trees

CERTAIN = 64.0
"""A logit whose probability is 1 in double precision, and 0 with the other sign."""


@dataclass(frozen=True, eq=False)
class LogisticColumns:
    """A logistic regression for each column.

    Attributes:
        weights: float64 (d, L).
        bias: float64 (L,).
    """

    weights: Float64
    bias: Float64

    @property
    def n_features_in_(self) -> int:
        """d."""
        return int(self.weights.shape[0])

    def predict_proba(self, X: Float) -> Float32:
        """Probabilities of class 1, (n, L), of features (n, d)."""
        logits = X.astype(np.float64) @ self.weights + self.bias
        return ((1 + np.tanh(logits / 2)) / 2).astype(np.float32)


@dataclass(frozen=True, eq=False)
class TreeColumns:
    """Gradient boosted trees for each column.

    Attributes:
        columns: Per column LightGBM's text, or the constant 0 or 1 of a column that had one class.
        n_features_in_: d.
    """

    columns: Sequence[str | int]
    n_features_in_: int

    @cached_property
    def trees(self) -> list[Trees | int]:
        """The columns, read.

        Raises:
            ValueError: One of the texts is none that LightGBM wrote for such a column.
        """
        return [read_trees(each, self.n_features_in_) if isinstance(each, str) else each for each in self.columns]

    def predict_proba(self, X: Float) -> Float32:
        """Probabilities of class 1, (n, L), of features (n, d)."""
        P = np.empty((len(X), len(self.columns)), np.float32)
        for column, trees in enumerate(self.trees):
            P[:, column] = trees.probabilities(X) if isinstance(trees, Trees) else trees
        return P


def plain_estimator(estimator: Any) -> LogisticColumns | TreeColumns:
    """An estimator that gives the same probabilities and holds no object of another library.

    Args:
        estimator: A fitted `MultiOutputClassifier` of `pipeline.heads.baselines.columns`, or one that is plain already.

    Raises:
        HeadError: It is another one; the text names it.
    """
    if isinstance(estimator, LogisticColumns | TreeColumns):
        return estimator
    columns = list(getattr(estimator, "estimators_", ()))
    kinds = {type(each).__name__ for each in columns} - {"DummyClassifier"}
    width = int(getattr(estimator, "n_features_in_", 0))
    if columns and kinds <= {"LGBMClassifier"} and kinds:
        return _checked_trees(TreeColumns([_constant(each, _text) for each in columns], width))
    if columns and kinds <= {"LogisticRegression"}:
        return _logistic(columns, width)
    raise HeadError(
        f"only logistic regression and LightGBM can be kept without a pickle, found {type(estimator).__name__} of"
        f" {', '.join(sorted(kinds)) or 'nothing'}"
    )


def _logistic(columns: Sequence[Any], width: int) -> LogisticColumns:
    weights, bias = np.zeros((width, len(columns))), np.zeros(len(columns))
    for i, each in enumerate(columns):
        if type(each).__name__ == "DummyClassifier":
            bias[i] = CERTAIN if _constant_of(each) else -CERTAIN
        else:
            _require_binary(each)
            weights[:, i], bias[i] = each.coef_[0], each.intercept_[0]
    return LogisticColumns(weights, bias)


def _checked_trees(found: TreeColumns) -> TreeColumns:
    try:
        _ = found.trees
    except ValueError as error:
        raise HeadError(f"LightGBM's trees cannot be kept without a pickle: {error}") from error
    return found


def _constant(each: Any, otherwise: Any) -> str | int:
    return _constant_of(each) if type(each).__name__ == "DummyClassifier" else otherwise(each)


def _constant_of(dummy: Any) -> int:
    return int(list(dummy.classes_) == [1])


def _text(each: Any) -> str:
    _require_binary(each)
    # Of the best round where a fit was stopped early, as it predicts.
    return str(each.booster_.model_to_string(num_iteration=each.best_iteration_ or -1))


def _require_binary(each: Any) -> None:
    if list(each.classes_) != [0, 1]:
        raise HeadError(f"a column has the classes {list(each.classes_)}; expected 0 and 1")
