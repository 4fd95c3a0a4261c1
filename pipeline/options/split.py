"""Which photos train, which choose, which judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SplitOptions:
    """How the photos are divided into train, validation and test.

    Attributes:
        split: Shares of train, validation and test, in percent.
        split_from: Take the split from a split.csv or from a run folder instead.
        split_seed: Seed of the split.
        group_column: Column of the CSV that names the product; photos of one product stay in one part.
        group_regex: Regular expression whose first group (or whole match) in the file name is the product.
        near_duplicates: Cosine of pooled vectors from which photos of different parts are listed (0 is off).
        regroup: Keep photos with such a cosine in one part, as if they were of one product.
    """

    split: str = "64/16/20"
    split_from: Path | None = None
    split_seed: int = 0
    group_column: str | None = None
    group_regex: str | None = None
    near_duplicates: float = 0.98
    regroup: bool = False
