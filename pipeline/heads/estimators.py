"""The heads under scikit-learn's contract: the constructor stores, `fit` returns self, `predict_proba` is (n, L)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from pipeline.errors import HeadError
from pipeline.heads.config import HeadConfig
from pipeline.heads.fitted import FittedHead
from pipeline.heads.stacked.sweep import SweepOptions, fit_many
from pipeline.heads.targets import Targets


class Head(BaseEstimator):  # type: ignore[misc]
    """One head of one configuration.

    Parameters:
        config: What to fit; None is the head's default configuration.
        sizes: Values per key, in column order; None makes all columns one multi-valued key.
        single: Per key, whether a photo has at most one value; None means that none is.
        validation_fraction: Share of the rows held out (drawn from the configuration's seed) to choose the epoch.
        options: How to train; None is the default.

    Attributes after `fit`:
        fitted_: The `FittedHead`, with its history and its members for a model file.
        n_features_in_: Number of features.
    """

    name: ClassVar[str] = "linear"

    def __init__(
        self,
        config: HeadConfig | None = None,
        sizes: Sequence[int] | None = None,
        single: Sequence[bool] | None = None,
        validation_fraction: float = 0.2,
        options: SweepOptions | None = None,
    ) -> None:
        self.config = config
        self.sizes = sizes
        self.single = single
        self.validation_fraction = validation_fraction
        self.options = options

    def fit(self, X: npt.ArrayLike, Y: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> Self:
        """Fit on features (n, d) and targets (n, L) of 0 and 1; `mask` (n, L) is True where the truth is known.

        Raises HeadError for another head's configuration and for data that cannot work.
        """
        config = self.config if self.config is not None else HeadConfig(head=self.name)
        if config.head != self.name:
            raise HeadError(f"{type(self).__name__} fits {self.name!r}, its configuration asks for {config.head!r}")
        features = np.asarray(X, np.float32)
        targets = Targets.plain(Y, mask, self.sizes, self.single)
        if features.ndim != 2 or len(features) != len(targets):
            raise HeadError(f"features of shape {features.shape} do not fit {len(targets)} rows of targets")
        train, held = _hold_out(len(features), self.validation_fraction, config.seed)
        parts = [(features[rows], targets.take(rows)) for rows in (train, held)]
        self.fitted_: FittedHead = fit_many([config], parts[0], parts[1], self.options)[0]
        self.n_features_in_ = int(features.shape[1])
        return self

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Probabilities (n, L) float32 of features (n, d)."""
        if not hasattr(self, "fitted_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call fit first")
        return self.fitted_.predict_proba(np.asarray(X, np.float32))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


class LinearHead(Head):
    """One linear layer for all labels."""

    name = "linear"


class MLPHead(Head):
    """Hidden layers shared by all keys, then one linear layer."""

    name = "mlp"


class MLPPerKeyHead(Head):
    """One hidden layer and one output layer per key."""

    name = "mlp-per-key"


class LogRegHead(Head):
    """Scikit-learn's logistic regression per label."""

    name = "logreg"


class LightGBMHead(Head):
    """LightGBM per label."""

    name = "lightgbm"


def _hold_out(n: int, fraction: float, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows to train on and rows to validate on; with too few rows for both, all rows serve as both."""
    order = np.random.default_rng(seed).permutation(n)
    held = int(n * fraction)
    if held < 1 or held >= n:
        return order, order
    return np.sort(order[held:]), np.sort(order[:held])
