"""L-BFGS for the linear head: full-batch, one configuration at a time, with torch.optim.LBFGS and its line search."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from pipeline.heads.config import HeadConfig
from pipeline.heads.schedules import Rate
from pipeline.heads.stack import Stack
from pipeline.heads.train import FitData, Record

ITERATIONS = 3
"""Iterations per epoch; validation is looked at between epochs."""


def fit_lbfgs(position: int, config: HeadConfig, data: FitData, stop_at: int = 0) -> Record:
    """Train one linear head on all rows at once; weight decay is the penalty wd/2 |W|^2 in the objective.

    stop_at : the epoch to stop at and keep, whatever the validation loss; 0 keeps the best one.
    """
    stack = Stack([config], data.setting)
    record = Record(position, config, stack.network, Rate(config, 1), stop_at=stop_at)
    optimizer = torch.optim.LBFGS(stack.parameters, lr=config.lr, max_iter=ITERATIONS, line_search_fn="strong_wolfe")
    started = time.perf_counter()
    for epoch in range(1, config.epochs + 1):
        with torch.no_grad():
            first = float(optimizer.step(lambda: _objective(stack, config, data)))  # type: ignore[no-untyped-call]
            _evaluate(stack, data)
        tally = stack.take_tally()
        score = (tally.mean_loss()[0], tally.micro_f1()[0])
        if record.close_epoch(epoch, first, score):
            record.keep_best([p[0] for p in stack.parameters])
        if record.done:
            break
    record.seconds = time.perf_counter() - started
    return record


def _objective(stack: Stack, config: HeadConfig, data: FitData) -> Tensor:
    """J over all training rows; its gradient goes into the parameters' `grad`."""
    sums = [torch.zeros_like(p) for p in stack.parameters]
    for x, batch in data.train_in_order():
        pairs = stack.pairs(batch)
        for part in stack.gradients(x, batch):
            for total, grad in zip(sums[part], stack.grads[part], strict=True):
                total.add_(grad * pairs)
    tally = stack.take_tally()
    loss = (tally.loss / tally.pairs)[0]
    for p, total in zip(stack.parameters, sums, strict=True):
        p.grad = total.div_(tally.pairs[0])
    weight = stack.parameters[0]  # the bias is not penalised
    sums[0].add_(weight, alpha=config.weight_decay)
    loss = loss + config.weight_decay / 2 * weight.double().square().sum()
    return loss


def _evaluate(stack: Stack, data: FitData) -> None:
    for x, batch in data.validation_batches():
        stack.evaluate(x, batch)
