"""What an ensemble is made of, and how much each member counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.arrays import Bool, Float32, Float64, Positions, UInt8
from pipeline.catalogue.labels import LabelSchema
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
    labels = list(_known_labels(truth.schema, truth.Y[rows], truth.known[rows]))
    held = [_likelihoods(candidate.P[rows], labels) for candidate, _ in members]
    says = [sum(counts[i] * held[i] for i in side) / counts[side].sum() for side in sides]
    weights = np.concatenate([np.full(len(each.true), each.weight) for each in labels])
    after = _likeliest_shares(np.stack(says, axis=1), weights, before / before.sum()) * before.sum()
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


@dataclass(frozen=True)
class _Labels:
    """What is known of an attribute.

    Attributes:
        at: Rows and columns, (cells,) each.
        true: Whether the value is the photo's, (cells,).
        weight: Of a cell; values of a multi-valued attribute of a photo count as one label together.
    """

    at: tuple[Positions, Positions]
    true: Bool
    weight: float


def _known_labels(schema: LabelSchema, Y: UInt8, known: Bool) -> Iterator[_Labels]:
    for columns, single in zip(schema.slices, schema.single, strict=True):
        true = Y[:, columns].astype(bool)
        rows, values = np.nonzero(known[:, columns] & true if single else known[:, columns])
        weight = 1.0 if single else 1.0 / (columns.stop - columns.start)
        yield _Labels((rows, values + columns.start), true[rows, values], weight)


def _likelihoods(P: Float32, labels: Sequence[_Labels]) -> Float64:
    """How likely probabilities (n, L) held each known label to be, (cells,)."""
    held = np.concatenate([np.where(each.true, P[each.at], 1 - P[each.at]) for each in labels])
    return np.clip(held.astype(np.float64), _LEAST, 1.0)
