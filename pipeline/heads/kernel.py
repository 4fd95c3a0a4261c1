"""Kernel ridge regression: a head without epochs that remembers training photos and weighs blocks of features.

A vector x becomes z = (x - mean) / deviation * weight of its block, and two photos are as alike as the Gaussian kernel
k(x, c) = exp(-|z(x) - z(c)|^2 / (2 s^2)) says, where s is the bandwidth times the median distance between training
photos. Scores are S = K a + prior with (K + ridge I) a = Y - prior over the photos that know the attribute (ridge
regression in dual variables: Saunders, Gammerman and Vovk 1998). Of more photos than `landmarks`, that many are drawn
and kept, and a is fitted on all of them: (K' K + ridge C) a = K' (Y - prior) with K (photos, landmarks) and C the
kernel between landmarks (Nystroem's approximation; Williams and Seeger 2001).

Scores become probabilities as logits do: `SHARPNESS` times the score, softmax over a single-valued attribute, a sigmoid
around one half for each value of another. Logit adjustment takes tau log(prior) off the logits of a softmax.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.arrays import Bool, Float, Float32, Float64, Int64, Positions
from pipeline.errors import HeadError
from pipeline.heads.config import HeadConfig
from pipeline.heads.fitted import FittedHead
from pipeline.heads.probabilities import gaussian, kernel_rows
from pipeline.heads.source import checked_rows
from pipeline.heads.targets import Targets

SHARPNESS = 10.0
"""Of a score from 0 to 1 a logit; calibration chooses the temperature, this is where it starts."""

_MOST_DISTANCES = 2000
_CHUNK = 2048
_COPIES = 2.5  # of one view: the mean over the views, the scaled rows, those that are kept
_JITTER = 1e-4  # on a diagonal of ones: far above what single precision loses, far below any useful ridge


def parse_block_weights(texts: Sequence[str]) -> dict[str, float]:
    """Weights of `name=weight` texts.

    Raises:
        HeadError: A text of another form, a weight that is no positive number, or a name given twice.
    """
    weights: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not name or not 0.0 < weight < float("inf"):
            raise HeadError(f"--block-weights {text!r}: expected block=weight with a positive number, such as levels=2")
        if name in weights:
            raise HeadError(f"--block-weights names the block {name!r} twice")
        weights[name] = weight
    return weights


def bytes_needed(config: HeadConfig, one_view: int, rows: int) -> int:
    """Most bytes a fit holds beside the features: copies of one view, and the kernel in single and double precision."""
    landmarks = min(rows, config.landmarks)
    return int(_COPIES * one_view) + (12 if rows <= config.landmarks else 36) * landmarks**2 + 32 * landmarks * _CHUNK


def fit_kernel_ridge(
    config: HeadConfig,
    X: Float32,
    targets: Targets,
    blocks: Sequence[tuple[str, int]],
    tell: Callable[[str], None] | None = None,
) -> FittedHead:
    """Fit one configuration.

    Args:
        config: Of the head kernel-ridge.
        X: Features (n, d) or (V, n, d) in memory; views of a photo are averaged, since one photo is one row.
        targets: Of the n photos.
        blocks: Name and width of the blocks that stand side by side in X; none: one block without a name.
        tell: Takes a line of news.

    Returns:
        The head, with one member of the kind "kernel"; it is not judged on validation yet.

    Raises:
        HeadError: Features that are not finite or do not fit the targets or the blocks.
    """
    started = time.perf_counter()
    rows = _one_row_per_photo(X, targets)
    if tell is not None:
        tell(f"{config.config_id}: {min(len(rows), config.landmarks)} of {len(rows)} photos are kept in the model")
    weight = _weight_per_feature(config, blocks, rows.shape[1])
    mean, deviation = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    member: dict[str, Any] = {
        "kind": "kernel",
        "offset": mean.astype(np.float32),
        "scale": (weight / np.where(deviation > 1e-6 * np.abs(mean), deviation, np.inf)).astype(np.float32),
    }
    random = np.random.default_rng(config.seed)
    member["scale"] /= np.float32(np.sqrt(2.0) * config.bandwidth * _median_distance(member, rows, random))
    kept = np.arange(len(rows))
    if len(rows) > config.landmarks:
        kept = np.sort(random.permutation(len(rows))[: config.landmarks])
    member["landmarks"] = _scaled(member, rows[kept]).astype(np.float16)
    prior = targets.shares
    layer = _layer(config, _dual(config, member, rows, kept, targets, prior), targets, prior)
    return FittedHead(
        config=config,
        members=[{**member, "layers": [layer], "hidden": "relu"}],
        links=tuple("softmax" if single else "sigmoid" for single in targets.single),
        slices=targets.slices,
        seconds=time.perf_counter() - started,
        not_learnable=targets.not_learnable,
    )


def _one_row_per_photo(X: Float32, targets: Targets) -> Float32:
    array = np.asarray(X, np.float32)
    rows = array.mean(axis=0, dtype=np.float32) if array.ndim == 3 else array
    return checked_rows(rows, np.shape(X), len(targets))


def _weight_per_feature(config: HeadConfig, blocks: Sequence[tuple[str, int]], dim: int) -> Float64:
    weights = parse_block_weights(config.block_weights)
    widths = blocks or (("", dim),)
    if sum(width for _, width in widths) != dim:
        raise HeadError(f"blocks of {[width for _, width in widths]} numbers do not make features of {dim}")
    return np.repeat([weights.get(name, 1.0) for name, _ in widths], [width for _, width in widths])


def _scaled(member: Mapping[str, Any], rows: Float32) -> Float32:
    return np.asarray((rows - member["offset"]) * member["scale"])


def _median_distance(member: Mapping[str, Any], rows: Float32, random: np.random.Generator) -> float:
    """Between two photos, each drawn from at most `_MOST_DISTANCES`; 1 where they do not differ."""
    drawn = random.permutation(len(rows))[:_MOST_DISTANCES]
    Z = _scaled(member, rows[drawn]).astype(np.float64)
    lengths = (Z * Z).sum(axis=1)
    squares = lengths[:, None] + lengths[None, :] - 2.0 * Z @ Z.T
    apart = squares[np.triu_indices(len(Z), 1)]
    median = float(np.sqrt(max(np.median(apart), 0.0))) if len(apart) else 0.0
    return median or 1.0


def _dual(
    config: HeadConfig, member: Mapping[str, Any], rows: Float32, kept: Int64, targets: Targets, prior: Float64
) -> Float64:
    """The weights (landmarks, L) of the kernel, solved once for all columns that know the same photos."""
    exact = len(kept) == len(rows)
    # Both sides rounded as they will be kept: a kernel that is not symmetric has no Cholesky factor.
    between = gaussian(member["landmarks"].astype(np.float32), member["landmarks"])
    dual = np.zeros((len(kept), targets.size))
    for columns, known in _columns_by_mask(targets.mask):
        if not known.any():
            continue
        wanted = np.where(targets.Y[np.ix_(np.flatnonzero(known), columns)] > 0, 1.0, 0.0) - prior[columns]
        if exact:
            dual[np.ix_(np.flatnonzero(known), columns)] = _solve(between[np.ix_(known, known)], config.ridge, wanted)
        else:
            dual[:, columns] = _nystroem(config, member, between, rows[known], wanted)
    return dual


def _columns_by_mask(mask: Bool) -> list[tuple[Positions, Bool]]:
    """Columns that know the same rows, with these rows."""
    groups: dict[bytes, list[int]] = {}
    for column in range(mask.shape[1]):
        groups.setdefault(np.packbits(mask[:, column]).tobytes(), []).append(column)
    return [(np.array(columns, np.intp), mask[:, columns[0]]) for columns in groups.values()]


def _solve(kernel: Float, ridge: float, wanted: Float64) -> Float64:
    """Solve (kernel + ridge I) a = wanted in double precision."""
    from scipy.linalg import cho_factor, cho_solve

    system = kernel.astype(np.float64)
    system[np.diag_indices(len(system))] += ridge
    solution: Float64 = cho_solve(cho_factor(system, lower=True, overwrite_a=True, check_finite=False), wanted)
    return solution


def _nystroem(
    config: HeadConfig, member: Mapping[str, Any], between: Float32, rows: Float32, wanted: Float64
) -> Float64:
    from scipy.linalg import cholesky, solve_triangular

    # With C = L L', features K L'^-1 have the plain ridge system, which stays regular where photos are nearly equal.
    root = between.astype(np.float64)
    root[np.diag_indices(len(root))] += _JITTER
    root = cholesky(root, lower=True, overwrite_a=True, check_finite=False)
    system, side = np.zeros_like(root), np.zeros((len(root), wanted.shape[1]))
    for start in range(0, len(rows), _CHUNK):
        similar = kernel_rows(member, rows[start : start + _CHUNK])
        features = solve_triangular(root, similar.T.astype(np.float64), lower=True, check_finite=False)
        system += features @ features.T
        side += features @ wanted[start : start + _CHUNK]
    solution: Float64 = solve_triangular(root, _solve(system, config.ridge, side), lower=True, trans=1)
    return solution


def _layer(config: HeadConfig, dual: Float64, targets: Targets, prior: Float64) -> tuple[Float32, Float32]:
    """(W, b) from kernel values to logits."""
    bias = SHARPNESS * prior - targets.logit_adjustment(config.logit_adjust)
    for columns, single in zip(targets.slices, targets.single, strict=True):
        if not single:
            bias[columns] -= SHARPNESS / 2
    return (SHARPNESS * dual).astype(np.float32), bias.astype(np.float32)
