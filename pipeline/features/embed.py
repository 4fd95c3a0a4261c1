"""Photos to vectors: reading and decoding in threads, forward passes beside them, results in order.

    paths ──▶ decoders (threads) ──▶ batches of good photos, in order ──▶ runtime (its streams) ──▶ results, in order

Memory is bounded: at most `_AHEAD` batches are decoded or in the forward pass at any time, however many photos there
are. Each photo is read and decoded once, whatever number of views is asked for. A bad photo is reported and leaves
its place to the next one; it never shifts a neighbour's vector.
"""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from cache import Block, id_of
from pipeline.errors import BackboneError, BadImage, TooCostly
from pipeline.features.backbone.network import Backbone
from pipeline.features.backbone.photo_file import read_photo
from pipeline.features.backbone.transform import MAX_PIXELS, require_view, to_pixels, view
from pipeline.features.batch import Batch, Decoded, Features, PendingBatch, Reject
from pipeline.features.runtimes import Runtime, RuntimeOptions, make_runtime
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

    @property
    def batch_size(self) -> int:
        """Photos per forward pass now (it halves when memory runs out)."""
        return self.runtime.batch_size

    def __call__(self, paths: Sequence[str | os.PathLike[str]]) -> Generator[Batch, None, None]:
        """Vectors of the photos, batch by batch, in the order of `paths`.

        Raises:
            BackboneError: the GPU's memory does not hold even one photo.
        """
        waiting: collections.deque[tuple[PendingBatch, Future[Features]]] = collections.deque()
        stop = threading.Event()
        decoders = ThreadPoolExecutor(self.workers, "decode")
        forwards = ThreadPoolExecutor(self.runtime.streams, "forward")
        try:
            for pending in self._pending_batches(paths, decoders, stop):
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
        self, paths: Sequence[str | os.PathLike[str]], decoders: ThreadPoolExecutor, stop: threading.Event
    ) -> Iterator[PendingBatch]:
        chunks = (range(start, min(start + _CHUNK, len(paths))) for start in range(0, len(paths), _CHUNK))
        ahead: collections.deque[Future[list[Decoded | Reject]]] = collections.deque()
        pending = PendingBatch()
        for chunk in chunks:
            ahead.append(decoders.submit(self._decode, chunk, [paths[index] for index in chunk], stop))
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
        self, indices: Sequence[int], paths: Sequence[str | os.PathLike[str]], stop: threading.Event
    ) -> list[Decoded | Reject]:
        results: list[Decoded | Reject] = []
        for index, path in zip(indices, paths, strict=True):
            # An interrupted run waits for the photo in hand, which no decoder gives up, and for no other.
            if stop.is_set():
                break
            start, content_id = time.perf_counter(), bytes(32)
            try:
                data = read_photo(path)
                content_id = id_of(data)
                read, start = time.perf_counter() - start, time.thread_time()
                pixels = to_pixels(data, self.backbone.transform, self.options.max_pixels)
                self.timings.add(read=read, decode=time.thread_time() - start)
                results.append(Decoded(index, content_id, pixels))
            except BadImage as error:
                results.append(Reject(index, content_id, str(error), lasting=not isinstance(error, TooCostly)))
            except OSError as error:
                results.append(Reject(index, content_id, error.strerror or str(error)))
        return results

    def _forward(self, pending: PendingBatch) -> Features:
        if not pending.photos:
            return {key: np.empty((0, block.dim), np.float32) for key, block in self._columns()}
        start, runtime = time.perf_counter(), self.runtime
        size = pending.attempted = runtime.batch_size
        batch, parts_of = np.stack([photo.pixels for photo in pending.photos]), collections.defaultdict(list)
        for name in self.views:
            viewed = view(batch, name)
            for at in range(0, len(viewed), size):
                for block, rows in runtime(viewed[at : at + size]).items():
                    parts_of[block, name].append(rows)
        self.timings.add(forward=time.perf_counter() - start, photos=len(batch))
        return {key: parts[0] if len(parts) == 1 else np.concatenate(parts) for key, parts in parts_of.items()}

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
        return make_runtime(asked.runtime, self.backbone, self.blocks, options)


def embed(
    paths: Sequence[str | os.PathLike[str]],
    backbone: Backbone,
    blocks: Sequence[str],
    views: Sequence[str] = ("identity",),
    options: EmbedOptions | None = None,
) -> Generator[Batch, None, None]:
    """Vectors of photos, batch by batch, in the order of `paths`: the short form of `Embedder`.

    Close it when it is left before its end, so that no photo is decoded for nothing.
    """
    yield from Embedder(backbone, blocks, views, options)(paths)
