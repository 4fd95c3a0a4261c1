"""Photos of any number of requests through the networks: a bounded queue, decoders, one inference thread.

    requests ──▶ queue (photos, bounded) ──▶ decoders (threads) ──▶ inference thread: batches ──▶ forward passes

Photos are decoded one by one before they wait for a batch, so that one that is slow to decode holds up no other. The
inference thread makes a batch whenever the runtime has a stream to spare, of what is ready then; where that is less
than the forward pass takes anyhow, it waits a few milliseconds for more. On a CPU, where a pass of many photos is no
faster than many passes, photos that are ready at once share one turn and one look at the heads. A photo has its place
in the queue until the server is done with it, also where whoever sent it has gone: what is bounded is the work in hand.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline.arrays import Float32
from pipeline.features.batch import Decoded, Reject
from pipeline.features.sources import Source
from pipeline.machine import cores
from pipeline.options import ServeOptions
from pipeline.serving.metrics import Metrics
from pipeline.serving.models import ServedModel, in_batches
from pipeline.serving.refused import Refused

SHARED = 8
"""Photos that share a turn where the forward pass takes fewer at a time."""

RETRY_AFTER = 1.0
"""Seconds after which a queue that is full has room again, on any machine that keeps up at all."""


@dataclass(eq=False)
class _Job:
    """A photo on its way: its model and bytes, then its pixels; the future gets its probabilities (L,)."""

    model: ServedModel
    source: Source | None
    future: Future[Float32] = field(default_factory=Future)
    decoded: Decoded | None = None
    ready_at: float = 0.0

    def fail(self, error: BaseException) -> None:
        with contextlib.suppress(InvalidStateError):  # whoever sent it has gone
            self.future.set_exception(error)

    def succeed(self, row: Float32) -> None:
        with contextlib.suppress(InvalidStateError):
            self.future.set_result(row)


class Batches:
    """The photos that are in the server. Safe from any thread.

    Args:
        options: Size of the queue, waiting time, decoding threads, most pixels.
        streams: Forward passes at a time.
        metrics: Where batches and times are counted.
    """

    def __init__(self, options: ServeOptions, streams: int, metrics: Metrics) -> None:
        self.limit, self.wait, self.max_pixels = options.queue, options.batch_wait_ms / 1000, options.max_pixels
        self.metrics = metrics
        self._changed = threading.Condition()
        self._ready: list[_Job] = []
        self._inside: set[_Job] = set()
        self._ending = False
        self._streams, self._turns = streams, threading.Semaphore(streams)
        self._decoders = ThreadPoolExecutor(options.workers or cores(), "serve-decode")
        self._forwards = ThreadPoolExecutor(streams, "serve-forward")
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether photos can become predictions: the inference thread lives."""
        return self._thread.is_alive() and not self._ending

    @property
    def inside(self) -> int:
        """Photos in the server now."""
        return len(self._inside)

    def submit(self, model: ServedModel, photos: Sequence[Source]) -> list[Future[Float32]]:
        """Take all photos of a request, or none of them.

        Returns:
            Per photo what will be its probabilities (L,), or raise BadImage; one that is cancelled is not computed
            where that has not begun.

        Raises:
            Refused: There is no room for them now, or the inference thread is dead.
        """
        jobs = [_Job(model, photo) for photo in photos]
        with self._changed:
            if not self.alive:
                raise Refused(503, "not_ready", "the inference thread is not running; the server must be restarted")
            if len(self._inside) + len(jobs) > self.limit:
                text = f"{len(self._inside)} photos are in the server, which takes {self.limit} at a time; come again"
                raise Refused(429, "overloaded", text, RETRY_AFTER)
            self._inside.update(jobs)
        for job in jobs:
            self._decoders.submit(self._decode, job)
        return [job.future for job in jobs]

    def stop(self) -> None:
        """End the threads after what is in the queue is done; nothing can be submitted from here on."""
        self._decoders.shutdown()
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join()
        self._forwards.shutdown()

    def _decode(self, job: _Job) -> None:
        photo, job.source = job.source, None
        try:
            if photo is None or job.future.cancelled():
                return self._leave(job)
            start = time.perf_counter()
            found = job.model.source.embedder.decode(photo, max_pixels=self.max_pixels)
            self.metrics.decode_seconds.observe(time.perf_counter() - start)
        except Exception as error:  # noqa: BLE001  # a bug must not take a decoding thread with it: it is told to the request
            job.fail(error)
            return self._leave(job)
        if isinstance(found, Reject):
            job.fail(found.kind(found.reason))
            return self._leave(job)
        job.decoded, job.ready_at = found, time.monotonic()
        return self._put(job)

    def _put(self, job: _Job) -> None:
        with self._changed:
            if self._thread.is_alive():
                self._ready.append(job)
                self._changed.notify_all()
                return
        job.fail(_dead())
        self._leave(job)

    def _leave(self, *jobs: _Job) -> None:
        with self._changed:
            self._inside.difference_update(jobs)

    def _run(self) -> None:
        """The inference thread."""
        try:
            while True:
                self._turns.acquire()
                batch = self.take()
                if not batch:
                    return
                self._forwards.submit(self._infer, batch)
        finally:
            with self._changed:
                left, self._ready = list(self._inside), []
            for job in left:
                job.fail(_dead())
            self._leave(*left)

    def take(self) -> list[_Job]:
        """The next batch, as soon as there is one; nothing once the end has come and the queue is empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ending)
            batch = self._alike()
            while batch and len(batch) < batch[0].model.source.embedder.batch_size and not self._ending:
                left = batch[0].ready_at + self.wait - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
                batch = self._alike()
            chosen = set(map(id, batch))
            self._ready = [job for job in self._ready if id(job) not in chosen]
            return batch

    def _alike(self) -> list[_Job]:
        """The first photo that is ready, and others that can share its forward pass."""
        if not self._ready:
            return []
        source = self._ready[0].model.source
        alike = [job for job in self._ready if job.model.source is source]
        # No stream shall be idle while another has several to do.
        share = min(SHARED, -(-len(alike) // self._streams))
        return alike[: max(source.embedder.batch_size, share)]

    def _infer(self, batch: Sequence[_Job]) -> None:
        try:
            wanted = [job for job in batch if not job.future.cancelled()]
            if wanted:
                start = time.perf_counter()
                self._predict(wanted)
                self.metrics.forward_seconds.observe(time.perf_counter() - start)
                self.metrics.batches.observe(len(wanted))
        except Exception as error:  # noqa: BLE001  # as for decoders
            for job in batch:
                if not job.future.done():
                    job.fail(error)
        finally:
            self._turns.release()
            self._leave(*batch)

    @staticmethod
    def _predict(jobs: Sequence[_Job]) -> None:
        pairs = [(job.model, job.decoded) for job in jobs if job.decoded is not None]
        for model, rows, vectors in in_batches(pairs):
            errors, found = model.outcomes(vectors)
            for i in rows:
                if i in found:
                    jobs[i].succeed(found[i])
                else:
                    jobs[i].fail(errors[i])


def _dead() -> Refused:
    return Refused(503, "not_ready", "the inference thread has ended; the server must be restarted")
