"""A backbone at work: squares of pixels to its blocks in some views, in smaller batches where memory runs out.

Blocks that are computed from the pixels alone are computed by the thread that waits for the runtime; where no others
are asked for, no network runs.
"""

from __future__ import annotations

import collections
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cache import Block
from pipeline.arrays import Float32, Pixels
from pipeline.errors import BackboneError
from pipeline.features.backbone.blocks import NETWORK_BLOCKS
from pipeline.features.backbone.colour import COLOUR, colour_of
from pipeline.features.backbone.network import Backbone
from pipeline.features.backbone.transform import MAX_PIXELS, require_view, view
from pipeline.features.batch import Features
from pipeline.features.runtimes import Runtime, RuntimeOptions, make_runtime
from pipeline.machine import choose_device

_BATCH = {"cpu": 16, "cuda": 256}


@dataclass(frozen=True)
class EmbedOptions:
    """How photos are fed to a backbone.

    Attributes:
        device: auto, cpu or cuda.
        runtime: auto, torch or another installed runtime.
        precision: fp32, or half on a GPU.
        batch_size: Photos per forward pass (default: 16 on a CPU, 256 on a GPU, halved when memory runs out).
        workers: Decoding threads (default: the number of cores).
        max_pixels: Photos with more pixels than this are rejected.
        store: Folder that keeps converted models (default: none is kept).
    """

    device: str = "auto"
    runtime: str = "auto"
    precision: str = "fp32"
    batch_size: int | None = None
    workers: int | None = None
    max_pixels: int = MAX_PIXELS
    store: Path | None = None


@dataclass
class Timings:
    """Busy thread-seconds per stage, added up over threads; `colour` is the block of that name."""

    read: float = 0.0
    decode: float = 0.0
    colour: float = 0.0
    forward: float = 0.0
    photos: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **seconds: float) -> None:
        """Add to the named fields; safe from any thread."""
        with self._lock:
            for name, value in seconds.items():
                setattr(self, name, getattr(self, name) + value)


def _out_of_memory() -> tuple[type[Exception], ...]:
    """What a GPU without room raises; nothing where PyTorch is not loaded."""
    torch = sys.modules.get("torch")
    return () if torch is None else (torch.OutOfMemoryError,)


class ForwardPass:
    """A backbone in its runtime. Safe to be called by several threads: a batch beyond the runtime's streams waits.

    Args:
        backbone: The frozen backbone.
        blocks: Feature blocks to compute; where none of them is the network's, it is not run.
        views: Views of each photo to compute them for.
        options: Device, runtime, precision, batch size and store.

    Raises:
        OptionError, BackboneError: the runtime, block or view cannot be had (see `make_runtime`).
    """

    def __init__(self, backbone: Backbone, blocks: Sequence[str], views: Sequence[str], options: EmbedOptions) -> None:
        self.options = options
        self.backbone, self.blocks, self.views = backbone, tuple(blocks), tuple(views)
        for name in self.views:
            require_view(name)
        self.timings = Timings()
        self.runtime = self._start(options.batch_size or _BATCH[choose_device(options.device)])
        self._turns, self._restart = threading.BoundedSemaphore(self.runtime.streams), threading.Lock()

    @property
    def batch_size(self) -> int:
        """Photos per forward pass now (it halves when memory runs out)."""
        return self.runtime.batch_size

    def __call__(self, pixels: Pixels) -> Features:
        """The blocks of uint8 (b, s, s, 3), RGB.

        Raises:
            BackboneError: the GPU's memory does not hold even one photo.
        """
        while True:
            runtime = self.runtime
            try:
                return self._run(runtime, pixels)
            except _out_of_memory():
                attempted = runtime.batch_size
            self._halve(attempted)

    def nothing(self) -> Features:
        """The blocks of no photo."""
        return {key: np.empty((0, block.dim), np.float32) for key, block in self._columns()}

    def _run(self, runtime: Runtime, pixels: Pixels) -> Features:
        parts_of: dict[tuple[str, str], list[Float32]] = collections.defaultdict(list)
        for name in self.views:
            viewed = view(pixels, name)
            start = time.perf_counter()
            for at in range(0, len(viewed), runtime.batch_size):
                with self._turns:
                    blocks = runtime(viewed[at : at + runtime.batch_size])
                for block, rows in blocks.items():
                    parts_of[block, name].append(rows)
            self.timings.add(forward=time.perf_counter() - start)
            if COLOUR.name in self.blocks:
                parts_of[COLOUR.name, name].append(self._colour(viewed))
        return {key: parts[0] if len(parts) == 1 else np.concatenate(parts) for key, parts in parts_of.items()}

    def _colour(self, viewed: Pixels) -> Float32:
        start = time.thread_time()
        made = colour_of(viewed)
        self.timings.add(colour=time.thread_time() - start)
        return made

    def _columns(self) -> Iterator[tuple[tuple[str, str], Block]]:
        for name, block in self.backbone.blocks(self.blocks).items():
            yield from (((name, view_name), block) for view_name in self.views)

    def _halve(self, attempted: int) -> None:
        # Several batches may meet the same limit; only the first of them halves.
        with self._restart:
            if self.batch_size >= attempted:
                self.runtime = self._start(attempted // 2)

    def _start(self, batch_size: int) -> Runtime:
        while batch_size >= 1:
            try:
                return self._runtime(batch_size)
            except _out_of_memory():
                batch_size //= 2
        raise BackboneError(f"the GPU has not memory enough for {self.backbone.name} even with one photo at a time")

    def _runtime(self, batch_size: int) -> Runtime:
        asked = self.options
        options = RuntimeOptions(asked.device, asked.precision, batch_size, store=asked.store)
        network = [name for name in self.blocks if name in NETWORK_BLOCKS]
        return make_runtime(asked.runtime, self.backbone, network, options)
