"""Vectors to places on a plane."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from pipeline.arrays import Float32
from pipeline.errors import OptionError
from pipeline.machine import cores

FEWEST = 10
"""Fewer photos than this have no neighbourhoods that t-SNE could keep; their principal components serve."""

_COMPONENTS = 50
_PERPLEXITY = 30
_FEW = 2_000
"""Photos up to which threads wait for each other longer than they work."""


def check_layout(method: str) -> None:
    """Raise OptionError unless a layout can be made here: t-SNE needs openTSNE."""
    if method not in LAYOUTS:
        raise OptionError(f"--layout is {method!r}; it can be {' or '.join(LAYOUTS)}")
    if method == "tsne" and find_spec("openTSNE") is None:
        raise OptionError(
            "--layout tsne needs openTSNE, which is not installed: pip install -r requirements-map.txt; or take "
            "--layout pca"
        )


def place(X: Float32, method: str, seed: int) -> Float32:
    """Places (n, 2) of vectors X, float32 (n, d): centred, the longer side from -1 to 1.

    Both layouts begin with principal components: they drop what is noise to distances, and most of the time it takes.
    The same vectors and seed give the same places on the same machine. X is overwritten: a copy of it would take what
    --memory does not allow.
    """
    if len(X) < 2:
        return np.zeros((len(X), 2), np.float32)
    from sklearn.decomposition import PCA

    width = min(_COMPONENTS, *X.shape)
    reduced = PCA(width, copy=False, svd_solver="randomized", random_state=seed).fit_transform(X).astype(np.float32)
    if width < 2:
        reduced = np.column_stack([reduced, np.zeros(len(X), np.float32)])
    found = LAYOUTS[method if len(X) >= FEWEST else "pca"](reduced, seed)
    found = found - (found.max(axis=0) + found.min(axis=0)) / 2
    return np.asarray(found / max(float(np.abs(found).max()), 1e-12), np.float32)


def _tsne(reduced: Float32, seed: int) -> Float32:
    from openTSNE import TSNE

    perplexity = min(_PERPLEXITY, (len(reduced) - 1) / 3)
    jobs = 1 if len(reduced) <= _FEW else cores()
    found = TSNE(perplexity=perplexity, initialization="pca", n_jobs=jobs, random_state=seed).fit(reduced)
    return np.asarray(found, np.float32)


def _pca(reduced: Float32, seed: int) -> Float32:
    return reduced[:, :2]


LAYOUTS: dict[str, Callable[[Float32, int], Float32]] = {"tsne": _tsne, "pca": _pca}
"""Name -> what makes places of principal components and a seed."""
