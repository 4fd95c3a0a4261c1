"""Heads without epochs fitted and judged: what they are given, what that costs, and their loss on validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.arrays import Float32
from pipeline.errors import HeadError, counted
from pipeline.heads.baselines import columns, multinomial
from pipeline.heads.baselines.logistic import ITERATIONS, Standardised
from pipeline.heads.config import HeadConfig
from pipeline.heads.fitted import FittedHead
from pipeline.heads.kernel import bytes_needed as kernel_bytes
from pipeline.heads.kernel import fit_kernel_ridge
from pipeline.heads.source import checked_rows
from pipeline.heads.targets import Targets
from pipeline.machine import cores

Part = tuple[Any, Targets]
# Copies of one view of the training features, as peaks of resident memory show them (20,000 x 600):
_LOGREG_COPIES = 2.1  # one standardised, one of the rows that know an attribute, a strip of columns for the moments
_MULTINOMIAL_COPIES = 1.1  # the standardised one and the strip
_MULTINOMIAL_PER_THREAD = 1.0  # the rows that know an attribute
_LIGHTGBM_COPIES = 2.0  # the view drawn for each row, and the rows that know an attribute
_LIGHTGBM_PER_THREAD = 5.0  # a column's bins and the sample that they are made from, in double precision
_SECONDS_PER_NUMBER = {"logreg": 2e-8, "multinomial": 2e-8, "lightgbm": 1.2e-7}
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
    side_by_side = threads or cores()
    shares = {
        "logreg": _LOGREG_COPIES,
        "multinomial": _MULTINOMIAL_COPIES + _MULTINOMIAL_PER_THREAD * side_by_side,
        "lightgbm": _LIGHTGBM_COPIES + _LIGHTGBM_PER_THREAD * side_by_side,
    }
    needs = [int(one_view * shares[c.head]) for c in configs if c.head in shares]
    needs += [kernel_bytes(c, one_view, rows) for c in configs if c.head == "kernel-ridge"]
    return max(needs, default=0)


def fit_baselines(configs: Sequence[HeadConfig], data: BaselineData) -> list[FittedHead]:
    """Fit baselines and judge each on validation by its masked binary cross-entropy per known (photo, attribute) pair.

    Configurations that differ in nothing but C are fitted together, each from the next smaller one. With views, each
    training row shows one of them, drawn from the configuration's seed.

    Raises:
        HeadError: For features that are not finite or do not fit the targets.
    """
    alike: dict[HeadConfig, list[int]] = {}
    for i, config in enumerate(configs):
        alike.setdefault(replace(config, C=1.0), []).append(i)
    fitted: dict[int, FittedHead] = {}
    for places in alike.values():
        path = sorted(places, key=lambda i: configs[i].C)
        heads = _fit_alike([configs[i] for i in path], data)
        fitted |= {i: _judged(head, data) for i, head in zip(path, heads, strict=True)}
    return [fitted[i] for i in range(len(configs))]


def _fit_alike(configs: Sequence[HeadConfig], data: BaselineData) -> list[FittedHead]:
    first, targets = configs[0], data.train[1]
    if first.head == "kernel-ridge":
        return [fit_kernel_ridge(config, *data.train, data.blocks, data.tell) for config in configs]
    n, dim = np.shape(data.train[0])[-2:]
    name = first.config_id if len(configs) == 1 else f"{first.head}, C {', '.join(f'{c.C:g}' for c in configs)}"
    expected = sum(estimate_seconds(config, n, dim, targets.size, data.threads) for config in configs)
    _tell(data, f"{name}: {counted(targets.size, 'label')}, about {expected:.0f} s")
    started = time.perf_counter()
    members = _members(configs, data, _Count(name, targets.size, data).add)
    return [
        FittedHead(
            config=config,
            members=[member],
            links=_links(config, targets),
            slices=targets.slices,
            seconds=(time.perf_counter() - started) / len(configs),
            not_learnable=targets.not_learnable,
            note=f"{counted(early, 'model')} had not converged after {ITERATIONS} iterations" if early else "",
        )
        for config, (member, early) in zip(configs, members, strict=True)
    ]


def _members(
    configs: Sequence[HeadConfig], data: BaselineData, done: Callable[[int], None]
) -> list[tuple[dict[str, Any], int]]:
    head, seed, rest = configs[0].head, configs[0].seed, (data.train[1], data.threads or cores(), done)
    # Unscaled rows are not kept beside scaled ones.
    if head == "lightgbm":
        return columns.fit(configs, _one_view(data.train, seed), *rest)
    fit = multinomial.fit if head == "multinomial" else columns.fit
    return fit(configs, Standardised(_one_view(data.train, seed)), *rest)


def _links(config: HeadConfig, targets: Targets) -> tuple[str, ...]:
    exclusive = config.head == "multinomial"
    return tuple("softmax" if exclusive and single else "sigmoid" for single in targets.single)


class _Count:
    """Tells ten times on the way how many labels are fitted."""

    def __init__(self, name: str, labels: int, data: BaselineData) -> None:
        self._name, self._labels, self._data = name, labels, data
        self._fitted = self._told = 0

    def add(self, more: int) -> None:
        self._fitted += more
        if self._fitted - self._told >= max(1, self._labels // 10) or self._fitted == self._labels:
            self._told = self._fitted
            _tell(self._data, f"{self._name}: {self._fitted} of {self._labels} labels")


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
