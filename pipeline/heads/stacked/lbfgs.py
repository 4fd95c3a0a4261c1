"""L-BFGS for the linear head: all rows at once, one configuration at a time, every label with its own history and step.

The objective of a linear head falls apart: a sigmoid column shares no parameter with another, a softmax attribute none
with other attributes. Each such block runs its own L-BFGS (the two-loop recursion of Nocedal 1980), while one product
of all rows with all columns serves every block's loss and gradient. One L-BFGS over all parameters, as in torch.optim,
has to find a common step for easy and hard labels and needs more passes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.heads.config import HeadConfig
from pipeline.heads.schedules import LearningRateSchedule
from pipeline.heads.stacked.stack import Stack
from pipeline.heads.stacked.train import FitData, TrainingState

PASSES = 3
"""Passes over the rows per epoch; validation is looked at between epochs."""

_HISTORY = 10
_DECREASE = 1e-4  # Armijo's share of the decrease that the slope promises
_CONVERGED = 1e-5  # relative decrease of the objective over an epoch below which nothing more is to be had
_FLAT = 1e-30


@dataclass
class _Point:
    """Parameters and what they reach.

    Attributes:
        at: Parameters (L, d + 1), the bias last.
        gradient: Of the objective, (L, d + 1).
        objective: (L,), that of each column's block with the penalty.
        loss: (L,) by column.
    """

    at: Tensor
    gradient: Tensor
    objective: Tensor
    loss: Tensor

    def where(self, good: Tensor, other: _Point) -> _Point:
        """These numbers in the columns that `good` (L,) names, the other's elsewhere."""
        return _Point(
            torch.where(good[:, None], self.at, other.at),
            torch.where(good[:, None], self.gradient, other.gradient),
            torch.where(good, self.objective, other.objective),
            torch.where(good, self.loss, other.loss),
        )


@dataclass
class _Descent:
    """Where the blocks stand, their steps of the past (moves and how the gradient turned), and where each goes next."""

    stack: Stack
    data: FitData
    config: HeadConfig
    block_of: Tensor
    past: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        W, b = (p[0] for p in self.stack.parameters)
        W.zero_()
        self.now = self._measure(torch.cat([W, b[:, None]], dim=1))
        self.way = -self.now.gradient
        first = self._per_block(self.now.gradient.abs().sum(dim=1)).clamp_min(_FLAT).reciprocal().clamp_max(1.0)
        self.step = self.config.lr * first

    def advance(self) -> None:
        """Try the next step of every block in one pass; where the objective hardly falls, half of it is next."""
        tried = self._measure(self.now.at + self.step[:, None] * self.way)
        slope = self._dot(self.now.gradient, self.way)
        rounding = 4 * torch.finfo(tried.at.dtype).eps * self.now.objective.abs()
        good = tried.objective <= self.now.objective + _DECREASE * self.step * slope + rounding
        reached = tried.where(good, self.now)
        self.past = [*self.past, (reached.at - self.now.at, reached.gradient - self.now.gradient)][-_HISTORY:]
        self.now = reached
        self.way = torch.where(good[:, None], self._direction(), self.way)
        self.step = torch.where(good, torch.full_like(self.step, self.config.lr), self.step / 2)

    def total(self) -> float:
        """The whole objective, penalty included."""
        heads = self.block_of == torch.arange(len(self.block_of), device=self.block_of.device)
        return float(self.now.objective[heads].sum())

    def place(self) -> None:
        """Put the parameters reached into the stack."""
        self.stack.parameters[0][0].copy_(self.now.at[:, :-1])
        self.stack.parameters[1][0].copy_(self.now.at[:, -1])

    def _direction(self) -> Tensor:
        """-H g of every block; a step without curvature (a refused one, or rounding) leaves no trace."""
        way, shares = -self.now.gradient, []
        for moved, turned in reversed(self.past):
            curvature = self._dot(moved, turned)
            inverse = torch.where(curvature > _FLAT, 1 / curvature, 0.0)
            share = inverse * self._dot(moved, way)
            way = way - share[:, None] * turned
            shares.append((inverse, share))
        moved, turned = self.past[-1]
        scale = self._dot(moved, turned) / self._dot(turned, turned).clamp_min(_FLAT)
        way = way * torch.where(scale > 0, scale, 1.0)[:, None]
        for (moved, turned), (inverse, share) in zip(self.past, reversed(shares), strict=True):
            way = way + (share - inverse * self._dot(turned, way))[:, None] * moved
        return way

    def _measure(self, at: Tensor) -> _Point:
        """Objective and gradient at some parameters, in one pass over the training rows."""
        W, b = (p[0] for p in self.stack.parameters)
        W.copy_(at[:, :-1])
        b.copy_(at[:, -1])
        sums, gradient = torch.zeros_like(b, dtype=torch.float64), torch.zeros_like(at)
        for x, batch in self.data.train_in_order():
            split, (dW, db) = self.stack.sums(x, batch)
            sums += split[0]
            gradient[:, :-1] += dW[0]
            gradient[:, -1] += db[0]
        pairs = self.stack.take_tally().pairs[0]
        decay = self.config.weight_decay  # for the weights; the bias is not penalised
        gradient.div_(pairs)
        gradient[:, :-1].add_(W, alpha=decay)
        penalty = decay / 2 * W.double().square().sum(dim=1)
        return _Point(at, gradient, self._per_block(sums / pairs + penalty), sums / pairs)

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        return self._per_block((a * b).sum(dim=1))

    def _per_block(self, values: Tensor) -> Tensor:
        """(L,) sums over each column's block."""
        return torch.zeros_like(values).index_add_(0, self.block_of, values)[self.block_of]


def fit_lbfgs(position: int, config: HeadConfig, data: FitData, stop_at: int = 0) -> TrainingState:
    """Train one linear head on all rows at once; weight decay is the penalty wd/2 |W|^2 in the objective.

    It starts from the values' priors with zero weights, so that no seed matters, and stops when an epoch lowers the
    objective by less than 0.001 %.

    Args:
        position: Its place in the caller's list.
        config: A linear head.
        data: Both sides of the split.
        stop_at: The epoch to stop at and keep, whatever the validation loss; 0 keeps the best one.

    Returns:
        The record, with the parameters of the best epoch.
    """
    started = time.perf_counter()
    stack = Stack([config], data.setting)
    record = TrainingState(position, config, stack.network, LearningRateSchedule(config, 1), stop_at=stop_at)
    descent = _Descent(stack, data, config, _blocks(config, data))
    before = descent.total()
    for epoch in range(1, config.epochs + 1):
        for _ in range(PASSES):
            descent.advance()
        descent.place()
        for x, batch in data.validation_batches():
            stack.evaluate(x, batch)
        tally = stack.take_tally()
        if record.close_epoch(epoch, float(descent.now.loss.sum()), tally.mean_loss()[0], tally.micro_f1()[0]):
            record.keep_best([p[0] for p in stack.parameters])
        now = descent.total()
        if not stop_at and not record.done and before - now <= _CONVERGED * abs(now):
            record.done, record.note = True, f"converged at epoch {epoch}"
        before = now
        if record.done:
            break
    record.seconds = time.perf_counter() - started
    return record


def _blocks(config: HeadConfig, data: FitData) -> Tensor:
    """(L,) the first column of the block each column belongs to."""
    setting = data.setting
    first = torch.arange(setting.train.size, device=setting.device)
    for columns in setting.data.pieces(config.loss).soft:
        first[columns] = columns.start
    return first
