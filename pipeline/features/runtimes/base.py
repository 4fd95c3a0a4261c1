"""What every runtime shares: its options, the padding of batches, and the contract."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.arrays import Float32, Pixels
from pipeline.features.backbone.network import Backbone
from pipeline.machine import cores

Features = dict[str, Float32]


class Unavailable(Exception):
    """A runtime cannot be had here; `make_runtime` falls back."""


@dataclass(frozen=True)
class RuntimeOptions:
    """How a backbone is run.

    Attributes:
        device: auto, cpu or cuda.
        precision: fp32, or half on a GPU.
        batch_size: Photos per forward pass; shorter batches are padded to it.
        threads: CPU threads for the forward pass (default: the number of cores).
        store: Folder that keeps converted models between starts (default: none is kept).
    """

    device: str = "auto"
    precision: str = "fp32"
    batch_size: int = 16
    threads: int | None = None
    store: Path | None = None


class Runtime(abc.ABC):
    """A backbone ready to run.

    Attributes:
        name: Its name in the registry.
        note: One line for the user when it is not what was asked for, else empty.
        batch_size: The fixed number of photos it runs at once.
        streams: How many threads may call it at once to good effect.
    """

    name: str = ""
    note: str = ""
    streams: int = 1

    def __init__(self, backbone: Backbone, blocks: Sequence[str], options: RuntimeOptions) -> None:
        self.backbone = backbone
        self.blocks = tuple(blocks)
        self.options = options
        self.batch_size = options.batch_size
        self.size = backbone.transform.size

    def __call__(self, pixels: Pixels) -> Features:
        """uint8 (b, s, s, 3) with 1 <= b <= batch_size to {block: float32 (b, d)}; safe from `streams` threads."""
        count = len(pixels)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (self.size, self.size, 3) or count > self.batch_size:
            raise ValueError(
                f"a batch is {pixels.dtype} {pixels.shape}; expected uint8 (up to {self.batch_size}, {self.size}, "
                f"{self.size}, 3)"
            )
        if count < self.batch_size:
            padded = np.zeros((self.batch_size, *pixels.shape[1:]), dtype=np.uint8)
            padded[:count] = pixels
            pixels = padded
        return {name: rows[:count] for name, rows in self._run(np.ascontiguousarray(pixels)).items()}

    @abc.abstractmethod
    def _run(self, pixels: Pixels) -> Features:
        """A full batch, uint8 (batch_size, s, s, 3), to {block: float32 (batch_size, d)}."""


class NoNetwork(Runtime):
    """What runs where no block of the network is asked for: nothing. Its threads are there for what else there is."""

    name = "no network"

    def __init__(self, backbone: Backbone, options: RuntimeOptions) -> None:
        super().__init__(backbone, (), options)
        self.streams = options.threads or cores()

    def _run(self, pixels: Pixels) -> Features:
        return {}
