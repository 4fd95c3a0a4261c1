"""A stack: configurations of one shape family whose parameters lie in common tensors and are trained together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.heads.config import HeadConfig
from pipeline.heads.stacked.losses import LossData, StackedLoss, TargetBatch, prior_logits
from pipeline.heads.stacked.networks import Network, make_network
from pipeline.heads.stacked.optim import StackedOptimizer
from pipeline.heads.targets import Targets


@dataclass(frozen=True)
class Setting:
    """What all stacks of a fit share.

    Attributes:
        dim: d, the numbers per photo.
        train: The training rows' targets.
        data: The same on the device.
        device: Where everything is computed.
        dtype: float32, or float64 for checks.
    """

    dim: int
    train: Targets
    data: LossData
    device: torch.device
    dtype: torch.dtype


def initial_parameters(config: HeadConfig, network: Network, train: Targets) -> list[Tensor]:
    """Parameters of one configuration, drawn from its seed.

    Uniform within 1/sqrt(fan in) as torch.nn.Linear; the output bias is moved to the values' prior (less what logit
    adjustment adds), so that no epoch is spent on learning how rare each value is.

    Args:
        config: Seed, loss and logit adjustment.
        network: Its shapes.
        train: Where the priors come from.

    Returns:
        A float32 tensor on the CPU for each of `network.shapes`.
    """
    generator = torch.Generator().manual_seed(config.seed)
    parameters = [
        torch.empty(shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
        for shape, bound in zip(network.shapes, network.bounds(), strict=True)
    ]
    prior = torch.from_numpy(prior_logits(config.loss, train))
    network.add_bias(parameters, ((1 - config.logit_adjust) * prior).float())
    return parameters


def drop_units(h: Tensor, drop: int, generator: torch.Generator) -> None:
    """Drop units in place, each with probability drop / 256, and scale the others up to keep the mean.

    One random byte per unit: eight units share a draw, which makes the draws a small part of a step.

    Args:
        h: (b, H), floating.
        drop: 0 to 255.
        generator: On the device of h.
    """
    draw = torch.empty(-(-h.numel() // 8), dtype=torch.int64, device=h.device)
    draw.random_(-(2**63), None, generator=generator)
    kept = draw.view(torch.uint8)[: h.numel()].view(h.shape) >= drop
    h.mul_(kept.to(h.dtype).mul_(256 / (256 - drop)))


def in_bytes(share: float) -> int:
    """A dropout share as a number of 256ths."""
    return min(round(256 * share), 255)


class Dropout:
    """Inverted dropout with a generator per configuration, keeping a unit with probability 1 - round(256 p) / 256.

    Attributes:
        active: Whether any configuration drops anything.
    """

    def __init__(self, configs: Sequence[HeadConfig], device: torch.device) -> None:
        self._drops = [in_bytes(c.dropout) for c in configs]
        self._generators = [torch.Generator(device).manual_seed(c.seed + 1) for c in configs]
        self.active = any(self._drops)

    def __call__(self, h: Tensor) -> Tensor:
        """Hidden activations (G, b, H) with units dropped, each configuration's by its own generator."""
        factors = torch.ones_like(h, requires_grad=False)
        for i, (drop, generator) in enumerate(zip(self._drops, self._generators, strict=True)):
            if drop:
                drop_units(factors[i], drop, generator)
        return h * factors

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with some of the configurations, their generators where they were."""
        self._drops = [self._drops[i] for i in positions]
        self._generators = [self._generators[i] for i in positions]
        self.active = any(self._drops)


@dataclass
class Tally:
    """Sums over an epoch per configuration, (G,) float64 each on the device.

    Attributes:
        loss: S of the objective.
        pairs: N of the objective, the known (photo, attribute) pairs.
        hits: Known cells that are true and decided (`decide_at_half`).
        decided: Known cells that are decided.
        positives: Known cells that are true.
    """

    loss: Tensor
    pairs: Tensor
    hits: Tensor
    decided: Tensor
    positives: Tensor

    @classmethod
    def zeros(cls, stacked: int, setting: Setting) -> Tally:
        """Nothing counted yet."""
        return cls(*(torch.zeros(stacked, dtype=torch.float64, device=setting.device) for _ in range(5)))

    def mean_loss(self) -> list[float]:
        """Loss per known pair; NaN when nothing was known."""
        return [float(v) for v in (self.loss / self.pairs).cpu()]

    def micro_f1(self) -> list[float]:
        """2 hits / (decided + positives), all thresholds at 1/2 (`decide_at_half`); 0 when both are empty."""
        return [float(v) for v in (2 * self.hits / (self.decided + self.positives).clamp_min(1)).cpu()]


class Stack:
    """G configurations of one shape family, loss and optimizer: their parameters, training step and evaluation.

    Attributes:
        configs: The G configurations.
        network: The shape family.
        parameters: (G, *shape) for each of the network's shapes, without gradients of their own.
    """

    def __init__(self, configs: Sequence[HeadConfig], setting: Setting) -> None:
        self.configs = list(configs)
        self.network = make_network(configs[0], setting.dim, setting.train)
        self._setting = setting
        self._dropout = Dropout(self.configs, setting.device)
        stacked = len(self.configs)
        self.parameters = [
            torch.empty((stacked, *shape), dtype=setting.dtype, device=setting.device) for shape in self.network.shapes
        ]
        for i, config in enumerate(self.configs):
            for p, drawn in zip(self.parameters, initial_parameters(config, self.network, setting.train), strict=True):
                p[i].copy_(drawn)
        self._loss = StackedLoss(self.configs, setting.train, setting.data)
        self._optimizer: StackedOptimizer | None = None
        self._tally = Tally.zeros(len(self.configs), setting)

    def step(self, x: Tensor, batch: TargetBatch, rates: Sequence[float]) -> None:
        """One update of every configuration.

        Args:
            x: Standardised features (b, d).
            batch: Their targets.
            rates: G learning rates.
        """
        if self._optimizer is None:
            self._optimizer = StackedOptimizer(self.configs, self.parameters)
        self._optimizer.step(self.parameters, self.gradients(x, batch), rates)

    def gradients(self, x: Tensor, batch: TargetBatch) -> list[Tensor]:
        """dJ/d parameters, contiguous, with dropout; the batch's loss is added to the tally."""
        followed = self._followed()
        z = self.network.forward(followed, x, self._dropout if self._dropout.active else None)
        total, dz = self._loss.train(z.detach(), batch)
        self._tally.loss += total
        self._tally.pairs += self._loss.pairs(batch)
        return _through(z, dz, followed)

    def sums(self, x: Tensor, batch: TargetBatch) -> tuple[Tensor, list[Tensor]]:
        """S (G, L) of this batch by column (`StackedLoss.columns`) and dS/d parameters, both without dropout.

        N of the batch goes to the tally.
        """
        followed = self._followed()
        z = self.network.forward(followed, x)
        split, dz = self._loss.columns(z.detach(), batch)
        self._tally.pairs += self._loss.pairs(batch)
        return split, _through(z, dz, followed)

    def _followed(self) -> list[Tensor]:
        """The parameters as autograd has to see them, on the same memory."""
        return [p.detach().requires_grad_() for p in self.parameters]

    def evaluate(self, x: Tensor, batch: TargetBatch) -> None:
        """Add the plain loss and the micro-F1 counts of this batch to the tally."""
        z = self.network.forward(self.parameters, x)
        self._tally.loss += self._loss.value(z, batch)
        self._tally.pairs += self._loss.pairs(batch)
        decided = decide_at_half(z, self._setting.train)
        truth = batch.y * batch.known
        self._tally.hits += torch.einsum("gbl,bl->g", decided, truth)
        self._tally.decided += torch.einsum("gbl,bl->g", decided, batch.known)
        self._tally.positives += truth.sum()

    def take_tally(self) -> Tally:
        """The sums since the last call, starting again from zero."""
        done, self._tally = self._tally, Tally.zeros(len(self.configs), self._setting)
        return done

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with some of the configurations only; the others' memory is given back."""
        index = torch.tensor(positions, device=self._setting.device)
        self.configs = [self.configs[i] for i in positions]
        self.parameters = [p.index_select(0, index) for p in self.parameters]
        self._dropout.keep(positions)
        self._loss = StackedLoss(self.configs, self._setting.train, self._setting.data)
        if self._optimizer is not None:
            self._optimizer.keep(positions)
        self._tally = Tally.zeros(len(self.configs), self._setting)


def _through(z: Tensor, dz: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of each parameter by autograd, given that of the logits; laid out like the parameters."""
    return [g.contiguous() for g in torch.autograd.grad(z, parameters, dz)]


def decide_at_half(z: Tensor, targets: Targets) -> Tensor:
    """What a model would decide before its thresholds are chosen: neither gate nor UNKNOWN, every threshold at 1/2.

    The figures of evaluation use the rule of the model file, with thresholds, gate and UNKNOWN; this one only watches
    training.

    Args:
        z: Logits (G, b, L).
        targets: Which columns are an attribute's, and whether it takes one value.

    Returns:
        (G, b, L), 0 or 1 in z's dtype: the best value of a single-valued attribute, logits above 0 elsewhere.
    """
    decided = (z > 0).to(z.dtype)
    for single, columns in zip(targets.single, targets.slices, strict=True):
        if single:
            best = z[..., columns].argmax(dim=-1, keepdim=True)
            decided[..., columns] = torch.zeros_like(decided[..., columns]).scatter_(-1, best, 1.0)
    return decided


def parameter_count(network: Network) -> int:
    """Numbers in one configuration's parameters."""
    return sum(math.prod(shape) for shape in network.shapes)
