"""The networks of G stacked configurations: parameters with a leading G, forward and backward passes in closed form.

Activations are rectified linear units. Every array of a stack is laid out so that one configuration is one slice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.heads.config import HeadConfig
from pipeline.heads.stacked.layers import (
    Drop,
    Float32,
    Layer,
    Network,
    Passed,
    in_parts,
    through_relu,
    wide_backward,
    wide_layer,
)
from pipeline.heads.targets import Targets


class DenseNetwork:
    """`linear` (no hidden layer) and `mlp`: one trunk for all keys."""

    def __init__(self, dim: int, hidden: Sequence[int], labels: int) -> None:
        self._dim = dim
        sizes = [dim, *hidden, labels]
        pairs = list(itertools.pairwise(sizes))
        self.shapes: tuple[tuple[int, ...], ...] = tuple(shape for a, b in pairs for shape in ((b, a), (b,)))
        self._fan_in = [a for a, _ in pairs]
        self.parts = in_parts(len(pairs), 2)

    def bounds(self) -> tuple[float, ...]:
        """See `Network.bounds`."""
        return tuple(a**-0.5 for a in self._fan_in for _ in range(2))

    def add_bias(self, parameters: Sequence[Tensor], bias: Tensor) -> None:
        """See `Network.add_bias`."""
        parameters[-1].add_(bias)

    def forward(self, parameters: Sequence[Tensor], x: Tensor, drop: Drop | None) -> tuple[Tensor, Passed]:
        """See `Network.forward`."""
        z = wide_layer(x, parameters[0], parameters[1])
        hidden: list[Tensor] = []
        scale = None if drop is None else drop.scales
        for W, b in zip(parameters[2::2], parameters[3::2], strict=True):
            z.relu_()
            if drop is not None:
                drop(z)
            hidden.append(z)
            z = torch.baddbmm(b.unsqueeze(1), z, W.transpose(1, 2))
        return z, Passed(x, hidden, scale)

    def backward(
        self, parameters: Sequence[Tensor], passed: Passed, dz: Tensor, grads: Sequence[Tensor]
    ) -> Iterator[slice]:
        """See `Network.backward`."""
        for i in range(len(passed.hidden), 0, -1):
            h = passed.hidden[i - 1]
            torch.bmm(dz.transpose(1, 2), h, out=grads[2 * i])
            torch.sum(dz, dim=1, out=grads[2 * i + 1])
            dz = through_relu(h, torch.bmm(dz, parameters[2 * i]), passed.scales)
            yield self.parts[i]
        wide_backward(passed.x, dz, grads[0], grads[1])
        yield self.parts[0]

    def dense(self, arrays: Sequence[Float32]) -> list[Layer]:
        """See `Network.dense`."""
        return [(np.ascontiguousarray(W.T), b) for W, b in zip(arrays[0::2], arrays[1::2], strict=True)]


class PerKeyNetwork:
    """`mlp-per-key`: d -> hidden -> values, a separate small network per key, computed in grouped products.

    Keys of similar size share a bucket: one wide product d -> k * hidden, then one batched product whose k outputs are
    padded to the bucket's largest key (at most twice its smallest, so little is wasted however skewed the sizes are).
    """

    def __init__(self, dim: int, hidden: int, slices: Sequence[slice]) -> None:
        self._dim, self._hidden = dim, hidden
        self._labels = slices[-1].stop
        self._buckets = [_Bucket(keys, slices) for keys in _bucket_keys(slices)]
        self.parts = in_parts(len(self._buckets), 4)
        self.shapes: tuple[tuple[int, ...], ...] = tuple(
            shape
            for b in self._buckets
            for shape in ((b.keys * hidden, dim), (b.keys * hidden,), (b.keys, b.width, hidden), (b.keys, b.width))
        )

    def bounds(self) -> tuple[float, ...]:
        """See `Network.bounds`."""
        first, second = self._dim**-0.5, self._hidden**-0.5
        return (first, first, second, second) * len(self._buckets)

    def add_bias(self, parameters: Sequence[Tensor], bias: Tensor) -> None:
        """See `Network.add_bias`."""
        for bucket, b in zip(self._buckets, parameters[3::4], strict=True):
            b.view(-1)[bucket.padded] += bias[bucket.columns]

    def forward(self, parameters: Sequence[Tensor], x: Tensor, drop: Drop | None) -> tuple[Tensor, Passed]:
        """See `Network.forward`."""
        stacked, rows = parameters[0].shape[0], x.shape[0]
        z = x.new_empty((stacked, rows, self._labels))
        hidden: list[Tensor] = []
        scale = None if drop is None else drop.scales
        for i, bucket in enumerate(self._buckets):
            W1, b1, W2, b2 = parameters[4 * i : 4 * i + 4]
            h = wide_layer(x, W1, b1).relu_()
            if drop is not None:
                drop(h)
            hidden.append(h)
            by_key = self._by_key(h, bucket)
            out = torch.baddbmm(b2.flatten(0, 1).unsqueeze(1), by_key, W2.flatten(0, 1).transpose(1, 2))
            padded = out.view(stacked, bucket.keys, rows, bucket.width).transpose(1, 2).flatten(2)
            columns, places = bucket.on(z.device)
            z[..., columns] = padded[..., places]
        return z, Passed(x, hidden, scale)

    def backward(
        self, parameters: Sequence[Tensor], passed: Passed, dz: Tensor, grads: Sequence[Tensor]
    ) -> Iterator[slice]:
        """See `Network.backward`."""
        stacked, rows = dz.shape[0], dz.shape[1]
        for i, bucket in enumerate(self._buckets):
            W1, b1, W2, b2 = grads[4 * i : 4 * i + 4]
            h = passed.hidden[i]
            flat = dz.new_zeros((stacked, rows, bucket.keys * bucket.width))
            columns, places = bucket.on(dz.device)
            flat[..., places] = dz[..., columns]
            out = flat.view(stacked, rows, bucket.keys, bucket.width).transpose(1, 2).flatten(0, 1)
            torch.bmm(out.transpose(1, 2), self._by_key(h, bucket), out=W2.flatten(0, 1))
            torch.sum(out, dim=1, out=b2.flatten(0, 1))
            dh = torch.bmm(out, parameters[4 * i + 2].flatten(0, 1))
            dh = dh.view(stacked, bucket.keys, rows, self._hidden).transpose(1, 2).flatten(2)
            wide_backward(passed.x, through_relu(h, dh, passed.scales), W1, b1)
            yield self.parts[i]

    def _by_key(self, h: Tensor, bucket: _Bucket) -> Tensor:
        """(G, b, k * H) activations as (G * k, b, H), without a copy: the rows of h lie (b, G, k, H) in memory."""
        rows = h.shape[1]
        return h.transpose(0, 1).reshape(rows, -1, self._hidden).transpose(0, 1)

    def dense(self, arrays: Sequence[Float32]) -> list[Layer]:
        """See `Network.dense`."""
        keys, dtype = sum(b.keys for b in self._buckets), arrays[0].dtype
        W1 = np.empty((self._dim, keys * self._hidden), dtype)
        b1 = np.empty(keys * self._hidden, dtype)
        W2 = np.zeros((keys * self._hidden, self._labels), dtype)
        b2 = np.empty(self._labels, dtype)
        start = 0
        for i, bucket in enumerate(self._buckets):
            first, first_bias, second, second_bias = arrays[4 * i : 4 * i + 4]
            stop = start + bucket.keys * self._hidden
            W1[:, start:stop], b1[start:stop] = first.T, first_bias
            for k, columns in enumerate(bucket.slices):
                rows = slice(start + k * self._hidden, start + (k + 1) * self._hidden)
                W2[rows, columns] = second[k, : columns.stop - columns.start].T
                b2[columns] = second_bias[k, : columns.stop - columns.start]
            start = stop
        return [(W1, b1), (W2, b2)]


class _Bucket:
    """Keys of similar size; `columns[i]` of the labels is column `padded[i]` of the bucket's padded outputs."""

    def __init__(self, keys: Sequence[int], slices: Sequence[slice]) -> None:
        self.slices = [slices[k] for k in keys]
        self.keys = len(keys)
        sizes = [s.stop - s.start for s in self.slices]
        self.width = max(sizes)
        self.columns = torch.cat([torch.arange(s.start, s.stop) for s in self.slices])
        self.padded = torch.cat([torch.arange(size) + i * self.width for i, size in enumerate(sizes)])
        self._elsewhere: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """(columns, padded) on a device, moved there once."""
        if device not in self._elsewhere:
            self._elsewhere[device] = (self.columns.to(device), self.padded.to(device))
        return self._elsewhere[device]


def _bucket_keys(slices: Sequence[slice]) -> list[list[int]]:
    sizes = [s.stop - s.start for s in slices]
    buckets: list[list[int]] = []
    for key in sorted(range(len(slices)), key=lambda k: -sizes[k]):
        if buckets and 2 * sizes[key] >= sizes[buckets[-1][0]]:
            buckets[-1].append(key)
        else:
            buckets.append([key])
    return buckets


def make_network(config: HeadConfig, dim: int, targets: Targets) -> Network:
    """The network of one shape family."""
    if config.head == "mlp-per-key":
        return PerKeyNetwork(dim, config.hidden[0], targets.slices)
    return DenseNetwork(dim, config.hidden, targets.size)
