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
from pipeline.heads.schedules import RUNS_WHOLE, Rate
from pipeline.heads.source import FeatureSource
from pipeline.heads.stacked.layers import Layer, Network
from pipeline.heads.stacked.losses import Batch, LossData
from pipeline.heads.stacked.networks import make_network
from pipeline.heads.stacked.stack import Setting, Stack, drop_units, in_bytes, initial_parameters, parameter_count

_EVALUATION_ROWS = 512
_CPU_STACK_PARAMETERS = 2_000_000  # parameters, gradients and state of a stack should stay near the cores
_BLOCK = 1024
_DROP_SEED = 1 << 40  # keeps the input dropout apart from the configurations' own generators


@dataclass(frozen=True)
class FitData:
    """Features and targets on both sides of the split, and how features are standardised (d,) in `setting.dtype`."""

    setting: Setting
    train: FeatureSource
    validation: FeatureSource
    validation_data: LossData
    mean: Tensor
    scale: Tensor
    order_seed: int

    def train_batches(self, reading: tuple[int, float], epoch: int) -> Iterator[tuple[Tensor, Batch]]:
        """Standardised training batches of one epoch; (seed, epoch) decides their order and which inputs are dropped.

        reading : batch size and input dropout (`HeadConfig.reading`).
        """
        batch_size, drop = reading[0], in_bytes(reading[1])
        random = torch.Generator(self.setting.device).manual_seed(_DROP_SEED + (self.order_seed << 20) + epoch)
        for x, batch in self._ready(self.train.batches(batch_size, (self.order_seed, epoch)), self.setting.data):
            if drop:
                drop_units(x, drop, random)
            yield x, batch

    def train_in_order(self) -> Iterator[tuple[Tensor, Batch]]:
        """All training rows in batches that suit one configuration alone."""
        return self._ready(self.train.batches(4 * _EVALUATION_ROWS, None), self.setting.data)

    def validation_batches(self) -> Iterator[tuple[Tensor, Batch]]:
        """All validation rows (and views) in large batches."""
        return self._ready(self.validation.batches(_EVALUATION_ROWS, None), self.validation_data)

    def _ready(self, batches: Iterable[tuple[Tensor, Tensor]], data: LossData) -> Iterator[tuple[Tensor, Batch]]:
        for rows, x in batches:
            yield x.to(self.setting.dtype).sub_(self.mean).mul_(self.scale), data.batch(rows)


@dataclass
class Record:
    """What is known about one configuration while it trains; `position` is its place in the caller's list."""

    position: int
    config: HeadConfig
    network: Network
    rate: Rate
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

    def close_epoch(self, epoch: int, train_loss: float, validation: tuple[float, float]) -> bool:
        """Record an epoch (from 1), decide whether to go on; True when its parameters are the best so far."""
        loss, micro_f1 = validation
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


Report = Callable[[int, int, Sequence[Record]], None]
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
        self.records: list[Record] = []
        self._stacks: list[tuple[Stack, list[Record]]] = []
        for members in _families(configs, data, stack_bytes):
            stack = Stack([configs[i] for i in members], data.setting)
            records = [Record(i, c, stack.network, Rate(c, steps)) for i, c in zip(members, stack.configs, strict=True)]
            self._stacks.append((stack, records))
            for record in records:
                record.stop_at = stop_at[record.position] if stop_at else 0
            self.records.extend(records)

    @property
    def active(self) -> list[Record]:
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

    def drop(self, records: Sequence[Record], note: str) -> None:
        """Stop some configurations; their best epoch so far is kept."""
        for record in records:
            record.done, record.note = True, note
        self._compact()

    def _train_epoch(self) -> None:
        for step, (x, batch) in enumerate(self._data.train_batches(self._reading, self._epoch)):
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
            scores = zip(tally.mean_loss(), tally.micro_f1(), strict=True)
            for i, (record, train_loss, score) in enumerate(zip(records, losses, scores, strict=True)):
                if record.close_epoch(self._epoch, train_loss, score):
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
