"""A real MultiOutputClassifier of logistic regression or of LightGBM, fitted column by column.

Each column is fitted on its own known rows; a column of one class becomes a constant. That is also why LightGBM is not
fitted as one multiclass model per single-valued attribute: a `MultiOutputClassifier` holds one estimator per column.
Columns run side by side on threads, each with one thread inside: both libraries release the interpreter lock, the
features are shared without a copy, and small fits do not wait for each other's inner threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.arrays import Bool, Float32, UInt8
from pipeline.heads.baselines.logistic import Standardised, logistic_path, stopped_early
from pipeline.heads.config import HeadConfig
from pipeline.heads.targets import Targets

_MAX_BIN = 63
_LEARNING_RATE = 0.05


def fit(
    configs: Sequence[HeadConfig],
    features: Float32 | Standardised,
    targets: Targets,
    threads: int,
    done: Callable[[int], None],
) -> list[tuple[dict[str, Any], int]]:
    """One member of the kind "estimator" per configuration, and how many of its fits had not converged.

    Args:
        configs: Alike but for C, in its ascending order.
        features: Of n rows, (n, d); scaled ones for logreg.
        targets: Of the n rows.
        threads: Columns fitted side by side.
        done: Told after each column that one more is fitted.
    """
    scaled = features if isinstance(features, Standardised) else None
    X, columns = features.X if isinstance(features, Standardised) else features, []
    for column in _fit_columns(configs, X, targets, threads):
        columns.append([_for_raw(estimator, scaled) for estimator in column])
        done(1)
    return [
        ({"kind": "estimator", "estimator": _wrap(config, estimators, X.shape[1])}, sum(map(stopped_early, estimators)))
        for config, *estimators in zip(configs, *columns, strict=True)
    ]


def _for_raw(estimator: Any, scaled: Standardised | None) -> Any:
    if scaled is not None and hasattr(estimator, "coef_"):
        estimator.coef_, estimator.intercept_ = scaled.for_raw(estimator.coef_, estimator.intercept_)
    return estimator


def _fit_columns(configs: Sequence[HeadConfig], X: Float32, targets: Targets, threads: int) -> Iterator[list[Any]]:
    """Fitted estimators in column order; columns of one attribute share the gathered rows of their common mask."""
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):
        for columns in targets.slices:
            for start, stop in _same_mask(targets.mask, columns):
                rows = targets.mask[:, start]
                known = X if rows.all() else X[rows]
                jobs = (delayed(_fit_column)(configs, known, targets.Y[rows, c]) for c in range(start, stop))
                yield from Parallel(threads, prefer="threads", return_as="generator")(jobs)
                del known, jobs  # before the next rows are copied


def _same_mask(mask: Bool, columns: slice) -> Iterator[tuple[int, int]]:
    """Runs of neighbouring columns that know the same rows."""
    start = columns.start
    for c in range(columns.start + 1, columns.stop + 1):
        if c == columns.stop or not np.array_equal(mask[:, c], mask[:, start]):
            yield start, c
            start = c


def _fit_column(configs: Sequence[HeadConfig], X: Float32, y: UInt8) -> list[Any]:
    """An estimator per configuration; a column of one class, or without rows, becomes a constant."""
    from sklearn.dummy import DummyClassifier

    if not len(y) or y.min() == y.max():
        constant = int(y[0]) if len(y) else 0
        dummy = DummyClassifier(strategy="constant", constant=constant)
        return [dummy.fit(np.zeros((1, 1)), np.array([constant])) for _ in configs]
    if configs[0].head == "logreg":
        return logistic_path([config.C for config in configs], X, y.astype(np.int64), configs[0].seed)
    return [_trees(config).fit(X, y.astype(np.int64)) for config in configs]


def _trees(config: HeadConfig) -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(
        n_estimators=config.trees,
        num_leaves=config.leaves,
        learning_rate=_LEARNING_RATE,
        colsample_bytree=config.feature_fraction,
        max_bin=_MAX_BIN,
        random_state=config.seed,
        n_jobs=1,
        verbose=-1,
        deterministic=True,
        force_col_wise=True,
    )


def _wrap(config: HeadConfig, estimators: list[Any], dim: int) -> Any:
    """A MultiOutputClassifier holding columns that were fitted on different rows, which its own `fit` cannot do."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multioutput import MultiOutputClassifier

    template = LogisticRegression(C=config.C) if config.head == "logreg" else _trees(config)
    whole = MultiOutputClassifier(template)
    whole.estimators_ = estimators
    whole.classes_ = [e.classes_ for e in estimators]
    whole.n_features_in_ = dim
    return whole
