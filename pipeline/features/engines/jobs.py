"""What an extraction has to compute, in jobs: photos that lack the same blocks of the same views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cache import Column
from pipeline.arrays import Bool, Int64
from pipeline.features.contents.fresh import FreshContents


@dataclass(frozen=True, eq=False)
class Job:
    """Photos that one `Embedder` takes.

    Attributes:
        rows: Positions among the photos of the extraction, int64 (n,).
        blocks: Feature blocks, the same for each view.
        views: Views of each photo, which share one decoding.
        fresh: Decides over photos whose content is known only once they are read; None for all others.
    """

    rows: Int64
    blocks: tuple[str, ...]
    views: tuple[str, ...]
    fresh: FreshContents | None = None


def jobs_of(rows: Int64, lacking: Bool, columns: Sequence[Column]) -> list[Job]:
    """Rows that lack the same columns go together; views that lack the same blocks share one decoding.

    Args:
        rows: The photos, int64 (n,).
        lacking: True where the cache has no such vector, bool (n, columns).
        columns: What is wanted of each photo.
    """
    patterns, group = np.unique(lacking, axis=0, return_inverse=True)
    jobs = []
    for number, pattern in enumerate(patterns):
        blocks_of: dict[str, list[str]] = {}
        for column in (column for column, is_lacking in zip(columns, pattern, strict=True) if is_lacking):
            blocks_of.setdefault(column.view, []).append(column.block.name)
        views_of: dict[tuple[str, ...], list[str]] = {}
        for view, blocks in blocks_of.items():
            views_of.setdefault(tuple(blocks), []).append(view)
        at = np.flatnonzero(group.reshape(-1) == number)
        jobs += [Job(rows[at], blocks_together, tuple(views)) for blocks_together, views in views_of.items()]
    return jobs


def job_of_new(rows: Int64, columns: Sequence[Column], fresh: FreshContents) -> Job:
    """The job of photos whose content nobody knows: all that is wanted, of contents that lack any of it."""
    blocks = dict.fromkeys(column.block.name for column in columns)
    return Job(rows, tuple(blocks), tuple(dict.fromkeys(column.view for column in columns)), fresh)
