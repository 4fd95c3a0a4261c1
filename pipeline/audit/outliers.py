"""Photos that lie far from all others of their kind."""

from __future__ import annotations

import numpy as np

from pipeline.arrays import Float32, Float64, Int64, Vectors

MOST_COMPARED = 1 << 14
"""Rows with which each is compared, so that a catalogue ten times as large takes ten times as long."""

_CELLS = 1 << 24
_CHUNK = 4096


def whitened(X: Vectors, dims: int = 64, seed: int = 0, some: Int64 | None = None) -> Float32:
    """Principal components (n, <= dims) of X (n, d), each scaled to variance 1, so that no block of features rules.

    Args:
        X: Vectors.
        dims: How many components at most.
        seed: Of the sketch that they are computed from.
        some: Rows to compute them from, where X is not to be held as a whole.
    """
    from sklearn.decomposition import PCA

    n, d = X.shape
    width = max(1, min(dims, d, (n if some is None else len(some)) - 1))
    components = PCA(width, whiten=True, svd_solver="randomized", random_state=seed)
    if some is None:
        return np.asarray(components.fit_transform(X[:]), np.float32)
    components.fit(X[some])
    parts = [components.transform(X[at : at + _CHUNK]) for at in range(0, n, _CHUNK)]
    return np.concatenate(parts).astype(np.float32)


def neighbour_distance(Z: Float32, neighbours: int = 10) -> Float64:
    """Mean Euclidean distance (n,) of each row of Z (n, p) to its nearest other rows (Angiulli and Pizzuti 2002).

    Of more than `MOST_COMPARED` rows the nearest are looked for among so many of them, drawn by chance, as they suffice
    to tell what lies far off (Sugiyama and Borgwardt 2013); all distances grow alike.
    """
    among = np.arange(len(Z))
    if len(Z) > MOST_COMPARED:
        among = np.sort(np.random.default_rng(0).choice(len(Z), MOST_COMPARED, replace=False))
    count = min(neighbours, len(among) - 1)
    if count < 1:
        return np.zeros(len(Z))
    others = Z[among]
    squares, their = np.einsum("ij,ij->i", Z, Z), np.einsum("ij,ij->i", others, others)
    result = np.empty(len(Z))
    step = max(1, _CELLS // len(others))
    for start in range(0, len(Z), step):
        rows = Z[start : start + step]
        distances = squares[start : start + step, None] + their[None, :] - 2 * rows @ others.T
        first, last = np.searchsorted(among, (start, start + len(rows)))
        distances[among[first:last] - start, np.arange(first, last)] = np.inf
        nearest = np.partition(distances, count - 1, axis=1)[:, :count]
        result[start : start + step] = np.sqrt(np.maximum(nearest, 0)).mean(axis=1)
    return result


def robust_scores(distance: Float64) -> Float64:
    """Modified z-scores (n,) of the logarithms: 0.6745 (x - median) / MAD.

    Iglewicz and Hoaglin (1993), who call 3.5 far. Logarithms, because distances are skewed. Equal distances score 0.
    """
    x = np.log(np.maximum(distance, 1e-12))
    middle = np.median(x)
    spread = np.median(np.abs(x - middle))
    scores: Float64 = 0.6745 * (x - middle) / spread if spread > 0 else np.zeros(len(x))
    return scores
