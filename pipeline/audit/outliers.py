"""Photos that lie far from all others of their kind."""

from __future__ import annotations

import numpy as np

from pipeline.arrays import Float32, Float64

_CELLS = 1 << 24


def whitened(X: Float32, dims: int = 64, seed: int = 0) -> Float32:
    """Principal components (n, <= dims) of X (n, d), each scaled to variance 1, so that no block of features rules."""
    from sklearn.decomposition import PCA

    width = max(1, min(dims, X.shape[1], len(X) - 1))
    reduced = PCA(width, whiten=True, svd_solver="randomized", random_state=seed).fit_transform(X)
    return np.asarray(reduced, np.float32)


def neighbour_distance(Z: Float32, neighbours: int = 10) -> Float64:
    """Mean Euclidean distance (n,) of each row of Z (n, p) to its nearest other rows (Angiulli and Pizzuti 2002)."""
    count = min(neighbours, len(Z) - 1)
    if count < 1:
        return np.zeros(len(Z))
    squares = np.einsum("ij,ij->i", Z, Z)
    result = np.empty(len(Z))
    step = max(1, _CELLS // len(Z))
    for start in range(0, len(Z), step):
        rows = Z[start : start + step]
        distances = squares[start : start + step, None] + squares[None, :] - 2 * rows @ Z.T
        distances[np.arange(len(rows)), np.arange(start, start + len(rows))] = np.inf
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
