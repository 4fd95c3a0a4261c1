"""What an ensemble is made of, and how much each member counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from pipeline.arrays import Bool, Float32, Float64, Positions
from pipeline.experiment.candidates import JudgedHead, Truth, best_of
from pipeline.heads import FittedHead
from pipeline.heads.calibration import rows_to_look_at
from pipeline.heads.config import NETWORK

_PRIOR_CELLS = 30.0
"""Labels' worth of belief in heads counting alike, against which validation labels speak."""
_STEPS, _LEAST = 200, 1e-6


def averaged(
    candidates: Sequence[JudgedHead], most: int, source: Literal["best", "each-head"], truth: Truth
) -> tuple[tuple[FittedHead, ...], tuple[float, ...]]:
    """What an ensemble is made of, and how much each counts; only heads whose links are those of the best one.

    Args:
        candidates: Single configurations, judged.
        most: Most of them, or of each head.
        source: best for those with the highest scores, all counting alike; each-head for those of each head on each
            kind of vectors. A head counts as much as any other head, and its kinds alike: several heads on each of
            several frozen networks are not to outvote another head for their number. But those that networks were
            trained under are as good as the network, so their shares are those that validation labels are likeliest
            under.
        truth: What the validation rows are known to be.
    """
    alike = [c for c in candidates if c.head.links == best_of(candidates).head.links]
    ranked = sorted(alike, key=lambda c: -c.score)
    if source == "best":
        return tuple(head for c in ranked[:most] for head in c.made_of), ()
    by_head: dict[str, dict[int, list[JudgedHead]]] = {}
    for candidate in ranked:
        config = candidate.head.config
        by_head.setdefault(config.head, {}).setdefault(config.vectors, []).append(candidate)
    members = [
        (candidate, 1.0 / (len(kinds) * len(group[:most])))
        for kinds in by_head.values()
        for group in kinds.values()
        for candidate in group[:most]
    ]
    return tuple(candidate.made_of[0] for candidate, _ in members), _with_networks(members, truth)


def _with_networks(members: Sequence[tuple[JudgedHead, float]], truth: Truth) -> tuple[float, ...]:
    """Their shares, those of networks against all others together as validation says."""
    counts = np.array([share for _, share in members])
    networks = [i for i, (candidate, _) in enumerate(members) if candidate.head.config.head == NETWORK]
    fitted = [i for i in range(len(members)) if i not in networks]
    sides = [side for side in (fitted, *([i] for i in networks)) if side]
    if len(sides) == 1:
        return tuple(counts.tolist())
    before = np.array([counts[side].sum() for side in sides])
    rows = rows_to_look_at(len(truth.Y))
    truth = replace(truth, Y=truth.Y[rows], known=truth.known[rows], groups=truth.groups[rows])
    held = [_likelihoods(candidate.P[rows], truth) for candidate, _ in members]
    says = [sum(counts[i] * held[i] for i in side) / counts[side].sum() for side in sides]
    after = _likeliest_shares(np.stack(says, axis=1), _cell_weights(truth), before / before.sum()) * before.sum()
    shares = counts.copy()
    for side, was, now in zip(sides, before, after, strict=True):
        shares[side] *= now / was
    return tuple(shares.tolist())


def _likeliest_shares(likelihoods: Float64, weights: Float64, prior: Float64) -> Float64:
    """Shares (k,), summing to 1, of a mixture under which what was observed is likeliest, by expectation maximisation.

    Args:
        likelihoods: (cells, k): how likely each of the k held each observation.
        weights: (cells,): how much each observation counts.
        prior: (k,), summing to 1: shares that so many observations more speak for (`_PRIOR_CELLS`).
    """
    shares = prior
    for _ in range(_STEPS):
        held = likelihoods * shares
        held *= (weights / held.sum(axis=1))[:, None]
        shares = held.sum(axis=0) + _PRIOR_CELLS * prior
        shares /= shares.sum()
    return shares


def _likelihoods(P: Float32, truth: Truth) -> Float64:
    """How likely probabilities (n, L) held each known label to be, (cells,): in the order of `_known`."""
    held = np.concatenate([np.where(Y, P[at], 1 - P[at]) for at, Y in _known(truth)])
    return np.clip(held.astype(np.float64), _LEAST, 1.0)


def _cell_weights(truth: Truth) -> Float64:
    """Values of one attribute of a photo count as one label together."""
    widths = [
        1 if single else columns.stop - columns.start
        for columns, single in zip(truth.schema.slices, truth.schema.single, strict=True)
    ]
    return np.concatenate([np.full(len(Y), 1.0 / width) for (_, Y), width in zip(_known(truth), widths, strict=True)])


def _known(truth: Truth) -> Iterator[tuple[tuple[Positions, Positions], Bool]]:
    """Per attribute the (rows, columns) that say what is known, and whether the value is the photo's."""
    for columns, single in zip(truth.schema.slices, truth.schema.single, strict=True):
        Y, known = truth.Y[:, columns].astype(bool), truth.known[:, columns]
        rows, values = np.nonzero(known & Y if single else known)
        yield (rows, values + columns.start), Y[rows, values]
