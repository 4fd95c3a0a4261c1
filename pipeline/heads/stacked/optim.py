"""Optimizer steps on stacked parameters, with the formulas of torch.optim and a rate per configuration.

    sgd     g += wd p;  v = momentum v + g;  p -= lr (v, or g + momentum v with Nesterov)
    adam    g += wd p;  m, v moving averages;  p -= lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + 1e-8)
    adamw   p -= lr wd p, then adam without the first line

Weight decay is for weights; biases are left alone (wd = 0), since they carry how rare each value is.
On CPU each configuration's slice goes through torch's fused kernels, which read every number once (about a third of
the time of the stacked formula); elsewhere, and where torch lacks them, the stacked formula runs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pipeline.heads.config import HeadConfig

_EPS = 1e-8


@dataclass
class Moments:
    """Parameters, gradients and optimizer state of stacked configurations that share an optimizer.

    Each list holds tensors with the configurations in front; `steps` counts the updates done.
    """

    parameters: list[Tensor]
    grads: list[Tensor]
    state: list[list[Tensor]]
    steps: int = 0

    def part(self, at: slice) -> Moments:
        """Some of the parameters, sharing memory with the whole."""
        return Moments(self.parameters[at], self.grads[at], [m[at] for m in self.state], self.steps)


class Rule(Protocol):
    """One optimizer: how many moments it keeps per parameter, and its two ways to take a step."""

    moments: int

    def stacked(self, configs: Sequence[HeadConfig], at: Moments, rates: Sequence[float]) -> None:
        """Update all configurations at once."""

    def fused(self, config: HeadConfig, i: int, at: Moments, rate: float) -> None:
        """Update configuration i with torch's fused kernel."""

    def has_fused(self) -> bool:
        """Whether this torch has the kernel."""


class _Sgd:
    moments = 1

    def stacked(self, configs: Sequence[HeadConfig], at: Moments, rates: Sequence[float]) -> None:
        for j, (p, g, v) in enumerate(zip(at.parameters, at.grads, at.state[0], strict=True)):
            lr, decay, momentum = (
                _per_config(values, p) for values in (rates, [c.weight_decay for c in configs], _momenta(configs))
            )
            ahead = _per_config([c.momentum if c.nesterov else 1.0 for c in configs], p)
            fresh = _per_config([float(c.nesterov) for c in configs], p)
            if _is_weight(j):
                g.addcmul_(p, decay)
            v.mul_(momentum).add_(g)
            p.sub_((v * ahead).addcmul_(g, fresh).mul_(lr))

    def fused(self, config: HeadConfig, i: int, at: Moments, rate: float) -> None:
        for which, decay in _decayed(config):
            velocity = [v[i] for v in at.state[0][which]] if config.momentum else []
            torch._fused_sgd_(
                [p[i] for p in at.parameters[which]], [g[i] for g in at.grads[which]], velocity,
                weight_decay=decay, momentum=config.momentum, lr=rate, dampening=0.0,
                nesterov=config.nesterov, maximize=False, is_first_step=at.steps == 1,
            )  # fmt: skip

    def has_fused(self) -> bool:
        return hasattr(torch, "_fused_sgd_")


def _is_weight(j: int) -> bool:
    """Parameters come as weight, bias, weight, bias."""
    return j % 2 == 0


def _decayed(config: HeadConfig) -> tuple[tuple[slice, float], ...]:
    """The parameters in groups of one weight decay."""
    if config.weight_decay == 0:
        return ((slice(None), 0.0),)
    return ((slice(0, None, 2), config.weight_decay), (slice(1, None, 2), 0.0))


def _momenta(configs: Sequence[HeadConfig]) -> list[float]:
    return [c.momentum for c in configs]


