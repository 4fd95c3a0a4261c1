"""Which photos to label next, by what a model says of them; without a model, by what they look like alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Float32, Float64, Int64
from pipeline.catalogue import join_groups
from pipeline.features.near_duplicates import all_pairs
from pipeline.labelling.spread import best_of_clusters, centres, first_of_groups

CANDIDATES_PER_PHOTO = 10
"""So many photos of the highest score are clustered for each one that is chosen (Zhdanov 2019)."""

MOST_CLUSTERED = 50_000
"""Photos that are clustered at most where no model ranks them; of a larger pool a random part."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The candidates.

    Attributes:
        groups: int64 (n,): photos of one product, or of one content.
        vectors: Gives X, float32 (m, d), of some positions.
    """

    groups: Int64
    vectors: Callable[[Int64], Float32]

    def __len__(self) -> int:
        return len(self.groups)


def best_photos(pool: Pool, score: Float64, count: int, near: float, seed: int) -> Int64:
    """Positions of doubtful photos that differ, no two of one group or nearly the same, the most doubtful first.

    Args:
        pool: The candidates, n of them.
        score: (n,), the doubt about each; those of score 0 are not chosen.
        count: How many are asked for; there may be fewer.
        near: Cosine from which two photos are nearly the same.
        seed: Of the clusters.
    """
    order = first_of_groups(np.argsort(-score, kind="stable"), pool.groups)
    order = order[score[order] > 0][: CANDIDATES_PER_PHOTO * count]
    order, X = _no_two_alike(order, pool.vectors(order), near)
    chosen = order[best_of_clusters(X, score[order], count, seed)]
    return chosen[np.argsort(-score[chosen], kind="stable")]


def typical_photos(pool: Pool, count: int, near: float, seed: int) -> Int64:
    """Positions of the photos that stand for the most others, no two of one group or nearly the same.

    Args:
        pool: The candidates.
        count: How many are asked for; there may be fewer.
        near: Cosine from which two photos are nearly the same.
        seed: Of the clusters, and of the part that is clustered where the pool is large.
    """
    order = np.random.default_rng(seed).permutation(len(pool))[:MOST_CLUSTERED]
    order = np.sort(first_of_groups(order, pool.groups))
    order, X = _no_two_alike(order, pool.vectors(order), near)
    return order[centres(X, count, seed)]


def _no_two_alike(order: Int64, X: Float32, near: float) -> tuple[Int64, Float32]:
    """Of photos in this order the first of each that are nearly the same, and the vectors of these."""
    joined = join_groups(np.arange(len(order)), ((pairs.first, pairs.second) for pairs in all_pairs(X, near)))
    first = first_of_groups(np.arange(len(order)), joined)
    return order[first], X[first]
