"""A few photos for many: the best of each cluster, no two of which show the same thing."""

from __future__ import annotations

import numpy as np

from pipeline.arrays import Float32, Float64, Int64

_DIRECTIONS = 64
_BATCH = 2048


def first_of_groups(order: Int64, groups: Int64) -> Int64:
    """Of photos in this order, positions (m,), those whose group none before them has; groups is (n,)."""
    first = np.unique(groups[order], return_index=True)[1]
    return order[np.sort(first)]


def best_of_clusters(X: Float32, score: Float64, count: int, seed: int) -> Int64:
    """As many positions as are asked for, the best of each cluster first: int64 (min(count, n),).

    Args:
        X: float32 (n, d), what the photos look like.
        score: (n,), how good each is; it weighs the photo in the clusters too.
        count: How many clusters are made.
        seed: Of the clusters.
    """
    if count >= len(X):
        return np.argsort(-score, kind="stable")
    cluster, _ = _clusters(X, score, count, seed)
    by_score = np.argsort(-score, kind="stable")
    best = first_of_groups(by_score, cluster)
    rest = by_score[~np.isin(by_score, best)]
    return np.concatenate([best, rest])[:count]


def centres(X: Float32, count: int, seed: int) -> Int64:
    """The photo nearest to the centre of each cluster, the largest clusters first: int64 (min(count, n),).

    Args:
        X: float32 (n, d), what the photos look like.
        count: How many clusters are made.
        seed: Of the clusters.
    """
    if count >= len(X):
        return np.arange(len(X))
    cluster, distance = _clusters(X, np.ones(len(X)), count, seed)
    nearest_first = np.argsort(distance, kind="stable")
    best = first_of_groups(nearest_first, cluster)
    sizes = np.bincount(cluster, minlength=count)
    best = best[np.argsort(-sizes[cluster[best]], kind="stable")]
    rest = nearest_first[~np.isin(nearest_first, best)]
    return np.concatenate([best, rest])[:count]


def _clusters(X: Float32, weight: Float64, count: int, seed: int) -> tuple[Int64, Float64]:
    """The cluster of each row, and its distance to the centre, in the directions in which the rows differ most."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import PCA

    unit = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    width = max(1, min(_DIRECTIONS, X.shape[1], len(X) - 1))
    Z = PCA(width, svd_solver="randomized", random_state=seed).fit_transform(unit)
    means = MiniBatchKMeans(count, batch_size=_BATCH, n_init=1, max_iter=20, random_state=seed)
    weights = weight / weight.max() if weight.max() > 0 else np.ones(len(X))
    means.fit(Z, sample_weight=weights)
    cluster = means.predict(Z).astype(np.int64)
    return cluster, np.linalg.norm(Z - means.cluster_centers_[cluster], axis=1)
