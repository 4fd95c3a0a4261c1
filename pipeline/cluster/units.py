"""Units of work: photos whose vectors become one shard per column."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.arrays import Int64
from pipeline.features.engines.jobs import Job

UNIT_PHOTOS = 1024
"""The rows of a shard."""
_FEWEST = 64
_PER_WORKER = 8  # units a worker gets at least, so that none waits long for another's last one

Numbers = Callable[[int], Sequence[int]]
"""Gives so many numbers of shards that nobody else has."""


@dataclass(frozen=True, eq=False)
class Unit:
    """Photos that one worker takes at a time.

    Attributes:
        number: Of its shards; no other unit has it, and whoever does the unit again gives them the same.
        rows: Positions among the photos of the extraction, int64 (n,).
        blocks: Feature blocks, the same for each view.
        views: Views of each photo.
        fresh: Whether nobody has read the photos before.
        strikes: How often a worker ended, failed or hung on it, or on what it is a half of.
    """

    number: int
    rows: Int64
    blocks: tuple[str, ...]
    views: tuple[str, ...]
    fresh: bool = False
    strikes: int = 0

    def halves(self, numbers: Sequence[int]) -> list[Unit]:
        """Both halves, under numbers of their own, with one strike left of those of the whole."""
        parts = np.array_split(self.rows, 2)
        return [replace(self, number=n, rows=rows, strikes=1) for n, rows in zip(numbers, parts, strict=True)]


def unit_photos(photos: int, workers: int) -> int:
    """Photos per unit: a shard's rows, fewer where that leaves each worker with only a few units."""
    return min(UNIT_PHOTOS, max(_FEWEST, math.ceil(photos / (_PER_WORKER * max(1, workers)))))


def cut(jobs: Sequence[Job], photos: int, numbers: Numbers) -> list[Unit]:
    """Units of at most so many photos, those of one job about equal.

    Args:
        jobs: Photos that lack the same columns.
        photos: Most photos of a unit.
        numbers: Where their numbers come from.
    """
    parts = [(job, rows) for job in jobs for rows in np.array_split(job.rows, math.ceil(len(job.rows) / photos))]
    return [
        Unit(number, rows, job.blocks, job.views, job.fresh is not None)
        for number, (job, rows) in zip(numbers(len(parts)), parts, strict=True)
    ]
