"""The contract of an engine: it is given what the cache lacks and tells, part by part, what became of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from cache import BaseKey, Column, Ids, Writer
from pipeline.arrays import Bool, Int64
from pipeline.features.backbone.network import Backbone
from pipeline.features.batch import Batch, Contents
from pipeline.features.contents.ids import Photos
from pipeline.features.engines.jobs import Job
from pipeline.features.runtimes.forward import EmbedOptions
from pipeline.options import BackboneOptions, ExtractOptions

NOT_FINITE = "the network's output for it is not finite"


@dataclass(frozen=True)
class Work:
    """What an extraction has to compute.

    Attributes:
        paths: The photos, and photos on other machines.
        ids: Their contents as they were hashed, S32 (n,); zeros for those that nobody has read yet.
        asked: The backbone, as it was asked for.
        backbone: The same, loaded.
        key: What names its vectors.
        columns: What is wanted of each photo.
        options: How it is computed.
        jobs: Which photos lack what.
    """

    paths: Photos
    ids: Ids
    asked: BackboneOptions
    backbone: Backbone
    key: BaseKey
    columns: tuple[Column, ...]
    options: ExtractOptions
    jobs: Sequence[Job]

    @property
    def photos(self) -> int:
        """How many photos are to be computed; one that two jobs have counts twice."""
        return sum(len(job.rows) for job in self.jobs)


@dataclass(frozen=True)
class Refused:
    """A photo without a vector.

    Attributes:
        row: Its position among the photos.
        content_id: The id of its bytes; zeros if there were none to read.
        reason: Why.
        lasting: Whether its content is at fault, so that no other run can take it.
        passing: Whether it did not come this time, which says nothing of the photo.
    """

    row: int
    content_id: bytes
    reason: str
    lasting: bool
    passing: bool = False


@dataclass(frozen=True)
class Done:
    """What became of some photos.

    Attributes:
        stored: Positions of those that have their vectors in the cache, or with its writer, int64 (n,).
        refused: The others.
        count: How many photos of the work this settles.
        contents: What was read, of photos that nobody had read before.
    """

    stored: Int64
    refused: Sequence[Refused]
    count: int
    contents: Contents | None = None


@dataclass
class Facts:
    """What an engine says of itself when its work is done.

    Attributes:
        seconds: Time by stage: wall time of `runtime` (until the first photo could be taken), the others as
            `ExtractReport.seconds` has them.
        runtime: What the forward pass ran on.
        forward_per_second: Photos per second of the forward pass alone, where that was measured.
        notes: Lines the user should see.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    runtime: str = ""
    forward_per_second: float | None = None
    notes: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the wall time of the block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Add to a stage."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def note(self, text: str) -> None:
        """Have a line shown once; none for an empty one."""
        if text and text not in self.notes:
            self.notes.append(text)


class Engine(Protocol):
    """Computes what the cache lacks."""

    facts: Facts

    def compute(self, work: Work, writer: Writer) -> Generator[Done, None, None]:
        """Compute and store it all, and say of each part what became of it.

        Args:
            work: What is lacking.
            writer: The key's; it is open until the generator has ended or is closed.
        """
        ...


def embed_options(options: ExtractOptions, workers: int | None = None) -> EmbedOptions:
    """How photos are fed to a backbone, as far as an extraction's options say it.

    Args:
        options: Those of the extraction.
        workers: Decoding threads, where they are not as the options say.
    """
    return EmbedOptions(
        device=options.device,
        runtime=options.runtime,
        precision=options.precision,
        batch_size=options.batch_size,
        workers=workers or options.workers,
        max_pixels=options.max_pixels,
        store=options.cache / "runtimes",
    )


def storable(batch: Batch, rows: Int64) -> tuple[Bool, list[Refused]]:
    """Which vectors of a batch may be stored, and what has none.

    Args:
        batch: Vectors and bad photos, by their positions among those that were given.
        rows: What those positions are among the photos of the extraction, int64 (n,).

    Returns:
        True where a photo's vectors are finite, bool (b,); and the photos refused.
    """
    refused = [
        Refused(int(rows[bad.index]), bad.content_id, bad.reason, bad.lasting, bad.passing) for bad in batch.rejects
    ]
    finite = np.ones(len(batch.ids), dtype=np.bool_)
    for values in batch.features.values():
        finite &= np.isfinite(values).all(axis=1)
    for at in np.flatnonzero(~finite):
        refused.append(Refused(int(rows[batch.indices[at]]), bytes(batch.ids[at]), NOT_FINITE, False))
    return finite, refused
