"""Photos to vectors: reading and decoding in threads, forward passes beside them, results in order.

    photos ──▶ decoders (threads) ──▶ batches of good photos, in order ──▶ runtime (its streams) ──▶ results, in order

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
import numpy.typing as npt
import torch

from cache import Block
from pipeline.errors import BackboneError, BadImage, TooCostly
from pipeline.features.backbone.network import Backbone
from pipeline.features.backbone.transform import MAX_PIXELS, Pixels, require_view, view
from pipeline.features.runtimes import Runtime, RuntimeOptions, make_runtime
from pipeline.features.sources import NO_CONTENT, Source, content_id, content_pixels, read_source
from pipeline.system import choose_device, cores

Features = dict[tuple[str, str], npt.NDArray[np.float32]]

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


@dataclass(frozen=True)
class Reject:
    """A photo without a vector.

    Attributes:
        index: Its position among the photos.
        content_id: The id of its bytes; zeros if there were none to read.
        reason: Why.
        kind: The error that it is.
    """

    index: int
    content_id: bytes
    reason: str
    kind: type[BadImage] = BadImage

    @property
    def lasting(self) -> bool:
        """Whether the content itself is at fault, so that no other run can take it."""
        return not issubclass(self.kind, TooCostly)


@dataclass(frozen=True)
class Batch:
    """Vectors of some photos, in the order in which they were given.

    Attributes:
        indices: Positions among the photos, int64 (b,); b can be 0 when every photo since the last batch was bad.
        ids: SHA-256 of the very bytes that were decoded, S32 (b,); zeros for images and arrays.
        features: float32 (b, d) per (block, view).
        rejects: Bad photos met before the last photo of this batch.
    """

    indices: npt.NDArray[np.int64]
    ids: npt.NDArray[np.bytes_]
    features: Features
    rejects: tuple[Reject, ...] = ()


@dataclass
class Timings:
    """Busy thread-seconds per stage, added up over threads."""

    read: float = 0.0
    decode: float = 0.0
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
        blocks: Feature blocks to compute.
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
        waiting: collections.deque[tuple[_PendingBatch, Future[Features]]] = collections.deque()
        stop = threading.Event()
        decoders = ThreadPoolExecutor(self.workers, "decode")
        forwards = ThreadPoolExecutor(self.runtime.streams, "forward")
        try:
            for load in self._loads(photos, decoders, stop):
                waiting.append((load, forwards.submit(self._forward, load)))
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

    def _loads(
        self, photos: Sequence[Source], decoders: ThreadPoolExecutor, stop: threading.Event
    ) -> Iterator[_PendingBatch]:
        chunks = (range(start, min(start + _CHUNK, len(photos))) for start in range(0, len(photos), _CHUNK))
        ahead: collections.deque[Future[list[_Decoded | Reject]]] = collections.deque()
        load = _PendingBatch()
        for chunk in chunks:
            ahead.append(decoders.submit(self._decode, chunk, [photos[index] for index in chunk], stop))
            if len(ahead) * _CHUNK < _AHEAD * self.batch_size + self.workers * _CHUNK:
                continue
            load = yield from self._fill(load, ahead.popleft().result())
        while ahead:
            load = yield from self._fill(load, ahead.popleft().result())
        if load.photos or load.rejects:
            yield load

    def _fill(
        self, load: _PendingBatch, decoded: Sequence[_Decoded | Reject]
    ) -> Generator[_PendingBatch, None, _PendingBatch]:
        for photo in decoded:
            if isinstance(photo, Reject):
                load.rejects.append(photo)
                continue
            load.photos.append(photo)
            if len(load.photos) >= self.batch_size:
                yield load
                load = _PendingBatch()
        return load

    def _decode(
        self, indices: Sequence[int], photos: Sequence[Source], stop: threading.Event
    ) -> list[_Decoded | Reject]:
        made: list[_Decoded | Reject] = []
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
                made.append(_Decoded(index, identity, pixels))
            except BadImage as error:
                made.append(Reject(index, identity, str(error), type(error)))
            except OSError as error:
                made.append(Reject(index, identity, error.strerror or str(error)))
        return made

    def _forward(self, load: _PendingBatch) -> Features:
        if not load.photos:
            return {key: np.empty((0, block.dim), np.float32) for key, block in self._columns()}
        start, runtime = time.perf_counter(), self.runtime
        size = load.attempted = runtime.batch_size
        batch, made = np.stack([photo.pixels for photo in load.photos]), collections.defaultdict(list)
        for name in self.views:
            seen = view(batch, name)
            for at in range(0, len(seen), size):
                with self._turns:
                    blocks = runtime(seen[at : at + size])
                for block, rows in blocks.items():
                    made[block, name].append(rows)
        self.timings.add(forward=time.perf_counter() - start, photos=len(batch))
        return {key: parts[0] if len(parts) == 1 else np.concatenate(parts) for key, parts in made.items()}

    def _columns(self) -> Iterator[tuple[tuple[str, str], Block]]:
        for name, block in self.backbone.blocks(self.blocks).items():
            yield from (((name, seen), block) for seen in self.views)

    def _finish(self, load: _PendingBatch, forward: Future[Features]) -> Batch:
        try:
            features = forward.result()
        except torch.OutOfMemoryError:
            features = self._with_less_memory(load)
        indices = np.array([photo.index for photo in load.photos], np.int64)
        ids = np.frombuffer(b"".join(photo.content_id for photo in load.photos), dtype="S32")
        return Batch(indices, ids, features, tuple(load.rejects))

    def _with_less_memory(self, load: _PendingBatch) -> Features:
        while True:
            # Several batches in the queue may meet the same limit; only the first of them halves.
            with self._restart:
                if self.batch_size >= load.attempted:
                    self.runtime = self._start(load.attempted // 2)
            try:
                return self._forward(load)
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
        return make_runtime(asked.runtime, self.backbone, self.blocks, options)


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


@dataclass(frozen=True)
class _Decoded:
    index: int
    content_id: bytes
    pixels: Pixels


@dataclass
class _PendingBatch:
    photos: list[_Decoded] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    attempted: int = 0
