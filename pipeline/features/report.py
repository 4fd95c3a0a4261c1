"""What an extraction says of itself: while it runs, and at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """How far an extraction is: photos done of those to compute, photos per second, seconds left."""

    done: int
    total: int
    per_second: float
    seconds_left: float


@dataclass(frozen=True)
class PhotoReject:
    """A photo without a vector, and why; `path` is the URL of one on another machine."""

    path: Path | str
    reason: str


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction did and where its time went.

    Attributes:
        key: Digest of the base key the vectors are under.
        columns: (block, view, width) of each column asked for.
        photos: Photos given.
        unique: Distinct contents among those that could be read.
        duplicates: Photos whose bytes another photo has too.
        reused: Contents that were in the cache already.
        written: Contents of which something was computed and stored.
        extended: Those among them that had some of what was asked for before.
        left: Contents that still lack something, where only so many were to be computed, and photos not yet read.
        rejects: Photos without a vector.
        seconds: Wall time of `start` (weights), `hash`, `runtime` (conversion), `stop` (of a cluster's workers) and
            `total`; time summed over threads of `read`, `decode`, `colour` (that block, where it was asked for),
            `forward`; time of `write`; `probe`, the measuring of `forward_per_second`.
        images_per_second: Computed photos by wall time of the computing part, 0 when nothing was computed.
        forward_per_second: Photos per second of the forward pass alone, measured after a run of a minute or more.
        runtime: What the forward pass ran on, or that no network was needed, with batch size, workers and streams;
            empty when nothing was computed.
        notes: Lines the user should see, such as a fallback to a slower runtime or random weights.
    """

    key: str
    columns: tuple[tuple[str, str, int], ...]
    photos: int
    unique: int
    duplicates: int
    reused: int
    written: int
    rejects: tuple[PhotoReject, ...]
    seconds: dict[str, float]
    images_per_second: float = 0.0
    forward_per_second: float | None = None
    runtime: str = ""
    extended: int = 0
    left: int = 0
    notes: tuple[str, ...] = ()

    @property
    def efficiency(self) -> float | None:
        """Share of the forward-only rate that the whole extraction reached, where that was measured.

        None too where the forward pass alone came out slower than the extraction that contains it: then the machine
        was busier while that was measured, and the share would be wrong.
        """
        if not self.forward_per_second or self.forward_per_second < self.images_per_second:
            return None
        return self.images_per_second / self.forward_per_second
