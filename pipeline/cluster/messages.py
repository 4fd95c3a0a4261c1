"""What a driver and its workers say to each other. No vectors: a worker commits them and sends a receipt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cache import CacheError, CacheWriteError, Column, Committer
from pipeline.arrays import Int64
from pipeline.errors import BackboneError, OptionError, RemoteError
from pipeline.features.batch import Contents
from pipeline.features.engines.engine import Refused
from pipeline.options import BackboneOptions, ExtractOptions
from pipeline.remote import RemotePhoto

_NAMED = {error.__name__: error for error in (BackboneError, OptionError, RemoteError, CacheWriteError)}


@dataclass(frozen=True)
class Setup:
    """What a worker must know before its first order.

    Attributes:
        backbone: The network; a weights file by its absolute path.
        options: How photos are fed to it; the cache by its absolute path.
        committer: Writes the key's shards.
        columns: What is wanted of the photos.
        blocks: Feature blocks of the first orders.
        views: Views likewise.
        rejected: Contents that can have no vector, where photos are given out that nobody has read before.
    """

    backbone: BackboneOptions
    options: ExtractOptions
    committer: Committer
    columns: tuple[Column, ...]
    blocks: tuple[str, ...]
    views: tuple[str, ...]
    rejected: Mapping[bytes, str]


@dataclass(frozen=True)
class Order:
    """One unit of work, as it is sent.

    Attributes:
        number: Of the unit's shards.
        photos: Absolute paths, and photos on other machines.
        blocks: Feature blocks.
        views: Views.
        fresh: Whether nobody has read these photos before, so that it is told what they hold.
    """

    number: int
    photos: tuple[str | RemotePhoto, ...]
    blocks: tuple[str, ...]
    views: tuple[str, ...]
    fresh: bool = False


@dataclass(frozen=True)
class Started:
    """A worker has its backbone.

    Attributes:
        runtime: What the forward pass runs on.
        note: A line the user should see, or nothing.
    """

    runtime: str
    note: str


@dataclass(frozen=True)
class Receipt:
    """A unit is committed.

    Attributes:
        number: Of the unit.
        shards: Names of its files.
        stored: Which of its photos have their vectors now, int64 (n,).
        refused: Which have none, by their positions in the order.
        contents: What a fresh order's photos hold, by their positions in it.
        seconds: Time by stage, as `Facts.seconds`, and `wall`.
        runtime: What the forward pass ran on.
    """

    number: int
    shards: tuple[str, ...]
    stored: Int64
    refused: Sequence[Refused]
    contents: Contents | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    runtime: str = ""


@dataclass(frozen=True)
class Trouble:
    """An error that no other worker would be spared: it ends the job.

    Attributes:
        kind: Name of the error's class.
        text: What it says.
    """

    kind: str
    text: str

    def error(self) -> Exception:
        """The error, to be raised by the driver."""
        return _NAMED.get(self.kind, CacheError)(self.text)


@dataclass(frozen=True)
class Lost:
    """A worker ended, or failed in a way that nobody foresaw.

    Attributes:
        reason: Why, as far as it is known.
    """

    reason: str


@dataclass(frozen=True)
class Event:
    """Something that happened to a worker.

    Attributes:
        worker: Which.
        number: Of the unit it was doing; None before its first.
        result: What came of it.
    """

    worker: int
    number: int | None
    result: Started | Receipt | Trouble | Lost
