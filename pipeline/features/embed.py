"""Photos to vectors: reading and decoding in threads, forward passes beside them, results in order.

    photos ──▶ decoders (threads) ──▶ batches of good photos, in order ──▶ runtime (its streams) ──▶ results, in order

Blocks that are computed from the pixels alone are computed by the thread that waits for the runtime; where no others
are asked for, no network runs.

Memory is bounded: at most `_AHEAD` batches are decoded or in the forward pass at any time, however many photos there
are. Each photo is read and decoded once, whatever number of views is asked for. A bad photo is reported and leaves
its place to the next one; it never shifts a neighbour's vector.

An `Embedder` may be called by several threads at once: each call has decoding threads of its own, and all share the
runtime, which serves as many batches at a time as it has streams; a batch beyond those waits for its turn.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from cache import Block
from pipeline.arrays import Float32, Pixels
from pipeline.errors import BackboneError, BadImage
from pipeline.features.backbone.blocks import NETWORK_BLOCKS
from pipeline.features.backbone.colour import COLOUR, colour_of
from pipeline.features.backbone.network import Backbone
from pipeline.features.backbone.transform import MAX_PIXELS, require_view, view
from pipeline.features.batch import Batch, Decoded, Features, PendingBatch, Reject
from pipeline.features.runtimes import Runtime, RuntimeOptions, make_runtime
from pipeline.features.sources import NO_CONTENT, Source, content_id, content_pixels, read_source
from pipeline.system import choose_device, cores

_AHEAD = 2
_CHUNK = 8
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


class Embedder:
    """A backbone with its runtime and feeding threads, ready for any number of photos.

    Args:
        backbone: The frozen backbone.
        blocks: Feature blocks to compute; where none of them is the network's, it is not run.
        views: Views of each photo to compute them for.
        options: Feeding options.

    Raises:
        OptionError, BackboneError: the runtime, block or view cannot be had (see `make_runtime`).
    """

    def __init__(
        self, backbone: Backbone, blocks: Sequence[str], views: Sequence[str], options: EmbedOptions | None = None
    ) -> None:
        self.options = options or EmbedOptions()
        self.backbone, self.blocks, self.views = backbone, tuple(blocks), tuple(views)
        for name in self.views:
            require_view(name)
        self.workers = self.options.workers or cores()
        self.timings = Timings()
        self.runtime = self._start(self.options.batch_size or _BATCH[choose_device(self.options.device)])
        self._turns, self._restart = threading.BoundedSemaphore(self.runtime.streams), threading.Lock()

    @property
    def batch_size(self) -> int:
        """Photos per forward pass now (it halves when memory runs out)."""
        return self.runtime.batch_size

    def __call__(self, photos: Sequence[Source]) -> Generator[Batch, None, None]:
        """Vectors of the photos, batch by batch, in their order.

        Raises:
            BackboneError: the GPU's memory does not hold even one photo.
        """
        waiting: collections.deque[tuple[PendingBatch, Future[Features]]] = collections.deque()
        stop = threading.Event()
        decoders = ThreadPoolExecutor(self.workers, "decode")
        forwards = ThreadPoolExecutor(self.runtime.streams, "forward")
        try:
            for pending in self._pending_batches(photos, decoders, stop):
                waiting.append((pending, forwards.submit(self._forward, pending)))
                if len(waiting) > self.runtime.streams:
                    yield self._finish(*waiting.popleft())
            while waiting:
                yield self._finish(*waiting.popleft())
        finally:
            stop.set()
            decoders.shutdown(cancel_futures=True)
            forwards.shutdown(cancel_futures=True)

    def forward_rate(self, batches: int = 4, rounds: int = 1) -> float:
        """Speed of the forward pass alone, on ready pixels and one view.

        Args:
            batches: Forward passes per stream in a round.
            rounds: How often that is measured.

        Returns:
            Photos per second in the best round.
        """
        shape = (self.batch_size, self.runtime.size, self.runtime.size, 3)
        ready = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        count, best = batches * self.runtime.streams, 0.0
        with ThreadPoolExecutor(self.runtime.streams) as pool:
            list(pool.map(self.runtime, [ready] * self.runtime.streams))
            for _ in range(rounds):
                start = time.perf_counter()
                list(pool.map(self.runtime, [ready] * count))
                best = max(best, count * self.batch_size / (time.perf_counter() - start))
        return best

    def _pending_batches(
        self, photos: Sequence[Source], decoders: ThreadPoolExecutor, stop: threading.Event
    ) -> Iterator[PendingBatch]:
        chunks = (range(start, min(start + _CHUNK, len(photos))) for start in range(0, len(photos), _CHUNK))
        ahead: collections.deque[Future[list[Decoded | Reject]]] = collections.deque()
        pending = PendingBatch()
        for chunk in chunks:
            ahead.append(decoders.submit(self._decode, chunk, [photos[index] for index in chunk], stop))
            if len(ahead) * _CHUNK < _AHEAD * self.batch_size + self.workers * _CHUNK:
                continue
            pending = yield from self._fill(pending, ahead.popleft().result())
        while ahead:
            pending = yield from self._fill(pending, ahead.popleft().result())
        if pending.photos or pending.rejects:
            yield pending

    def _fill(
        self, pending: PendingBatch, decoded: Sequence[Decoded | Reject]
    ) -> Generator[PendingBatch, None, PendingBatch]:
        for photo in decoded:
            if isinstance(photo, Reject):
                pending.rejects.append(photo)
                continue
            pending.photos.append(photo)
            if len(pending.photos) >= self.batch_size:
                yield pending
                pending = PendingBatch()
        return pending

    def _decode(
        self, indices: Sequence[int], photos: Sequence[Source], stop: threading.Event
    ) -> list[Decoded | Reject]:
        results: list[Decoded | Reject] = []
        for index, photo in zip(indices, photos, strict=True):
            # An interrupted run waits for the photo in hand, which no decoder gives up, and for no other.
            if stop.is_set():
                break
            start, identity = time.perf_counter(), NO_CONTENT
            try:
                content = read_source(photo)
                identity = content_id(content)
                read, start = time.perf_counter() - start, time.thread_time()
                pixels = content_pixels(content, self.backbone.transform, self.options.max_pixels)
                self.timings.add(read=read, decode=time.thread_time() - start)
                results.append(Decoded(index, identity, pixels))
            except BadImage as error:
                results.append(Reject(index, identity, str(error), type(error)))
            except OSError as error:
                results.append(Reject(index, identity, error.strerror or str(error)))
        return results

    def _forward(self, pending: PendingBatch) -> Features:
        if not pending.photos:
            return {key: np.empty((0, block.dim), np.float32) for key, block in self._columns()}
        runtime = self.runtime
        size = pending.attempted = runtime.batch_size
        batch, parts_of = np.stack([photo.pixels for photo in pending.photos]), collections.defaultdict(list)
        for name in self.views:
            viewed = view(batch, name)
            start = time.perf_counter()
            for at in range(0, len(viewed), size):
                with self._turns:
                    blocks = runtime(viewed[at : at + size])
                for block, rows in blocks.items():
                    parts_of[block, name].append(rows)
            self.timings.add(forward=time.perf_counter() - start)
            if COLOUR.name in self.blocks:
                parts_of[COLOUR.name, name].append(self._colour(viewed))
        self.timings.add(photos=len(batch))
        return {key: parts[0] if len(parts) == 1 else np.concatenate(parts) for key, parts in parts_of.items()}

    def _colour(self, viewed: Pixels) -> Float32:
        start = time.thread_time()
        made = colour_of(viewed)
        self.timings.add(colour=time.thread_time() - start)
        return made

    def _columns(self) -> Iterator[tuple[tuple[str, str], Block]]:
        for name, block in self.backbone.blocks(self.blocks).items():
            yield from (((name, view_name), block) for view_name in self.views)

    def _finish(self, pending: PendingBatch, forward: Future[Features]) -> Batch:
        try:
            features = forward.result()
        except torch.OutOfMemoryError:
            features = self._with_less_memory(pending)
        indices = np.array([photo.index for photo in pending.photos], np.int64)
        ids = np.frombuffer(b"".join(photo.content_id for photo in pending.photos), dtype="S32")
        return Batch(indices, ids, features, tuple(pending.rejects))

    def _with_less_memory(self, pending: PendingBatch) -> Features:
        while True:
            # Several batches in the queue may meet the same limit; only the first of them halves.
            with self._restart:
                if self.batch_size >= pending.attempted:
                    self.runtime = self._start(pending.attempted // 2)
            try:
                return self._forward(pending)
            except torch.OutOfMemoryError:
                continue

    def _start(self, batch_size: int) -> Runtime:
        while batch_size >= 1:
            try:
                return self._runtime(batch_size)
            except torch.OutOfMemoryError:
                batch_size //= 2
        raise BackboneError(f"the GPU has not memory enough for {self.backbone.name} even with one photo at a time")

    def _runtime(self, batch_size: int) -> Runtime:
        asked = self.options
        options = RuntimeOptions(asked.device, asked.precision, batch_size, store=asked.store)
        network = [name for name in self.blocks if name in NETWORK_BLOCKS]
        return make_runtime(asked.runtime, self.backbone, network, options)


def embed(
    photos: Sequence[Source],
    backbone: Backbone,
    blocks: Sequence[str],
    views: Sequence[str] = ("identity",),
    options: EmbedOptions | None = None,
) -> Generator[Batch, None, None]:
    """Vectors of photos, batch by batch, in their order: the short form of `Embedder`.

    Close it when it is left before its end, so that no photo is decoded for nothing.
    """
    yield from Embedder(backbone, blocks, views, options)(photos)
