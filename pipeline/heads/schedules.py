"""How the learning rate of one configuration moves; formulas as in torch.optim.lr_scheduler.

    constant   lr
    step       x0.1 every 7 epochs
    plateau    halved after more than 3 epochs in which the training loss did not fall by 0.01 %, down to 1e-6
    cosine     half a cosine from lr to 0 over the epochs
    onecycle   per step: lr/25 up to lr over the first 30 % of the steps, then down to lr/250000 (cosine pieces);
               momentum and betas stay as configured

cosine and onecycle run their whole length and keep their last epoch: stopping them early, or taking an earlier epoch
for its luck on validation, would skip the low rates they exist for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

_STEP_EVERY, _STEP_FACTOR = 7, 0.1
_PLATEAU_FACTOR, _PLATEAU_PATIENCE, _PLATEAU_FLOOR, _PLATEAU_THRESHOLD = 0.5, 3, 1e-6, 1e-4
_CYCLE_WARM, _CYCLE_START, _CYCLE_END = 0.3, 25.0, 1e4

RUNS_WHOLE = frozenset({"cosine", "onecycle"})
"""Schedules on which early stopping does not act, and whose last epoch is kept where they reach it."""


class Scheduled(Protocol):
    """What a schedule has to know of a configuration."""

    @property
    def schedule(self) -> str:
        """Name of the schedule."""

    @property
    def lr(self) -> float:
        """The learning rate that the schedule moves."""

    @property
    def epochs(self) -> int:
        """Most epochs that are trained."""


class LearningRateSchedule:
    """The learning rate of one configuration, asked before every step and told the loss of every epoch."""

    def __init__(self, config: Scheduled, steps_per_epoch: int) -> None:
        self._config = config
        self._steps = steps_per_epoch
        self._shape = _SHAPES[config.schedule]
        self._plateau_lr = config.lr
        self._lowest = math.inf
        self._bad_epochs = 0

    def at(self, epoch: int, step: int) -> float:
        """The rate of step `step` (from 0) of epoch `epoch` (from 0)."""
        return self._shape(self, epoch, step)

    def observe(self, train_loss: float) -> None:
        """Tell the mean training loss of the epoch that ended; only plateau listens."""
        if train_loss < self._lowest * (1 - _PLATEAU_THRESHOLD):
            self._lowest, self._bad_epochs = train_loss, 0
        else:
            self._bad_epochs += 1
        if self._bad_epochs > _PLATEAU_PATIENCE:
            self._plateau_lr = max(self._plateau_lr * _PLATEAU_FACTOR, _PLATEAU_FLOOR)
            self._bad_epochs = 0

    def _constant(self, epoch: int, step: int) -> float:
        return self._config.lr

    def _stepwise(self, epoch: int, step: int) -> float:
        return float(self._config.lr * _STEP_FACTOR ** (epoch // _STEP_EVERY))

    def _plateau(self, epoch: int, step: int) -> float:
        return self._plateau_lr

    def _cosine(self, epoch: int, step: int) -> float:
        return self._config.lr * (1 + math.cos(math.pi * epoch / self._config.epochs)) / 2

    def _onecycle(self, epoch: int, step: int) -> float:
        total = self._config.epochs * self._steps
        now, peak, last = epoch * self._steps + step, _CYCLE_WARM * total - 1, total - 1
        low = self._config.lr / _CYCLE_START
        if now <= peak:
            return _ease(low, self._config.lr, now / peak)
        return _ease(self._config.lr, low / _CYCLE_END, (now - peak) / (last - peak))


def _ease(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


_SHAPES: Mapping[str, Callable[[LearningRateSchedule, int, int], float]] = {
    "constant": LearningRateSchedule._constant,
    "step": LearningRateSchedule._stepwise,
    "plateau": LearningRateSchedule._plateau,
    "cosine": LearningRateSchedule._cosine,
    "onecycle": LearningRateSchedule._onecycle,
}
