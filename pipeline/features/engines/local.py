"""The engine that is this process: decoding threads and the forward pass beside them, rows to the key's writer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator

from cache import Writer
from pipeline.features.batch import Batch, Contents
from pipeline.features.embed import Embedder
from pipeline.features.engines.engine import Done, Facts, Work, embed_options, storable
from pipeline.features.engines.jobs import Job

_PROBE_AFTER = 60.0  # seconds of computing from which knowing the forward pass alone is worth its rounds
_PROBE_ROUNDS, _ROUND_SECONDS = 3, 2.0


class LocalEngine:
    """Computes all of it here."""

    def __init__(self) -> None:
        self.facts = Facts(seconds={"runtime": 0.0})

    def compute(self, work: Work, writer: Writer) -> Generator[Done, None, None]:
        """Compute and store it all, batch by batch.

        Raises:
            BackboneError: The runtime cannot be had, or the GPU's memory does not hold even one photo.
            CacheWriteError: The disk refuses.
            RemoteError: The bucket or host of photos cannot be used.
        """
        began, embedder, count = time.perf_counter(), None, 0
        for job in work.jobs:
            embedder = self._embedder(work, job)
            with contextlib.closing(embedder([work.paths[row] for row in job.rows], job.fresh)) as batches:
                for batch in batches:
                    done = self._store(work, writer, job, batch)
                    count += done.count
                    yield done
            self._account(embedder)
        with self.facts.timed("write"):
            writer.flush()
        seconds = time.perf_counter() - began - self.facts.seconds["runtime"]
        # Several jobs run different forward passes, and the last one's rate says nothing about all of them.
        if embedder is None or len(work.jobs) > 1 or not embedder.runtime.blocks:
            return
        if seconds > _PROBE_AFTER:
            with self.facts.timed("probe"):
                self.facts.forward_per_second = _forward_alone(embedder, count / seconds)

    def _embedder(self, work: Work, job: Job) -> Embedder:
        with self.facts.timed("runtime"):
            return Embedder(work.backbone, job.blocks, job.views, embed_options(work.options))

    def _store(self, work: Work, writer: Writer, job: Job, batch: Batch) -> Done:
        finite, refused = storable(batch, job.rows)
        column_of = {(column.block.name, column.view): column for column in work.columns}
        with self.facts.timed("write"):
            # Ids of the bytes decoded: a photo that changed since it was hashed is stored as what it is now.
            writer.append(batch.ids[finite], {column_of[key]: values[finite] for key, values in batch.features.items()})
        met = batch.contents
        read = None if job.fresh is None else Contents(job.rows[met.rows], met.ids)
        return Done(job.rows[batch.indices[finite]], refused, len(met.rows), read)

    def _account(self, embedder: Embedder) -> None:
        timings, runtime = embedder.timings, embedder.runtime
        colour = ("colour",) if timings.colour else ()
        for name in ("read", "decode", *colour, "forward"):
            self.facts.add(name, getattr(timings, name))
        self.facts.runtime = described(embedder)
        self.facts.note(runtime.note)


def described(embedder: Embedder) -> str:
    """What an embedder runs on, in words."""
    runtime = embedder.runtime
    streams = f"{runtime.streams} at once, {embedder.workers} decoding threads"
    return f"{runtime.name}, batches of {runtime.batch_size}, {streams}"


def _forward_alone(embedder: Embedder, photos_per_second: float) -> float:
    """Photos per second of the forward pass alone, all views: the best of a few rounds of seconds each."""
    views = len(embedder.views)
    passes = _ROUND_SECONDS * photos_per_second * views / (embedder.batch_size * embedder.runtime.streams)
    return embedder.forward_rate(max(2, round(passes)), _PROBE_ROUNDS) / views
