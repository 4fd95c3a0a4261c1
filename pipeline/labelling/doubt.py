"""How little a model knows about each attribute of a photo, and how well it expects to know each value."""

from __future__ import annotations

import numpy as np

from pipeline.arrays import Float32, Float64
from pipeline.catalogue import LabelSchema

_TINY = 1e-9


def doubts(P: Float32, schema: LabelSchema) -> Float32:
    """Doubt about each attribute of each photo, (n, K), 0 (sure) to 1.

    Of one value per photo it is 1 less the margin between the two most likely values; of several the probability that
    the most likely answer is wrong somewhere, each value being right or wrong on its own.

    Args:
        P: Probabilities (n, L).
        schema: What the columns are.
    """
    columns = [
        _margin_doubt(P[:, at]) if single else 1 - np.maximum(P[:, at], 1 - P[:, at]).prod(axis=1)
        for at, single in zip(schema.slices, schema.single, strict=True)
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _margin_doubt(p: Float32) -> Float32:
    if p.shape[1] == 1:
        alone: Float32 = 1 - np.abs(2 * p[:, 0] - 1)
        return alone
    shares = p / np.maximum(p.sum(axis=1, keepdims=True), _TINY)
    best = np.partition(shares, -2, axis=1)[:, -2:]
    margin: Float32 = 1 - (best[:, 1] - best[:, 0])
    return margin


def expected_f1(P: Float32, schema: LabelSchema) -> Float64:
    """The F1 of each value that the model's own probabilities promise on these photos, (L,).

    Of a value decided on some photos, 2 x (the probability on those) / (their number + all probability of the value):
    rare values, which are seldom decided, and values taken for others come out poor alike.

    Args:
        P: Probabilities (n, L) of photos as they come.
        schema: What the columns are.
    """
    D = np.zeros(P.shape, np.bool_)
    for at, single in zip(schema.slices, schema.single, strict=True):
        if single:
            D[np.arange(len(P)), at.start + P[:, at].argmax(axis=1)] = True
        else:
            D[:, at] = P[:, at] >= 0.5
    right = np.where(D, P, 0).sum(axis=0, dtype=np.float64)
    f1: Float64 = 2 * right / np.maximum(D.sum(axis=0) + P.sum(axis=0, dtype=np.float64), _TINY)
    return np.minimum(f1, 1)
