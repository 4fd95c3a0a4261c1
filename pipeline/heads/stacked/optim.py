"""Optimizer steps on stacked parameters: torch.optim's own, with a rate (and every other setting) per configuration.

    sgd     g += wd p;  v = momentum v + g;  p -= lr (v, or g + momentum v with Nesterov)
    adam    g += wd p;  m, v moving averages;  p -= lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + 1e-8)
    adamw   p -= lr wd p, then adam without the first line

Weight decay is for weights; biases are left alone (wd = 0), since they carry how rare each value is.
On CPU each configuration's slice goes through torch.optim's functional form, fused: it reads every number once (about a
third of the time of the stacked formula). Elsewhere, where a launch per configuration would cost more than the step,
the formula runs on all configurations at once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from pipeline.heads.config import HeadConfig

FUSED_ON = frozenset({"cpu"})
"""Device types on which every configuration takes its step by itself, through torch.optim."""

_EPS = 1e-8


@dataclass(frozen=True)
class Update:
    """What step `t` (from 1) changes in place; the gradients are used up.

    Attributes:
        parameters: Weight, bias, weight, bias, ...
        grads: A gradient for each parameter.
        state: For each moment of the optimizer, a tensor for each parameter.
        t: Number of the step.
    """

    parameters: list[Tensor]
    grads: list[Tensor]
    state: list[list[Tensor]]
    t: int

    def of(self, i: int, which: slice) -> Update:
        """Some of the parameters of configuration i, sharing memory with the whole."""
        parameters, grads, *state = (
            [t[i] for t in tensors[which]] for tensors in (self.parameters, self.grads, *self.state)
        )
        return Update(parameters, grads, state, self.t)


class Rule(Protocol):
    """One optimizer: how many moments it keeps per parameter, and its two ways to take a step."""

    moments: int

    def stacked(self, configs: Sequence[HeadConfig], rates: Sequence[float], at: Update) -> None:
        """Update all configurations at once, each with its rate; tensors are (G, ...)."""

    def alone(self, config: HeadConfig, rate: float, decay: float, at: Update) -> None:
        """Update parameters of one configuration, all of one weight decay, by torch.optim."""


class _Sgd:
    moments = 1

    def stacked(self, configs: Sequence[HeadConfig], rates: Sequence[float], at: Update) -> None:
        for j, (p, g, v) in enumerate(zip(at.parameters, at.grads, at.state[0], strict=True)):
            lr, momentum = _per_config(rates, p), _per_config([c.momentum for c in configs], p)
            ahead = _per_config([c.momentum if c.nesterov else 1.0 for c in configs], p)
            fresh = _per_config([float(c.nesterov) for c in configs], p)
            if _is_weight(j):
                g.addcmul_(p, _per_config([c.weight_decay for c in configs], p))
            v.mul_(momentum).add_(g)
            p.sub_((v * ahead).addcmul_(g, fresh).mul_(lr))

    def alone(self, config: HeadConfig, rate: float, decay: float, at: Update) -> None:
        velocity: list[Tensor | None] = [v if config.momentum else None for v in at.state[0]]
        sgd(
            at.parameters, at.grads, velocity, fused=True, weight_decay=decay, momentum=config.momentum, lr=rate,
            dampening=0.0, nesterov=config.nesterov, maximize=False,
        )  # fmt: skip


class _Adam:
    moments = 2

    def __init__(self, decoupled: bool) -> None:
        self._decoupled = decoupled

    def stacked(self, configs: Sequence[HeadConfig], rates: Sequence[float], at: Update) -> None:
        pairs = list(zip(rates, configs, strict=True))
        for j, (p, g, m, v) in enumerate(zip(at.parameters, at.grads, *at.state, strict=True)):
            if _is_weight(j) and self._decoupled:
                p.mul_(_per_config([1 - lr * c.weight_decay for lr, c in pairs], p))
            elif _is_weight(j):
                g.addcmul_(p, _per_config([c.weight_decay for c in configs], p))
            m.lerp_(g, _per_config([1 - c.betas[0] for c in configs], p))
            v.mul_(_per_config([c.betas[1] for c in configs], p))
            v.addcmul_(g * g, _per_config([1 - c.betas[1] for c in configs], p))
            scale = _per_config([(1 - c.betas[1] ** at.t) ** -0.5 for c in configs], p)
            size = _per_config([lr / (1 - c.betas[0] ** at.t) for lr, c in pairs], p)
            p.sub_((v.sqrt().mul_(scale).add_(_EPS)).reciprocal_().mul_(m).mul_(size))

    def alone(self, config: HeadConfig, rate: float, decay: float, at: Update) -> None:
        done = list(torch.full((len(at.parameters),), at.t - 1.0).unbind())  # torch counts each of them up by one
        step = adamw if self._decoupled else adam
        step(
            at.parameters, at.grads, at.state[0], at.state[1], [], done, fused=True, amsgrad=False, maximize=False,
            beta1=config.betas[0], beta2=config.betas[1], lr=rate, weight_decay=decay, eps=_EPS,
        )  # fmt: skip


RULES: Mapping[str, Rule] = {"sgd": _Sgd(), "adam": _Adam(decoupled=False), "adamw": _Adam(decoupled=True)}


class StackedOptimizer:
    """One optimizer over neighbouring configurations of a stack."""

    def __init__(self, configs: Sequence[HeadConfig], parameters: Sequence[Tensor]) -> None:
        self._configs = list(configs)
        self._rule = RULES[configs[0].optimizer]
        self._state = [[torch.zeros_like(p) for p in parameters] for _ in range(self._rule.moments)]
        self._steps = 0
        self._alone = parameters[0].device.type in FUSED_ON

    def step(self, parameters: Sequence[Tensor], grads: Sequence[Tensor], rates: Sequence[float]) -> None:
        """Update the stacked parameters (G, ...) in place, every configuration with its own rate.

        Args:
            parameters: As given to the constructor, or what `keep` left of them.
            grads: A contiguous gradient for each of them; used up.
            rates: G learning rates.
        """
        self._steps += 1
        at = Update(list(parameters), list(grads), self._state, self._steps)
        if not self._alone:
            self._rule.stacked(self._configs, rates, at)
            return
        for i, (config, rate) in enumerate(zip(self._configs, rates, strict=True)):
            for which, decay in _decayed(config):
                self._rule.alone(config, rate, decay, at.of(i, which))

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with some of the configurations; the others' state is given back."""
        index = torch.tensor(positions, device=self._state[0][0].device)
        self._configs = [self._configs[i] for i in positions]
        self._state = [[s.index_select(0, index) for s in moment] for moment in self._state]


def _is_weight(j: int) -> bool:
    """Parameters come as weight, bias, weight, bias."""
    return j % 2 == 0


def _decayed(config: HeadConfig) -> tuple[tuple[slice, float], ...]:
    """The parameters in groups of one weight decay."""
    if config.weight_decay == 0:
        return ((slice(None), 0.0),)
    return ((slice(0, None, 2), config.weight_decay), (slice(1, None, 2), 0.0))


def _per_config(values: Sequence[float], like: Tensor) -> Tensor:
    """(G, 1, ...) tensor that broadcasts over a stacked parameter."""
    return _column(tuple(values), like.dtype, like.device).view(-1, *[1] * (like.dim() - 1))


@functools.lru_cache(maxsize=256)
def _column(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Most columns are the same in every step; sending them to a GPU again would stall it."""
    return torch.tensor(values, dtype=dtype, device=device)
