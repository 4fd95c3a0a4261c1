"""Batches of photos on their way from files to vectors, and the photos that dropped out."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.arrays import Float32, Ids, Int64, Pixels

Features = dict[tuple[str, str], Float32]
"""Vectors by (block, view): float32 (b, d)."""


@dataclass(frozen=True)
class Reject:
    """A photo without a vector.

    Attributes:
        index: Its position among the paths.
        content_id: The id of its bytes; zeros if they were not read.
        reason: Why.
        lasting: Whether the content itself is at fault, so that no other run can take it.
    """

    index: int
    content_id: bytes
    reason: str
    lasting: bool = True


@dataclass(frozen=True)
class Batch:
    """Vectors of some photos, in the order of the paths.

    Attributes:
        indices: Positions among the paths, int64 (b,); b can be 0 when every photo since the last batch was bad.
        ids: SHA-256 of the very bytes that were decoded, S32 (b,).
        features: float32 (b, d) per (block, view).
        rejects: Bad photos met before the last photo of this batch.
    """

    indices: Int64
    ids: Ids
    features: Features
    rejects: tuple[Reject, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """A photo between its decoder and the forward pass: its position among the paths, its id, uint8 (s, s, 3)."""

    index: int
    content_id: bytes
    pixels: Pixels


@dataclass
class PendingBatch:
    """A batch before its forward pass.

    Attributes:
        photos: The good ones, at most the batch size.
        rejects: Bad ones met on the way to them.
        attempted: The batch size of the last forward pass, 0 before the first.
    """

    photos: list[Decoded] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    attempted: int = 0
