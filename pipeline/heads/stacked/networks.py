"""The networks of G stacked configurations: parameters with a leading G, and the forward pass that autograd follows.

The first layer of all G configurations is one product x @ (d, G * out); later layers are batched products.
Activations are rectified linear units. Every array of a stack is laid out so that one configuration is one slice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from pipeline.arrays import Float32
from pipeline.heads.config import HeadConfig
from pipeline.heads.targets import Targets

Layer = tuple[Float32, Float32]
Drop = Callable[[Tensor], Tensor]
"""Hidden activations (G, b, H) -> the same with units dropped."""


class Network(Protocol):
    """What a stack needs from the shape family of its configurations.

    Attributes:
        shapes: Shapes of one configuration's parameters: weight, bias, weight, bias, ...
    """

    shapes: tuple[tuple[int, ...], ...]

    def bounds(self) -> tuple[float, ...]:
        """Per parameter, the bound of its uniform initialisation (1/sqrt(fan in), as torch.nn.Linear)."""

    def add_bias(self, parameters: Sequence[Tensor], bias: Tensor) -> None:
        """Add a bias to the outputs of one configuration.

        Args:
            parameters: The configuration's own, without the leading G; changed in place.
            bias: (L,), one number per label.
        """

    def forward(self, parameters: Sequence[Tensor], x: Tensor, drop: Drop | None = None) -> Tensor:
        """Logits of all configurations.

        Args:
            parameters: (G, *shape) for each of `shapes`.
            x: Standardised features (b, d).
            drop: What happens to the hidden activations; None keeps them.

        Returns:
            (G, b, L), on memory that autograd does not need again.
        """

    def dense(self, arrays: Sequence[Float32]) -> list[Layer]:
        """One configuration's parameters (without the leading G) as dense layers (W (d_in, d_out), b (d_out,))."""


class DenseNetwork:
    """`linear` (no hidden layer) and `mlp`: one trunk for all attributes."""

    def __init__(self, dim: int, hidden: Sequence[int], labels: int) -> None:
        pairs = list(itertools.pairwise([dim, *hidden, labels]))
        self.shapes: tuple[tuple[int, ...], ...] = tuple(shape for a, b in pairs for shape in ((b, a), (b,)))
        self._fan_in = [a for a, _ in pairs]

    def bounds(self) -> tuple[float, ...]:
        """See `Network.bounds`."""
        return tuple(a**-0.5 for a in self._fan_in for _ in range(2))

    def add_bias(self, parameters: Sequence[Tensor], bias: Tensor) -> None:
        """See `Network.add_bias`."""
        parameters[-1].add_(bias)

    def forward(self, parameters: Sequence[Tensor], x: Tensor, drop: Drop | None = None) -> Tensor:
        """See `Network.forward`."""
        z = _wide_layer(x, parameters[0], parameters[1])
        for W, b in zip(parameters[2::2], parameters[3::2], strict=True):
            h = torch.relu(z)
            z = _batched_layer(h if drop is None else drop(h), W, b)
        return z

    def dense(self, arrays: Sequence[Float32]) -> list[Layer]:
        """See `Network.dense`."""
        return [(np.ascontiguousarray(W.T), b) for W, b in zip(arrays[0::2], arrays[1::2], strict=True)]


