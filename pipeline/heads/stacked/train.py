"""The epochs: every configuration of one batch size trained on one reading of the features."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pipeline.heads.config import HeadConfig
from pipeline.heads.schedules import RUNS_WHOLE, LearningRateSchedule
from pipeline.heads.source import FeatureSource
from pipeline.heads.stacked.losses import LossData, TargetBatch
from pipeline.heads.stacked.networks import Layer, Network, make_network
from pipeline.heads.stacked.precision import matrix_products
from pipeline.heads.stacked.stack import Setting, Stack, drop_units, in_bytes, initial_parameters, parameter_count

_EVALUATION_ROWS = 512
_CPU_STACK_PARAMETERS = 2_000_000  # parameters, gradients and state of a stack should stay near the cores
_BLOCK = 1024
_AHEAD = 3  # epochs that a configuration's heading looks ahead
_DROP_SEED = 1 << 40  # keeps the input dropout apart from the configurations' own generators


@dataclass(frozen=True)
class FitData:
    """Features and targets on both sides of the split, and how features are standardised.

    Attributes:
        setting: What all stacks share.
        train: Features to train on.
        validation: Features to judge on.
        validation_data: Their targets.
        mean: (d,) in `setting.dtype`.
        scale: (d,), one over the standard deviation.
        order_seed: Decides the order of the batches and which inputs are dropped.
        products: How training multiplies (`precision.PRODUCTS`).
    """

    setting: Setting
    train: FeatureSource
    validation: FeatureSource
    validation_data: LossData
    mean: Tensor
    scale: Tensor
    order_seed: int
    products: str = "fp32"

    def train_batches(self, batch_size: int, input_dropout: float, epoch: int) -> Iterator[tuple[Tensor, TargetBatch]]:
        """Training batches of one epoch; (seed, epoch) decides their order and which inputs are dropped.

        Args:
            batch_size: Most rows b of a batch.
            input_dropout: Share of the inputs that are dropped, 0 to below 1.
            epoch: From 0.

        Yields:
            Standardised features (b, d) and their targets.
        """
        drop = in_bytes(input_dropout)
        random = torch.Generator(self.setting.device).manual_seed(_DROP_SEED + (self.order_seed << 20) + epoch)
        for x, batch in self._ready(self.train.batches(batch_size, (self.order_seed, epoch)), self.setting.data):
            if drop:
                drop_units(x, drop, random)
            yield x, batch

    def train_in_order(self) -> Iterator[tuple[Tensor, TargetBatch]]:
        """All training rows in batches that suit one configuration alone."""
        return self._ready(self.train.batches(4 * _EVALUATION_ROWS, None), self.setting.data)

    def validation_batches(self) -> Iterator[tuple[Tensor, TargetBatch]]:
        """All validation rows (and views) in large batches."""
        return self._ready(self.validation.batches(_EVALUATION_ROWS, None), self.validation_data)

    def _ready(self, batches: Iterable[tuple[Tensor, Tensor]], data: LossData) -> Iterator[tuple[Tensor, TargetBatch]]:
        for rows, x in batches:
            yield x.to(self.setting.dtype).sub_(self.mean).mul_(self.scale), data.batch(rows)


@dataclass
class TrainingState:
    """What is known about one configuration while it trains.

    Attributes:
        position: Its place in the caller's list.
        config: What is trained.
        network: Its shapes.
        rate: Its learning rate.
        history: Records of the epochs, as in `FittedHead`.
        best: Its parameters at the best epoch, without the leading G; None before the first.
        best_merit: What is maximised: minus the validation loss, or micro-F1 with every threshold at 1/2.
        best_loss: Validation loss at the best epoch.
        best_epoch: From 1; 0 before the first.
        seconds: Its share of the time.
        note: Why it stopped.
        diverged: Whether a loss was not finite.
        done: Whether it stopped.
        stop_at: Epoch at which it stops and is kept, whatever the validation loss; 0 keeps the best one.
    """

    position: int
    config: HeadConfig
    network: Network
    rate: LearningRateSchedule
    history: list[dict[str, Any]] = field(default_factory=list)
    best: list[Tensor] | None = None
    best_merit: float = -math.inf
    best_loss: float = math.inf
    best_epoch: int = 0
    seconds: float = 0.0
    note: str = ""
    diverged: bool = False
    done: bool = False
    stop_at: int = 0

    def close_epoch(self, epoch: int, train_loss: float, loss: float, micro_f1: float) -> bool:
        """Record an epoch and decide whether to go on.

        Args:
            epoch: From 1.
            train_loss: Mean over the epoch, with smoothing, adjustment and dropout.
            loss: On validation, without them.
            micro_f1: On validation, every threshold at 1/2.

        Returns:
            Whether its parameters are the best so far.
        """
        self.history.append({"epoch": epoch, "split": "train", "loss": train_loss})
        self.history.append({"epoch": epoch, "split": "validation", "loss": loss, "micro_f1": micro_f1})
        self.rate.observe(train_loss)
        if not (math.isfinite(loss) and math.isfinite(train_loss)):
            self.diverged, self.done, self.best_loss = True, True, math.inf
            self.note = f"diverged: loss not finite at epoch {epoch}; lower the learning rate"
            return False
        merit = micro_f1 if self.config.monitor == "micro-f1" else -loss
        # These schedules are made for their last epoch; the best epoch before it is luck on validation.
        ends = self.config.schedule in RUNS_WHOLE and epoch == self.config.epochs
        better = ends or merit > self.best_merit if not self.stop_at else epoch == self.stop_at
        if better:
            self.best_merit, self.best_loss, self.best_epoch = merit, loss, epoch
        if self.stop_at:
            self.done = better
            return better
        waited = epoch - self.best_epoch
        if self.config.patience and waited >= self.config.patience and self.config.schedule not in RUNS_WHOLE:
            self.done, self.note = True, f"stopped early at epoch {epoch}"
        self.done = self.done or epoch == self.config.epochs
        return better

    @property
    def heading(self) -> float:
        """What the merit would be after three more epochs like the last one.

        Looking one or two epochs ahead lost the configuration whose loss ended lowest, a low rate that was still going
        down; three and four kept it (`benchmarks/RESULTS.md`, the sweep).
        """
        sign, name = (1, "micro_f1") if self.config.monitor == "micro-f1" else (-1, "loss")
        merits = [sign * record[name] for record in self.history if record["split"] == "validation"]
        gained = merits[-1] - merits[-2] if len(merits) > 1 else 0.0
        return float(merits[-1] + _AHEAD * gained)

    def keep_best(self, parameters: Sequence[Tensor]) -> None:
        """Copy the parameters of the best epoch, into the memory of the former best."""
        if self.best is None:
            self.best = [p.clone() for p in parameters]
        else:
            for kept, p in zip(self.best, parameters, strict=True):
                kept.copy_(p)

    def layers(self, data: FitData) -> list[Layer]:
        """The best parameters as dense float32 layers for raw features; the initial ones when no epoch was finite."""
        tensors = self.best
        if tensors is None:
            tensors = initial_parameters(self.config, self.network, data.setting.train)
        self.best = None
        layers = self.network.dense([t.cpu().numpy() for t in tensors])
        W, b = layers[0]
        scale, mean = data.scale.cpu().numpy(), data.mean.cpu().numpy().astype("float64")
        W *= scale[:, None].astype(W.dtype)
        shift = b.astype("float64")
        for start in range(0, W.shape[1], _BLOCK):
            shift[start : start + _BLOCK] -= mean @ W[:, start : start + _BLOCK].astype("float64")
        layers[0] = (W, shift)
        return [(W.astype("float32", copy=False), b.astype("float32")) for W, b in layers]


Report = Callable[[int, int, Sequence[TrainingState]], None]
"""Told after an epoch: its number, how many configurations go on, the records of all."""


class Trainer:
    """Configurations that read the features alike, as stacks by shape family, advanced epoch by epoch."""

    def __init__(
        self, configs: Mapping[int, HeadConfig], data: FitData, stack_bytes: int, stop_at: Sequence[int] = ()
    ) -> None:
        self._data = data
        self._epoch = 0
        self._reading = next(iter(configs.values())).reading
        steps = -(-len(data.train) // self._reading[0])
        self.records: list[TrainingState] = []
        self._stacks: list[tuple[Stack, list[TrainingState]]] = []
        for members in _families(configs, data, stack_bytes):
            stack = Stack([configs[i] for i in members], data.setting)
            records = [
                TrainingState(i, c, stack.network, LearningRateSchedule(c, steps))
                for i, c in zip(members, stack.configs, strict=True)
            ]
            self._stacks.append((stack, records))
            for record in records:
                record.stop_at = stop_at[record.position] if stop_at else 0
            self.records.extend(records)

    @property
    def active(self) -> list[TrainingState]:
        """Records still in training."""
        return [r for _, records in self._stacks for r in records]

    def advance(self, until: int, report: Report | None) -> None:
        """Train up to epoch `until`, or until every configuration is done."""
        while self._stacks and self._epoch < until:
            started = time.perf_counter()
            self._train_epoch()
            self._close_epoch()
            self._share_time(time.perf_counter() - started)
            self._compact()
            if report is not None:
                report(self._epoch, len(self.active), self.records)

    def drop(self, records: Sequence[TrainingState], note: str) -> None:
        """Stop some configurations; their best epoch so far is kept."""
        for record in records:
            record.done, record.note = True, note
        self._compact()

    def _train_epoch(self) -> None:
        with matrix_products(self._data.products):
            for step, (x, batch) in enumerate(self._data.train_batches(*self._reading, self._epoch)):
                for stack, records in self._stacks:
                    stack.step(x, batch, [r.rate.at(self._epoch, step) for r in records])
        self._epoch += 1

    def _close_epoch(self) -> None:
        train_losses = [stack.take_tally().mean_loss() for stack, _ in self._stacks]
        for x, batch in self._data.validation_batches():
            for stack, _ in self._stacks:
                stack.evaluate(x, batch)
        for (stack, records), losses in zip(self._stacks, train_losses, strict=True):
            tally = stack.take_tally()
            figures = zip(losses, tally.mean_loss(), tally.micro_f1(), strict=True)
            for i, (record, of_epoch) in enumerate(zip(records, figures, strict=True)):
                if record.close_epoch(self._epoch, *of_epoch):
                    record.keep_best([p[i] for p in stack.parameters])

    def _share_time(self, seconds: float) -> None:
        """Each configuration is charged in proportion to its parameters."""
        sizes = [parameter_count(r.network) for r in self.active]
        for record, size in zip(self.active, sizes, strict=True):
            record.seconds += seconds * size / sum(sizes)

    def _compact(self) -> None:
        going_on = []
        for stack, records in self._stacks:
            positions = [i for i, r in enumerate(records) if not r.done]
            if positions and len(positions) < len(records):
                stack.keep(positions)
            if positions:
                going_on.append((stack, [records[i] for i in positions]))
        self._stacks = going_on


def _families(configs: Mapping[int, HeadConfig], data: FitData, stack_bytes: int) -> Iterator[list[int]]:
    """Positions by shape, loss and optimizer, cut into stacks whose memory stays within the limits."""
    setting = data.setting
    families: dict[tuple[Any, ...], list[int]] = {}
    for i, config in configs.items():
        families.setdefault((config.head, config.hidden, config.loss, config.optimizer), []).append(i)
    for members in families.values():
        size = parameter_count(make_network(configs[members[0]], setting.dim, setting.train))
        most = stack_bytes // (5 * size * setting.dtype.itemsize)  # parameters, gradients, two moments, the best epoch
        if setting.device.type == "cpu":
            most = min(most, _CPU_STACK_PARAMETERS // size)
        for start in range(0, len(members), max(1, most)):
            yield members[start : start + max(1, most)]
