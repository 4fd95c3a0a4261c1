"""Many heads in one pass: the whole grid is trained together on one reading of the features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipeline.arrays import Float
from pipeline.errors import HeadError, counted
from pipeline.heads.baselines.fit import BaselineData, check_label_limit, fit_baselines
from pipeline.heads.config import HeadConfig, known
from pipeline.heads.fitted import FittedHead
from pipeline.heads.source import ArraySource, FeatureSource, moments
from pipeline.heads.stacked.lbfgs import fit_lbfgs
from pipeline.heads.stacked.losses import LossData, links
from pipeline.heads.stacked.precision import require_products
from pipeline.heads.stacked.stack import Setting
from pipeline.heads.stacked.train import FitData, Report, Trainer, TrainingState
from pipeline.heads.targets import Targets
from pipeline.machine import choose_device

Features = Float | FeatureSource
Side = tuple[Features, Targets]
"""Features of one side of the split, and their targets."""

SweepProgress = Callable[[str], None]
"""Takes a line of text."""

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class SweepOptions:
    """How a sweep runs; none of it changes what a single configuration means.

    Attributes:
        device: auto (CUDA when there is one), cpu or cuda.
        halving: Successive halving: at epochs rung, 2 rung, 4 rung, ... keep the better half of the configurations.
        halving_pace: Another one than doubling: "every" halves after every epoch from rung on, by where a
            configuration is heading.
        rung: Epoch of the first halving.
        seed: Seed of the batch order and of the views shown, the same for every configuration.
        products: How training multiplies matrices (`pipeline.heads.stacked.precision`).
        dtype: float32 or float64 (for checks).
        stack_bytes: Most memory for one stack's parameters, gradients, moments and best epoch.
        max_labels: Most labels a LightGBM head accepts, since it grows `trees` trees for each.
        threads: Threads of the baselines; 0 takes all cores.
        stop_at: Epoch per configuration at which it stops and is kept, whatever its validation loss: for a refit whose
            validation rows are among its training rows. Empty: the best epoch is kept.
        progress: Called with one line of text whenever there is news.
        blocks: Name and width of the feature blocks that stand side by side, for heads that weigh them.
    """

    device: str = "auto"
    halving: bool = False
    halving_pace: str = "doubling"
    rung: int = 1
    seed: int = 0
    products: str = "fp32"
    dtype: str = "float32"
    stack_bytes: int = 2 * 1024**3
    max_labels: int = 200
    threads: int = 0
    stop_at: tuple[int, ...] = ()
    progress: SweepProgress | None = None
    blocks: tuple[tuple[str, int], ...] = ()


def fit_many(
    configs: Sequence[HeadConfig],
    train: Side,
    validation: Side,
    options: SweepOptions | None = None,
) -> list[FittedHead]:
    """Fit every configuration.

    A row of several views shows a random one per epoch in training; validation averages the loss over all views.
    The epoch with the lowest validation loss (the configuration's own loss, without smoothing and adjustment) is kept,
    or the last one of a schedule that ends there (`schedules.RUNS_WHOLE`).
    A configuration that diverges is stopped and returned with its note, `diverged` and an infinite validation loss.

    Args:
        configs: What to fit.
        train: Features (n, d) float32, (V, n, d) with views, or a `FeatureSource`; and their targets.
        validation: The same of the rows that choose the epoch.
        options: How to run; None is the default.

    Returns:
        Fitted heads in the order of `configs`.

    Raises:
        HeadError: Before any training, for data or options that cannot work.
    """
    options = options or SweepOptions()
    known("dtype", options.dtype, _DTYPES)
    _check_targets(train[1], validation[1])
    _check_configs(configs, train, options)
    results: dict[int, FittedHead] = {}
    baselines = [i for i, c in enumerate(configs) if c.spec.is_baseline]
    stacked = [i for i in range(len(configs)) if i not in set(baselines)]
    if stacked:
        data = _prepare(train, validation, options)
        stops = tuple(options.stop_at[i] for i in stacked) if options.stop_at else ()
        heads = _fit_torch([configs[i] for i in stacked], data, replace(options, stop_at=stops))
        results.update(zip(stacked, heads, strict=True))
    in_memory = BaselineData(train, validation, options.threads, options.progress, options.blocks)
    results.update(zip(baselines, fit_baselines([configs[i] for i in baselines], in_memory), strict=True))
    return [results[i] for i in range(len(configs))]


def _fit_torch(configs: Sequence[HeadConfig], data: FitData, options: SweepOptions) -> list[FittedHead]:
    """The stacked configurations by how they read the features, then those that L-BFGS trains one by one."""
    groups: dict[tuple[int, float], dict[int, HeadConfig]] = {}
    for i, config in enumerate(configs):
        if config.optimizer != "lbfgs":
            groups.setdefault(config.reading, {})[i] = config
    run = _halve if options.halving else _run_out
    heads = {r.position: _finish(r, data) for r in run(list(groups.values()), data, options)}
    for i, config in enumerate(configs):
        if config.optimizer == "lbfgs":
            heads[i] = _finish(fit_lbfgs(i, config, data, options.stop_at[i] if options.stop_at else 0), data)
            _tell(options, f"{config.config_id}: validation loss {heads[i].validation_loss:.4f}")
    return [heads[i] for i in range(len(configs))]


def _run_out(groups: Sequence[dict[int, HeadConfig]], data: FitData, options: SweepOptions) -> Iterator[TrainingState]:
    """Train each group to its end before the next one takes memory."""
    for group in groups:
        trainer = Trainer(group, data, options.stack_bytes, options.stop_at)
        trainer.advance(max(c.epochs for c in group.values()), _reporter(options))
        yield from trainer.records


def _halve(groups: Sequence[dict[int, HeadConfig]], data: FitData, options: SweepOptions) -> Iterator[TrainingState]:
    """Train all groups side by side; at each rung the worse half of the configurations of each objective stops."""
    trainers = [Trainer(group, data, options.stack_bytes, options.stop_at) for group in groups]
    last = max((c.epochs for group in groups for c in group.values()), default=0)
    rung, (following, merit) = options.rung, _PACES[options.halving_pace]
    while any(t.active for t in trainers):
        for trainer in trainers:
            trainer.advance(min(rung, last), _reporter(options))
        doomed = _worse_half([r for t in trainers for r in t.active], merit)
        for trainer in trainers:
            trainer.drop([r for r in trainer.active if r.position in doomed], f"halved away at epoch {rung}")
        rung = following(rung)
    for trainer in trainers:
        yield from trainer.records


# What early epochs say of a high rate is too good: its best may lie behind it when a lower one still goes down. With
# few epochs to judge by, where a loss is heading keeps the winner where the best so far would lose it.
_PACES: dict[str, tuple[Callable[[int], int], Callable[[TrainingState], float]]] = {
    "doubling": (lambda rung: 2 * rung, lambda record: record.best_merit),
    "every": (lambda rung: rung + 1, lambda record: record.heading),
}
"""The next rung, and what is compared at it."""
HALVING_PACES = tuple(_PACES)


def _worse_half(records: Sequence[TrainingState], merit: Callable[[TrainingState], float]) -> set[int]:
    """Positions to drop. Losses of different kinds are on different scales, and smoothing or adjustment is not meant to
    lower the plain one, so each objective is halved on its own; micro-F1 compares them all.
    """
    kinds: dict[tuple[object, ...], list[TrainingState]] = {}
    for record in records:
        c = record.config
        kind = (c.loss, c.label_smoothing, c.logit_adjust) if c.monitor == "loss" else (c.monitor,)
        kinds.setdefault(kind, []).append(record)
    doomed: set[int] = set()
    for members in kinds.values():
        ranked = sorted(members, key=lambda r: (-merit(r), r.position))
        doomed |= {r.position for r in ranked[-(-len(ranked) // 2) :]}
    return doomed


def _finish(record: TrainingState, data: FitData) -> FittedHead:
    train = data.setting.train
    return FittedHead(
        config=record.config,
        members=[{"kind": "dense", "layers": record.layers(data), "hidden": "relu"}],
        links=links(record.config.loss, train),
        slices=train.slices,
        history=record.history,
        best_epoch=record.best_epoch,
        seconds=record.seconds,
        validation_loss=record.best_loss,
        not_learnable=train.not_learnable,
        note=record.note,
        diverged=record.diverged,
    )


def _prepare(train: Side, validation: Side, options: SweepOptions) -> FitData:
    device, dtype = torch.device(choose_device(options.device)), _DTYPES[options.dtype]
    require_products(options.products, device)
    sources = [_source(X, targets, device) for X, targets in (train, validation)]
    if sources[0].dim != sources[1].dim:
        raise HeadError(
            f"training features have {counted(sources[0].dim, 'number')} per photo, validation {sources[1].dim}"
        )
    mean, deviation = moments(sources[0])
    data, validation_data = (LossData(t, train[1], device, dtype) for _, t in (train, validation))
    return FitData(
        setting=Setting(sources[0].dim, train[1], data, device, dtype),
        train=sources[0],
        validation=sources[1],
        validation_data=validation_data,
        mean=mean.to(device, dtype),
        scale=deviation.reciprocal().to(device, dtype),
        order_seed=options.seed,
        products=options.products,
    )


def _source(X: Features, targets: Targets, device: torch.device) -> FeatureSource:
    source = ArraySource(X, device) if isinstance(X, np.ndarray) else X
    if len(source) != len(targets):
        raise HeadError(f"{counted(len(source), 'row')} of features but {counted(len(targets), 'row')} of targets")
    return source


def _check_targets(train: Targets, validation: Targets) -> None:
    if train.slices != validation.slices or train.single != validation.single:
        raise HeadError(
            f"training targets have {counted(train.size, 'label')}, validation {validation.size}; the attributes must"
            " agree"
        )
    for part, targets in (("training", train), ("validation", validation)):
        if not len(targets):
            raise HeadError(f"no {part} photos; give the split a larger share of them")
        if not targets.mask.any():
            raise HeadError(f"every label of the {part} photos is unknown; there is nothing to learn from or judge by")


def _check_configs(configs: Sequence[HeadConfig], train: Side, options: SweepOptions) -> None:
    if not configs:
        raise HeadError("no configuration to fit; name at least one head")
    if options.stop_at and (len(options.stop_at) != len(configs) or options.halving):
        raise HeadError(
            f"{counted(len(options.stop_at), 'epoch')} to stop at, {counted(len(configs), 'configuration')}; give one"
            " for each"
        )
    known("halving pace", options.halving_pace, HALVING_PACES)
    if options.halving and options.rung < 1:
        raise HeadError(f"the first rung of halving is epoch {options.rung}, expected 1 or later")
    for config in configs:
        if config.spec.is_baseline and not isinstance(train[0], np.ndarray):
            raise HeadError(
                f"head {config.head!r} needs the features and copies of them in memory; leave it out, raise --memory "
                f"or use fewer photos"
            )
        if config.head == "lightgbm":
            check_label_limit(train[1].size, options.max_labels)


def _reporter(options: SweepOptions) -> Report | None:
    if options.progress is None:
        return None

    def report(epoch: int, active: int, records: Sequence[TrainingState]) -> None:
        lowest: dict[str, float] = {}
        for r in records:
            lowest[r.config.loss] = min(r.best_loss, lowest.get(r.config.loss, math.inf))
        # A refit has no best epoch before the one it stops at, and a diverged configuration none at all.
        finite = {loss: value for loss, value in lowest.items() if math.isfinite(value)}
        figures = [f"{loss} {value:.4f}" if len(lowest) > 1 else f"{value:.4f}" for loss, value in finite.items()]
        best = f", best validation loss {', '.join(figures)}" if figures else ""
        _tell(options, f"epoch {epoch}: {counted(active, 'configuration')} {'goes' if active == 1 else 'go'} on{best}")

    return report


def _tell(options: SweepOptions, text: str) -> None:
    if options.progress is not None:
        options.progress(text)
