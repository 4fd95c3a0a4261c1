"""Small problems with known answers, shared by the tests of the heads."""

from __future__ import annotations

import numpy as np

from pipeline.heads import Targets

SIZES = (3, 2, 4)
SINGLE = (True, True, False)


def problem(n: int = 160, d: int = 6, seed: int = 0, unknown: float = 0.2) -> tuple[np.ndarray, Targets]:
    """Features (n, d) far from standardised, and three keys (3, 2 and 4 values) that depend on them linearly.

    The first two keys are single-valued, the third has any number of values; about `unknown` of the cells are masked.
    """
    rng = np.random.default_rng(seed)
    world = np.random.default_rng(12345)
    X = rng.normal(size=(n, d))
    scores = X @ world.normal(size=(d, sum(SIZES)))
    Y = np.zeros((n, sum(SIZES)), np.uint8)
    Y[np.arange(n), scores[:, :3].argmax(axis=1)] = 1
    Y[np.arange(n), 3 + scores[:, 3:5].argmax(axis=1)] = 1
    Y[:, 5:] = scores[:, 5:] > 0.5
    mask = np.repeat(rng.random((n, 3)) >= unknown, SIZES, axis=1)
    raw = (2 * X + 1).astype(np.float32)
    return raw, Targets.plain(Y, mask, SIZES, SINGLE)


def key_accuracy(P: np.ndarray, targets: Targets, key: int) -> float:
    """Share of known photos whose best value of a single-valued key is right."""
    columns = targets.slices[key]
    known = targets.mask[:, columns.start]
    return float((P[known, columns].argmax(axis=1) == targets.Y[known, columns].argmax(axis=1)).mean())
