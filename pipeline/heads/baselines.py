"""Baselines: a real MultiOutputClassifier of logistic regression or of LightGBM, fitted column by column.

Each column is fitted on its own known rows; a column of one class becomes a constant. That is also why LightGBM is not
fitted as one multiclass model per single-valued attribute: a `MultiOutputClassifier` holds one estimator per column.
Columns run side by side on threads, each with one thread inside: both libraries release the interpreter lock, the
features are shared without a copy, and small fits do not wait for each other's inner threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.arrays import Bool, Float32, UInt8
from pipeline.errors import HeadError, counted
from pipeline.heads.config import HeadConfig
from pipeline.heads.fitted import FittedHead
from pipeline.heads.kernel import bytes_needed as kernel_bytes
from pipeline.heads.kernel import fit_kernel_ridge
from pipeline.heads.source import checked_rows
from pipeline.heads.targets import Targets
from pipeline.system import cores

Part = tuple[Any, Targets]
_LOGREG_ITERATIONS = 300
_MAX_BIN = 63
# Copies of one view of the training features, as peaks of resident memory show them (20,000 x 600):
_LOGREG_COPIES = 2.1  # one standardised, one of the rows that know an attribute, a strip of columns for the moments
_LIGHTGBM_COPIES = 2.0  # the view drawn for each row, and the rows that know an attribute
_LIGHTGBM_PER_THREAD = 5.0  # a column's bins and the sample that they are made from, in double precision
_STRIP = 32  # columns whose spread is measured at a time: NumPy copies what it measures in double precision
_LEARNING_RATE = 0.05
_SECONDS_PER_NUMBER = {"logreg": 4e-8, "lightgbm": 1.2e-7}
_SECONDS_PER_TREE_NUMBER = 2.8e-8


@dataclass(frozen=True)
class BaselineData:
    """What a baseline is fitted on.

    Attributes:
        train: Features (n, d) or (V, n, d) in memory, and their targets.
        validation: The same of the rows that it is judged on.
        threads: Columns fitted side by side; 0 takes all cores.
        tell: Takes lines of news.
        blocks: Name and width of the blocks that stand side by side in the features.
    """

    train: Part
    validation: Part
    threads: int = 0
    tell: Callable[[str], None] | None = None
    blocks: Sequence[tuple[str, int]] = ()


def check_label_limit(labels: int, limit: int) -> None:
    """Check that LightGBM can be asked for so many labels.

    Raises:
        HeadError: When it would have to grow trees for more than `limit`.
    """
    if labels > limit:
        raise HeadError(
            f"lightgbm fits one model per label: {labels} labels exceed the limit of {limit} and may take hours; "
            f"choose fewer attributes with --attributes, or raise --max-labels"
        )


def estimate_seconds(config: HeadConfig, n: int, d: int, labels: int, threads: int = 0) -> float:
    """Rough seconds a baseline takes, from measurements on one core of a server.

    Logistic regression: passes over the n d numbers. LightGBM: binning them, then trees on their chosen share.

    Args:
        config: A baseline's.
        n: Rows.
        d: Numbers per row.
        labels: Columns to fit.
        threads: Columns fitted side by side; 0 takes all cores.
    """
    per_column = _SECONDS_PER_NUMBER[config.head] * n * d
    if config.head == "lightgbm":
        per_column += _SECONDS_PER_TREE_NUMBER * config.trees * config.feature_fraction * n * d
    return per_column * labels / (threads or cores())


def bytes_copied(configs: Sequence[HeadConfig], one_view: int, rows: int = 0, threads: int = 0) -> int:
    """Most bytes that heads without epochs hold beside the training features, one after the other.

    Args:
        configs: Any configurations; those of no baseline copy nothing.
        one_view: Bytes of the training features in one view.
        rows: Training rows, which decide how large a kernel between them is.
        threads: Threads of the baselines; 0 takes all cores.
    """
    shares = {"logreg": _LOGREG_COPIES, "lightgbm": _LIGHTGBM_COPIES + _LIGHTGBM_PER_THREAD * (threads or cores())}
    needs = [int(one_view * shares[c.head]) for c in configs if c.head in shares]
    needs += [kernel_bytes(c, one_view, rows) for c in configs if c.head == "kernel-ridge"]
    return max(needs, default=0)


def fit_baseline(config: HeadConfig, data: BaselineData) -> FittedHead:
    """Fit one baseline and judge it on validation by its masked binary cross-entropy per known (photo, attribute) pair.

    With views, each training row shows one of them, drawn from the configuration's seed.

    Raises:
        HeadError: For features that are not finite or do not fit the targets.
    """
    if config.head == "kernel-ridge":
        return _judged(fit_kernel_ridge(config, *data.train, data.blocks, data.tell), data)
    targets = data.train[1]
    n, dim = np.shape(data.train[0])[-2:]
    expected = estimate_seconds(config, n, dim, targets.size, data.threads)
    _tell(data, f"{config.config_id}: {counted(targets.size, 'label')}, about {expected:.0f} s")
    started = time.perf_counter()
    shared = (_Standardised if config.head == "logreg" else _Raw)(_one_view(data.train, config.seed))
    estimators = []
    for estimator in _fit_columns(config, shared, targets, data.threads or cores()):
        estimators.append(estimator)
        if len(estimators) % max(1, targets.size // 10) == 0:
            _tell(data, f"{config.config_id}: {len(estimators)} of {targets.size} labels")
    fitted = FittedHead(
        config=config,
        members=[{"kind": "estimator", "estimator": _wrap(config, estimators, dim)}],
        links=("sigmoid",) * len(targets.slices),
        slices=targets.slices,
        seconds=time.perf_counter() - started,
        not_learnable=targets.not_learnable,
    )
    return _judged(fitted, data)


def _judged(fitted: FittedHead, data: BaselineData) -> FittedHead:
    loss = binary_log_loss(fitted.predict_proba(data.validation[0]), data.validation[1])
    history = [{"epoch": 0, "split": "validation", "loss": loss}]
    return replace(fitted, history=history, validation_loss=loss)


def binary_log_loss(P: Float32, targets: Targets) -> float:
    """Masked binary cross-entropy per known (photo, attribute) pair, summed over the attribute's values.

    Args:
        P: Probabilities (n, L).
        targets: The truth of the n rows.
    """
    clipped = np.clip(P.astype(np.float64), 1e-7, 1 - 1e-7)
    losses = -np.where(targets.Y == 1, np.log(clipped), np.log1p(-clipped))
    share = np.concatenate([np.full(s.stop - s.start, 1 / (s.stop - s.start)) for s in targets.slices])
    return float((losses * targets.mask).sum() / (targets.mask * share).sum())


class _Raw:
    """Features as they are."""

    def __init__(self, X: Float32) -> None:
        self.X = X

    def unfold(self, estimator: Any) -> Any:
        return estimator


class _Standardised:
    """Features scaled once for all columns; the scaling is folded into each fitted linear model."""

    def __init__(self, X: Float32) -> None:
        self._mean = X.mean(axis=0, dtype=np.float64)
        strips = np.split(X, range(_STRIP, X.shape[1] - 1, _STRIP), axis=1)
        deviation = np.concatenate([strip.std(axis=0, dtype=np.float64) for strip in strips])
        self._deviation = np.where(deviation > 1e-6 * np.abs(self._mean), deviation, 1.0)
        self.X = X - self._mean.astype(np.float32)
        self.X /= self._deviation.astype(np.float32)

    def unfold(self, estimator: Any) -> Any:
        """The same model for raw features."""
        estimator.coef_ = estimator.coef_ / self._deviation
        estimator.intercept_ = estimator.intercept_ - estimator.coef_ @ self._mean
        return estimator


def _fit_columns(config: HeadConfig, shared: _Raw | _Standardised, targets: Targets, threads: int) -> Iterator[Any]:
    """Fitted estimators in column order; columns of one attribute share the gathered rows of their common mask."""
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):
        for columns in targets.slices:
            for start, stop in _same_mask(targets.mask, columns):
                rows = targets.mask[:, start]
                X = shared.X if rows.all() else shared.X[rows]
                jobs = (delayed(_fit_column)(config, X, targets.Y[rows, c]) for c in range(start, stop))
                for estimator, learnt in Parallel(threads, prefer="threads", return_as="generator")(jobs):
                    yield shared.unfold(estimator) if learnt else estimator
                del X, jobs  # before the next rows are copied


def _same_mask(mask: Bool, columns: slice) -> Iterator[tuple[int, int]]:
    """Runs of neighbouring columns that know the same rows."""
    start = columns.start
    for c in range(columns.start + 1, columns.stop + 1):
        if c == columns.stop or not np.array_equal(mask[:, c], mask[:, start]):
            yield start, c
            start = c


def _fit_column(config: HeadConfig, X: Float32, y: UInt8) -> tuple[Any, bool]:
    """(estimator, whether it learnt anything); a column of one class, or without rows, becomes a constant."""
    from sklearn.dummy import DummyClassifier

    if len(y) and y.min() != y.max():
        return _template(config).fit(X, y.astype(np.int64)), True
    constant = int(y[0]) if len(y) else 0
    dummy = DummyClassifier(strategy="constant", constant=constant)
    return dummy.fit(np.zeros((1, 1)), np.array([constant])), False


def _template(config: HeadConfig) -> Any:
    """An unfitted estimator for one column."""
    if config.head == "logreg":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=config.C, max_iter=_LOGREG_ITERATIONS, random_state=config.seed)
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
    from sklearn.multioutput import MultiOutputClassifier

    whole = MultiOutputClassifier(_template(config))
    whole.estimators_ = estimators
    whole.classes_ = [e.classes_ for e in estimators]
    whole.n_features_in_ = dim
    return whole


def _one_view(part: Part, seed: int) -> Float32:
    X, targets = part
    array = np.asarray(X, np.float32)
    if array.ndim == 3:
        views = np.random.default_rng(seed).integers(array.shape[0], size=array.shape[1])
        array = array[views, np.arange(array.shape[1])]
    return checked_rows(array, np.shape(X), len(targets))


def _tell(data: BaselineData, text: str) -> None:
    if data.tell is not None:
        data.tell(text)
