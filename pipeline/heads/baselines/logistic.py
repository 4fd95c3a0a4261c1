"""Logistic regression on standardised features, along several strengths of its penalty."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.arrays import Float32, Float64, Int64

ITERATIONS = 300
_STRIP = 32  # columns whose spread is measured at a time: NumPy copies what it measures in double precision


class Standardised:
    """Features (n, d) scaled once for all fits; the scaling is folded into each fitted linear model."""

    def __init__(self, X: Float32) -> None:
        self._mean = X.mean(axis=0, dtype=np.float64)
        strips = np.split(X, range(_STRIP, X.shape[1] - 1, _STRIP), axis=1)
        deviation = np.concatenate([strip.std(axis=0, dtype=np.float64) for strip in strips])
        self._deviation = np.where(deviation > 1e-6 * np.abs(self._mean), deviation, 1.0)
        self.X = X - self._mean.astype(np.float32)
        self.X /= self._deviation.astype(np.float32)

    def for_raw(self, coef: Float64, intercept: Float64) -> tuple[Float64, Float64]:
        """Coefficients (k, d) and intercepts (k,) that say of raw features what these say of scaled ones."""
        raw = coef / self._deviation
        return raw, intercept - raw @ self._mean


def logistic_path(strengths: Sequence[float], X: Float32, y: Int64, seed: int) -> list[Any]:
    """A fitted LogisticRegression for each C, the first from nothing, each other from the one before.

    Args:
        strengths: Values of C, ascending: a strong penalty has converged soon, and is near the next weaker one.
        X: Features (n, d).
        y: Classes (n,), at least two.
        seed: Of the estimator.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # Said once per head (`stopped_early`), not once per fit. Repeated filters do not pile up; threads share them.
    warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn.linear_model")
    fitted: list[Any] = []
    for C in strengths:
        estimator = LogisticRegression(C=C, max_iter=ITERATIONS, random_state=seed, warm_start=bool(fitted))
        if fitted:
            estimator.coef_, estimator.intercept_ = fitted[-1].coef_.copy(), fitted[-1].intercept_.copy()
        fitted.append(estimator.fit(X, y).set_params(warm_start=False))
    return fitted


def stopped_early(estimator: Any) -> bool:
    """Whether a fit ended for its iterations, before it converged; False for what has none."""
    return hasattr(estimator, "n_iter_") and int(np.max(estimator.n_iter_)) >= ITERATIONS