class _Adam:
    moments = 2

    def __init__(self, decoupled: bool) -> None:
        self._decoupled = decoupled

    def stacked(self, configs: Sequence[HeadConfig], at: Moments, rates: Sequence[float]) -> None:
        pairs = list(zip(rates, configs, strict=True))
        for j, (p, g, m, v) in enumerate(zip(at.parameters, at.grads, *at.state, strict=True)):
            if _is_weight(j) and self._decoupled:
                p.mul_(_per_config([1 - lr * c.weight_decay for lr, c in pairs], p))
            elif _is_weight(j):
                g.addcmul_(p, _per_config([c.weight_decay for c in configs], p))
            m.lerp_(g, _per_config([1 - c.betas[0] for c in configs], p))
            v.mul_(_per_config([c.betas[1] for c in configs], p))
            v.addcmul_(g * g, _per_config([1 - c.betas[1] for c in configs], p))
            scale = _per_config([(1 - c.betas[1] ** at.steps) ** -0.5 for c in configs], p)
            size = _per_config([lr / (1 - c.betas[0] ** at.steps) for lr, c in pairs], p)
            p.sub_((v.sqrt().mul_(scale).add_(_EPS)).reciprocal_().mul_(m).mul_(size))

    def fused(self, config: HeadConfig, i: int, at: Moments, rate: float) -> None:
        step = torch._fused_adamw_ if self._decoupled else torch._fused_adam_
        counter = torch.tensor(float(at.steps))
        for which, decay in _decayed(config):
            parameters = [p[i] for p in at.parameters[which]]
            step(
                parameters, [g[i] for g in at.grads[which]], [m[i] for m in at.state[0][which]],
                [v[i] for v in at.state[1][which]], [], [counter] * len(parameters),
                lr=rate, beta1=config.betas[0], beta2=config.betas[1], weight_decay=decay, eps=_EPS,
                amsgrad=False, maximize=False,
            )  # fmt: skip

    def has_fused(self) -> bool:
        return hasattr(torch, "_fused_adamw_" if self._decoupled else "_fused_adam_")


RULES: Mapping[str, Rule] = {"sgd": _Sgd(), "adam": _Adam(decoupled=False), "adamw": _Adam(decoupled=True)}


class StackedOptimizer:
    """One optimizer over neighbouring configurations of a stack."""

    def __init__(self, configs: Sequence[HeadConfig], parameters: list[Tensor], grads: list[Tensor]) -> None:
        self._configs = list(configs)
        self._rule = RULES[configs[0].optimizer]
        state = [[torch.zeros_like(p) for p in parameters] for _ in range(self._rule.moments)]
        self._at = Moments(parameters, grads, state)
        self.prefer_fused = parameters[0].device.type == "cpu" and self._rule.has_fused()

    def begin_step(self) -> None:
        """Count a step; `step` then updates the parameters part by part."""
        self._at.steps += 1

    def step(self, part: slice, rates: Sequence[float]) -> None:
        """Update some parameters of every configuration with its own rate; their gradients are used up."""
        at = self._at.part(part)
        if self.prefer_fused:
            for i, (config, rate) in enumerate(zip(self._configs, rates, strict=True)):
                self._rule.fused(config, i, at, rate)
        else:
            self._rule.stacked(self._configs, at, rates)

    def keep(self, positions: Sequence[int], parameters: list[Tensor], grads: list[Tensor]) -> None:
        """Go on with some of the configurations, whose parameters moved to new tensors."""
        index = torch.tensor(positions, device=parameters[0].device)
        self._configs = [self._configs[i] for i in positions]
        state = [[s.index_select(0, index) for s in moment] for moment in self._at.state]
        self._at = Moments(parameters, grads, state, self._at.steps)


def _per_config(values: Sequence[float], like: Tensor) -> Tensor:
    """(G, 1, ...) tensor that broadcasts over a stacked parameter."""
    return _column(tuple(values), like.dtype, like.device).view(-1, *[1] * (like.dim() - 1))


@functools.lru_cache(maxsize=256)
def _column(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Most columns are the same in every step; sending them to a GPU again would stall it."""
    return torch.tensor(values, dtype=dtype, device=device)