class PerAttributeNetwork:
    """`mlp-per-key`: d -> hidden -> values, a separate small network per attribute, computed in grouped products.

    Attributes of similar size share a bucket: one wide product d -> k * hidden, then one batched product whose k
    outputs are padded to the bucket's largest (at most twice its smallest, so little is wasted however skewed it is).
    """

    def __init__(self, dim: int, hidden: int, slices: Sequence[slice]) -> None:
        self._dim, self._hidden, self._slices = dim, hidden, slices
        self._sizes = [s.stop - s.start for s in slices]
        self._buckets = _buckets_of(self._sizes)
        self.shapes: tuple[tuple[int, ...], ...] = tuple(
            shape
            for attributes in self._buckets
            for k, width in ((len(attributes), self._sizes[attributes[0]]),)
            for shape in ((k * hidden, dim), (k * hidden,), (k, width, hidden), (k, width))
        )

    def bounds(self) -> tuple[float, ...]:
        """See `Network.bounds`."""
        first, second = self._dim**-0.5, self._hidden**-0.5
        return (first, first, second, second) * len(self._buckets)

    def add_bias(self, parameters: Sequence[Tensor], bias: Tensor) -> None:
        """See `Network.add_bias`."""
        for attributes, b in zip(self._buckets, parameters[3::4], strict=True):
            for k, attribute in enumerate(attributes):
                b[k, : self._sizes[attribute]] += bias[self._slices[attribute]]

    def forward(self, parameters: Sequence[Tensor], x: Tensor, drop: Drop | None = None) -> Tensor:
        """See `Network.forward`."""
        stacked, rows = parameters[0].shape[0], x.shape[0]
        by_attribute: dict[int, Tensor] = {}
        for i, attributes in enumerate(self._buckets):
            W1, b1, W2, b2 = parameters[4 * i : 4 * i + 4]
            h = torch.relu(_wide_layer(x, W1, b1))
            h = self._split(h if drop is None else drop(h))
            out = _batched_layer(h, W2.flatten(0, 1), b2.flatten(0, 1))
            padded = out.view(stacked, len(attributes), rows, -1).unbind(1)
            by_attribute |= {
                attribute: z[..., : self._sizes[attribute]] for attribute, z in zip(attributes, padded, strict=True)
            }
        return torch.cat([by_attribute[attribute] for attribute in range(len(self._sizes))], dim=-1)

    def _split(self, h: Tensor) -> Tensor:
        """(G, b, k * H) activations as (G * k, b, H), without a copy: the rows of h lie (b, G, k, H) in memory."""
        rows = h.shape[1]
        return h.transpose(0, 1).reshape(rows, -1, self._hidden).transpose(0, 1)

    def dense(self, arrays: Sequence[Float32]) -> list[Layer]:
        """See `Network.dense`."""
        labels, units, dtype = sum(self._sizes), len(self._sizes) * self._hidden, arrays[0].dtype
        W1, b1 = np.empty((self._dim, units), dtype), np.empty(units, dtype)
        W2, b2 = np.zeros((units, labels), dtype), np.empty(labels, dtype)
        start = 0
        for i, attributes in enumerate(self._buckets):
            first, first_bias, second, second_bias = arrays[4 * i : 4 * i + 4]
            stop = start + len(first_bias)
            W1[:, start:stop], b1[start:stop] = first.T, first_bias
            for k, attribute in enumerate(attributes):
                rows = slice(start + k * self._hidden, start + (k + 1) * self._hidden)
                W2[rows, self._slices[attribute]] = second[k, : self._sizes[attribute]].T
                b2[self._slices[attribute]] = second_bias[k, : self._sizes[attribute]]
            start = stop
        return [(W1, b1), (W2, b2)]


def make_network(config: HeadConfig, dim: int, targets: Targets) -> Network:
    """The network of one shape family.

    Args:
        config: Head and hidden sizes.
        dim: d, the numbers per photo.
        targets: Whose labels are to be predicted.

    Returns:
        The network, which holds shapes but no parameters.
    """
    if config.head == "mlp-per-key":
        return PerAttributeNetwork(dim, config.hidden[0], targets.slices)
    return DenseNetwork(dim, config.hidden, targets.size)


def _wide_layer(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """x @ W.T + b of all configurations in one product: (G, b, out) as a view of memory laid out (b, G, out)."""
    out = torch.addmm(b.view(-1), x, W.view(-1, W.shape[-1]).t())
    return out.view(len(x), W.shape[0], -1).transpose(0, 1)


class _BatchedLayer(torch.autograd.Function):
    """h @ W.T + b for each of G layers: (G, b, in), (G, out, in), (G, out) -> (G, b, out).

    Torch's own derivative of the batched product gives that of W transposed: it would have to be copied before the
    optimizer, and some BLAS round its last digit in another way.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, W: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(h, W)
        return torch.baddbmm(b.unsqueeze(1), h, W.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, dz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, W = ctx.saved_tensors
        return torch.bmm(dz, W), torch.bmm(dz.transpose(1, 2), h), dz.sum(dim=1)


def _batched_layer(h: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return cast(Tensor, _BatchedLayer.apply(h, W, b))


def _buckets_of(sizes: Sequence[int]) -> list[list[int]]:
    """Attributes by falling size, cut where one has less than half the values of the first of its bucket."""
    buckets: list[list[int]] = []
    for attribute in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
        if buckets and 2 * sizes[attribute] >= sizes[buckets[-1][0]]:
            buckets[-1].append(attribute)
        else:
            buckets.append([attribute])
    return buckets
