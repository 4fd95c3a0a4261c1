"""Multinomial logistic regression: one model per single-valued attribute, one per value of the others.

scikit-learn's LogisticRegression, whose coefficients become one dense layer, so that a model file needs no
scikit-learn. A single-valued attribute's values compete in a softmax, fitted on the rows that are known to have one of
them; of other attributes each value is fitted alone, on its known rows. What training never shows is not given up for
certain: its logit is that of half a photo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.arrays import Bool, Float64, Int64
from pipeline.heads.baselines.logistic import Standardised, logistic_path, stopped_early
from pipeline.heads.config import HeadConfig
from pipeline.heads.targets import Targets

_HALF = 0.5


def fit(
    configs: Sequence[HeadConfig],
    features: Standardised,
    targets: Targets,
    threads: int,
    done: Callable[[int], None],
) -> list[tuple[dict[str, Any], int]]:
    """One member of the kind "dense" per configuration, and how many of its fits had not converged.

    See `columns.fit` for the arguments.
    """
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    problems, dim = list(_problems(targets)), features.X.shape[1]
    layers = [(np.zeros((dim, targets.size), np.float32), np.zeros(targets.size, np.float32)) for _ in configs]
    early = [0] * len(configs)
    with threadpool_limits(1):
        jobs = (delayed(_fit_problem)(configs, features, problem) for problem in problems)
        fitted = Parallel(threads, prefer="threads", return_as="generator")(jobs)
        for problem, of_problem in zip(problems, fitted, strict=True):
            for i, (coef, intercept, stopped) in enumerate(of_problem):
                layers[i][0][:, problem.columns], layers[i][1][problem.columns] = coef.T, intercept
                early[i] += stopped
            done(problem.columns.stop - problem.columns.start)
    members = ({"kind": "dense", "layers": [layer], "hidden": "relu"} for layer in layers)
    return list(zip(members, early, strict=True))


@dataclass(frozen=True)
class _Problem:
    """One model to fit: its k columns, the rows (n,) that tell, and the class of each of these (m,).

    Attributes:
        exclusive: Classes are the places of the columns; else 0 and 1, of a single column.
    """

    columns: slice
    rows: Bool
    classes: Int64
    exclusive: bool


def _problems(targets: Targets) -> Iterator[_Problem]:
    for columns, single in zip(targets.slices, targets.single, strict=True):
        if single:
            true = targets.mask[:, columns] & (targets.Y[:, columns] > 0)
            rows = np.asarray(true.any(axis=1))
            yield _Problem(columns, rows, true[rows].argmax(axis=1).astype(np.int64), True)
            continue
        for c in range(columns.start, columns.stop):
            rows = targets.mask[:, c]
            yield _Problem(slice(c, c + 1), rows, targets.Y[rows, c].astype(np.int64), False)


def _fit_problem(
    configs: Sequence[HeadConfig], scaled: Standardised, problem: _Problem
) -> list[tuple[Float64, Float64, bool]]:
    """Per configuration coefficients (k, d), intercepts (k,) for raw features, and whether they had not converged."""
    width, dim = problem.columns.stop - problem.columns.start, scaled.X.shape[1]
    counts = np.bincount(problem.classes, minlength=width if problem.exclusive else 2)
    if np.count_nonzero(counts) < 2:
        odds = np.log(counts + _HALF)
        return [(np.zeros((width, dim)), odds if problem.exclusive else odds[1:] - odds[:1], False) for _ in configs]
    X = scaled.X if problem.rows.all() else scaled.X[problem.rows]
    layers = []
    for estimator in logistic_path([config.C for config in configs], X, problem.classes, configs[0].seed):
        coef, intercept = estimator.coef_.astype(np.float64), estimator.intercept_.astype(np.float64)
        if problem.exclusive:
            coef, intercept = _of_all_values(estimator.classes_, coef, intercept, counts)
        layers.append((*scaled.for_raw(coef, intercept), stopped_early(estimator)))
    return layers


def _of_all_values(classes: Int64, coef: Float64, intercept: Float64, counts: Int64) -> tuple[Float64, Float64]:
    """A row for each value; of two classes scikit-learn gives the second's alone, of values without a photo nothing."""
    if len(classes) == 2:
        coef, intercept = np.concatenate([np.zeros_like(coef), coef]), np.concatenate([[0.0], intercept])
    whole = np.zeros((len(counts), coef.shape[1]))
    whole[classes] = coef
    of_the_mean_photo = float(np.logaddexp.reduce(intercept))
    bias = np.full(len(counts), of_the_mean_photo + np.log(_HALF / counts.sum()))
    bias[classes] = intercept
    return whole, bias
