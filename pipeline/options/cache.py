"""What is written out of the cache, and what is removed from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExportOptions:
    """What is exported from the cache.

    Attributes:
        out: File to write: .h5 or .npz.
        cache: Folder of the embedding cache.
        use: Feature blocks to write side by side, separated by commas (default: all that are cached).
        view: Which view to write.
        model: Model file: write what it takes, its blocks in order and all its views, one after the other in a row.
        sha256: Refuse the model file unless its SHA-256 is this.
    """

    out: Path = Path("features.h5")
    cache: Path = Path("features")
    use: tuple[str, ...] = ()
    view: str = "identity"
    model: Path | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class PruneOptions:
    """What is removed from the cache.

    Attributes:
        cache: Folder of the embedding cache.
        drop_cache_key: First digits of cache keys that are no longer wanted (`cache info` lists them).
        quarantine: Also delete what `cache verify --repair` moved to quarantine.
        yes: Really remove; without it the command only says what it would remove.
    """

    cache: Path = Path("features")
    drop_cache_key: tuple[str, ...] = ()
    quarantine: bool = False
    yes: bool = False
