"""Batches of photos on their way from files to vectors, and the photos that dropped out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.arrays import Float32, Ids, Int64, Pixels
from pipeline.errors import BadImage, NotFetched, TooCostly

Features = dict[tuple[str, str], Float32]
"""Vectors by (block, view): float32 (b, d)."""


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

    @property
    def passing(self) -> bool:
        """Whether it did not come this time, which says nothing of the photo."""
        return issubclass(self.kind, NotFetched)


@dataclass(frozen=True)
class Skipped:
    """A photo that was read and whose content nobody wanted.

    Attributes:
        index: Its position among the photos.
        content_id: The id of its bytes.
    """

    index: int
    content_id: bytes


@dataclass(frozen=True)
class Contents:
    """Which photos have which content.

    Attributes:
        rows: Positions of the photos, int64 (n,).
        ids: SHA-256 of their bytes, S32 (n,); zeros where there were none to read.
    """

    rows: Int64
    ids: Ids


@dataclass(frozen=True)
class Batch:
    """Vectors of some photos, in the order in which they were given.

    Attributes:
        indices: Positions among the photos, int64 (b,); b can be 0 when every photo since the last batch was bad.
        ids: SHA-256 of the very bytes that were decoded, S32 (b,); zeros for images and arrays.
        features: float32 (b, d) per (block, view), of the backbone or the first of several.
        rejects: Bad photos met before the last photo of this batch.
        beside: The features of the other backbones.
        skipped: Photos that were read and not wanted, likewise.
    """

    indices: Int64
    ids: Ids
    features: Features
    rejects: tuple[Reject, ...] = ()
    beside: tuple[Features, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @property
    def contents(self) -> Contents:
        """What every photo was found to be, whatever became of it."""
        others: list[Skipped | Reject] = [*self.skipped, *self.rejects]
        rows = np.concatenate([self.indices, np.array([each.index for each in others], np.int64)])
        ids = np.concatenate([self.ids, np.array([each.content_id for each in others], self.ids.dtype)])
        return Contents(rows, ids)


@dataclass(frozen=True)
class Decoded:
    """A photo between its decoder and the forward pass.

    Attributes:
        index: Its position among the photos.
        content_id: The id of its bytes.
        pixels: uint8 (s, s, 3) per transform that a backbone needs.
    """

    index: int
    content_id: bytes
    pixels: tuple[Pixels, ...]


@dataclass
class PendingBatch:
    """A batch before its forward pass.

    Attributes:
        photos: The good ones, at most the batch size.
        rejects: Bad ones met on the way to them.
        skipped: Those met that nobody wanted.
    """

    photos: list[Decoded] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
