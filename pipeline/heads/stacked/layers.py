"""What the networks of a stack share: their contract, the first layer of all configurations at once, rectifiers.

The first layer of all G configurations is one product x @ (d, G * out); later layers are batched products.
Activations are rectified linear units. Every array of a stack is laid out so that one configuration is one slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Float32 = npt.NDArray[np.float32]
Layer = tuple[Float32, Float32]


class Drop(Protocol):
    """Drops hidden units of (G, b, H) activations in place, scaling the kept ones by `scales` (G, 1, 1)."""

    scales: Tensor

    def __call__(self, h: Tensor) -> None:
        """Drop in place."""


@dataclass(frozen=True)
class Passed:
    """What a forward pass leaves for the backward pass: its input, hidden activations and dropout factors."""

    x: Tensor
    hidden: list[Tensor]
    scales: Tensor | None


class Network(Protocol):
    """What a stack needs from the shape family of its configurations.

    shapes : of one configuration's parameters.  parts : the parameters in groups that `backward` finishes together.
    """

    shapes: tuple[tuple[int, ...], ...]
    parts: tuple[slice, ...]

    def bounds(self) -> tuple[float, ...]:
        """Per parameter, the bound of its uniform initialisation (1/sqrt(fan in), as torch.nn.Linear)."""

    def add_bias(self, parameters: Sequence[Tensor], bias: Tensor) -> None:
        """Add (L,) to the output biases of one configuration's parameters (without the leading G)."""

    def forward(self, parameters: Sequence[Tensor], x: Tensor, drop: Drop | None) -> tuple[Tensor, Passed]:
        """Logits (G, b, L) of x (b, d), and the hidden activations for `backward`."""

    def backward(
        self, parameters: Sequence[Tensor], passed: Passed, dz: Tensor, grads: Sequence[Tensor]
    ) -> Iterator[slice]:
        """Write dJ/d parameters into `grads`, given dJ/d logits; the hidden activations are used up.

        Yields each part once its gradients are written. By then its parameters are not read again, so they may be
        updated, and the memory of its gradients may serve the next part.
        """

    def dense(self, arrays: Sequence[Float32]) -> list[Layer]:
        """One configuration's parameters as dense layers (W (d_in, d_out), b (d_out,))."""


def in_parts(count: int, size: int) -> tuple[slice, ...]:
    """`count` neighbouring parts of `size` parameters."""
    return tuple(slice(i * size, (i + 1) * size) for i in range(count))


def gradient_buffers(parameters: Sequence[Tensor], parts: Sequence[slice]) -> list[Tensor]:
    """A gradient for each parameter, all parts in the same memory, which is that of the largest part."""
    largest = max(sum(p.numel() for p in parameters[part]) for part in parts)
    memory = parameters[0].new_empty(largest)
    grads = []
    for part in parts:
        start = 0
        for p in parameters[part]:
            grads.append(memory[start : start + p.numel()].view(p.shape))
            start += p.numel()
    return grads


def wide_layer(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """x @ W.T + b of all configurations in one product: (G, b, out) as a view of memory laid out (b, G, out)."""
    out = torch.addmm(b.view(-1), x, W.view(-1, W.shape[-1]).t())
    return out.view(len(x), W.shape[0], -1).transpose(0, 1)


def wide_backward(x: Tensor, dz: Tensor, W: Tensor, b: Tensor) -> None:
    """The gradients of `wide_layer`, into W (G, out, d) and b (G, out)."""
    flat = dz.transpose(0, 1).reshape(len(x), -1)
    torch.mm(flat.t(), x, out=W.view(-1, W.shape[-1]))
    torch.sum(flat, dim=0, out=b.view(-1))


def through_relu(h: Tensor, dh: Tensor, scales: Tensor | None) -> Tensor:
    """dJ/d(input of the rectifier), in the memory of h: h > 0 exactly where the unit was on and not dropped."""
    h.sign_().mul_(dh)
    return h if scales is None else h.mul_(scales)
