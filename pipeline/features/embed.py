"""Photos to vectors: reading and decoding in threads, forward passes beside them, results in order.

    photos ──▶ decoders (threads) ──▶ batches of good photos, in order ──▶ runtime (its streams) ──▶ results, in order

Memory is bounded: at most `_AHEAD` batches are decoded or in the forward pass at any time, however many photos there
are. Each photo is read once, and decoded once per transform, whatever number of views and backbones is asked for. A bad
photo is reported and leaves its place to the next one; it never shifts a neighbour's vector.

An `Embedder` may be called by several threads at once: each call has decoding threads of its own, and all share the
runtime, which serves as many batches at a time as it has streams; a batch beyond those waits for its turn.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from pipeline.errors import BadImage, why_unread
from pipeline.features.backbone.network import Backbone
from pipeline.features.backbone.resize import prepare
from pipeline.features.batch import Batch, Decoded, Features, PendingBatch, Reject, Skipped
from pipeline.features.runtimes import Runtime
from pipeline.features.runtimes.forward import EmbedOptions, ForwardPass, Timings
from pipeline.features.sources import NO_CONTENT, Content, Source, content_id, content_pixels, read_source
from pipeline.machine import cores
from pipeline.remote import Ahead, RemotePhoto

__all__ = ["EmbedOptions", "Embedder", "Timings", "embed"]

_AHEAD = 2
_CHUNK = 8


class Embedder:
    """A backbone, or several, with runtimes and feeding threads, ready for any number of photos.

    Args:
        backbone: The frozen backbone.
        blocks: Feature blocks to compute; where none of them is the network's, it is not run.
        views: Views of each photo to compute them for.
        options: Feeding options.
        beside: Forward passes of more backbones, which see the same photos.

    Raises:
        OptionError, BackboneError: the runtime, block or view cannot be had (see `make_runtime`).
    """

    def __init__(
        self,
        backbone: Backbone,
        blocks: Sequence[str],
        views: Sequence[str],
        options: EmbedOptions | None = None,
        beside: Sequence[ForwardPass] = (),
    ) -> None:
        self.options = options or EmbedOptions()
        self.passes = (ForwardPass(backbone, blocks, views, self.options), *beside)
        self.backbone, self.blocks, self.views = backbone, tuple(blocks), tuple(views)
        self.workers = self.options.workers or cores()
        self.timings = Timings()
        for each in self.passes:
            each.timings = self.timings
        self.transforms = tuple(dict.fromkeys(each.backbone.transform for each in self.passes))

    @property
    def runtime(self) -> Runtime:
        """That of the first backbone."""
        return self.passes[0].runtime

    @property
    def batch_size(self) -> int:
        """Photos per forward pass of the first backbone now (it halves when memory runs out)."""
        return self.passes[0].batch_size

    def __call__(
        self, photos: Sequence[Source], wanted: Callable[[bytes], bool] | None = None
    ) -> Generator[Batch, None, None]:
        """Vectors of the photos, batch by batch, in their order.

        Args:
            photos: Those on other machines are read ahead.
            wanted: Asked by a decoding thread for the id of each photo's bytes; those it does not want are not decoded.

        Raises:
            BackboneError: the GPU's memory does not hold even one photo.
            RemoteError: the bucket or host of photos cannot be used.
        """
        prepare(len(photos))
        waiting: collections.deque[tuple[PendingBatch, Future[list[Features]]]] = collections.deque()
        streams = max(each.runtime.streams for each in self.passes)
        reading = _Reading(wanted or (lambda _: True))
        decoders = ThreadPoolExecutor(self.workers, "decode")
        forwards = ThreadPoolExecutor(streams, "forward")
        try:
            for pending in self._pending_batches(photos, decoders, reading):
                waiting.append((pending, forwards.submit(self.forward, pending.photos)))
                if len(waiting) > streams:
                    yield self._finish(*waiting.popleft())
            while waiting:
                yield self._finish(*waiting.popleft())
        finally:
            reading.stop.set()
            reading.ahead.close()
            decoders.shutdown(cancel_futures=True)
            forwards.shutdown(cancel_futures=True)

    def forward_rate(self, batches: int = 4, rounds: int = 1) -> float:
        """Speed of the first backbone's forward pass alone, on ready pixels and one view.

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
        self, photos: Sequence[Source], decoders: ThreadPoolExecutor, reading: _Reading
    ) -> Iterator[PendingBatch]:
        # Reading ahead waits until photos begun before are taken: a decoder must have each before the next begins.
        size = 1 if any(isinstance(photo, RemotePhoto) for photo in photos) else _CHUNK
        chunks = (range(start, min(start + size, len(photos))) for start in range(0, len(photos), size))
        ahead: collections.deque[Future[list[Decoded | Reject | Skipped]]] = collections.deque()
        pending = PendingBatch()
        for chunk in chunks:
            sources = [reading.ahead.start(photos[index]) for index in chunk]
            ahead.append(decoders.submit(self._decode, chunk, sources, reading))
            if len(ahead) * size < _AHEAD * self.batch_size + self.workers * _CHUNK:
                continue
            pending = yield from self._fill(pending, ahead.popleft().result())
        while ahead:
            pending = yield from self._fill(pending, ahead.popleft().result())
        if pending.photos or pending.rejects or pending.skipped:
            yield pending

    def _fill(
        self, pending: PendingBatch, decoded: Sequence[Decoded | Reject | Skipped]
    ) -> Generator[PendingBatch, None, PendingBatch]:
        for photo in decoded:
            if isinstance(photo, Reject):
                pending.rejects.append(photo)
                continue
            if isinstance(photo, Skipped):
                pending.skipped.append(photo)
                continue
            pending.photos.append(photo)
            if len(pending.photos) >= self.batch_size:
                yield pending
                pending = PendingBatch()
        return pending

    def _decode(
        self, indices: Sequence[int], photos: Sequence[Source], reading: _Reading
    ) -> list[Decoded | Reject | Skipped]:
        results: list[Decoded | Reject | Skipped] = []
        for index, photo in zip(indices, photos, strict=True):
            # An interrupted run waits for the photo in hand, which no decoder gives up, and for no other.
            if reading.stop.is_set():
                break
            read = self._read(photo, index)
            if isinstance(read, Reject):
                results.append(read)
            elif reading.wanted(read.identity):
                results.append(self._shown(read, self.options.max_pixels))
            else:
                results.append(Skipped(index, read.identity))
        return results

    def decode(self, photo: Source, index: int = 0, max_pixels: int | None = None) -> Decoded | Reject:
        """One photo as the networks see it, or why it cannot be taken, in the thread that calls.

        Args:
            photo: The photo.
            index: Its position among others.
            max_pixels: More pixels than this are refused (default: what the options say).
        """
        read = self._read(photo, index)
        limit = self.options.max_pixels if max_pixels is None else max_pixels
        return read if isinstance(read, Reject) else self._shown(read, limit)

    def _read(self, photo: Source, index: int) -> _Read | Reject:
        start = time.perf_counter()
        try:
            content = read_source(photo)
            identity = content_id(content)
        except (BadImage, OSError) as error:
            return _rejected(index, NO_CONTENT, error)
        self.timings.add(read=time.perf_counter() - start)
        return _Read(index, content, identity)

    def _shown(self, photo: _Read, limit: int) -> Decoded | Reject:
        start = time.thread_time()
        try:
            pixels = tuple(content_pixels(photo.content, transform, limit) for transform in self.transforms)
        except (BadImage, OSError) as error:
            return _rejected(photo.index, photo.identity, error)
        self.timings.add(decode=time.thread_time() - start)
        return Decoded(photo.index, photo.identity, pixels)

    def forward(self, photos: Sequence[Decoded]) -> list[Features]:
        """The blocks of each backbone, of photos that `decode` gave; safe from any thread, as a call is."""
        if not photos:
            return [each.nothing() for each in self.passes]
        shown = zip(*(photo.pixels for photo in photos), strict=True)
        squares = dict(zip(self.transforms, map(np.stack, shown), strict=True))
        made = [each(squares[each.backbone.transform]) for each in self.passes]
        self.timings.add(photos=len(photos))
        return made

    def _finish(self, pending: PendingBatch, forward: Future[list[Features]]) -> Batch:
        first, *beside = forward.result()
        indices = np.array([photo.index for photo in pending.photos], np.int64)
        ids = np.frombuffer(b"".join(photo.content_id for photo in pending.photos), dtype="S32")
        return Batch(indices, ids, first, tuple(pending.rejects), tuple(beside), tuple(pending.skipped))


def _rejected(index: int, identity: bytes, error: BadImage | OSError) -> Reject:
    kind = type(error) if isinstance(error, BadImage) else BadImage
    return Reject(index, identity, why_unread(error), kind)


@dataclass(frozen=True)
class _Read:
    """A photo whose bytes are here."""

    index: int
    content: Content
    identity: bytes


@dataclass
class _Reading:
    """What the decoding threads of one call share."""

    wanted: Callable[[bytes], bool]
    ahead: Ahead = field(default_factory=Ahead)
    stop: threading.Event = field(default_factory=threading.Event)


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
