"""Probabilities that mean what they say: per attribute a temperature or Platt's two numbers, in the last layer.

A softmax key's logits are divided by one temperature (Guo et al. 2017), so z becomes scale * z; a sigmoid key's become
scale * z + shift (Platt 1999), the same two numbers for all its values. Both are fitted on known validation cells by
the log loss, with a Gaussian prior on (log scale, shift) that weighs as much as one photo, and scale stays positive:
on one member and one view the order of an attribute's values cannot change.

A calibration is kept only where it helps (`fit_calibration` with folds): on a few dozen photos two numbers follow luck,
and a head that is right about itself gets worse by them.

Averages (ensembles, several views) get one scale and shift for all their members, fitted on the loss of the averaged
probability; there the order of nearly equal values may move. Heads with scikit-learn or LightGBM members have no layer
to fold anything into and stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.arrays import Bool, Float, Float64, Positions, UInt8
from pipeline.heads.fitted import FittedHead
from pipeline.heads.probabilities import member_logits, member_weights

ROWS = 4000
"""Photos looked at; two numbers per attribute need no more."""

ALONE = (1.0, 0.0)
"""The scale and shift that change nothing."""

TINY = 1e-12
STEEPEST = 4.0


@dataclass(frozen=True)
class Calibration:
    """Per attribute of the schema: the factor and the term applied to its logits; `ALONE` where it is left alone."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    @property
    def left_alone(self) -> tuple[int, ...]:
        """Places of the attributes whose probabilities stay as they were."""
        pairs = zip(self.scale, self.shift, strict=True)
        return tuple(i for i, pair in enumerate(pairs) if pair == ALONE)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {"scale": list(self.scale), "shift": list(self.shift)}


def can_be_calibrated(head: FittedHead) -> bool:
    """Whether every member is made of layers."""
    return all("layers" in member for member in head.members)


def rows_to_look_at(n: int) -> Positions:
    """At most `ROWS` of n rows, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, ROWS)).astype(np.intp))


def fit_calibration(head: FittedHead, X: Float, Y: UInt8, known: Bool, folds: Positions | None = None) -> Calibration:
    """The calibration of a head on photos it was not fitted on.

    Args:
        X: Features (n, d), or (V, n, d) with views.
        Y, known: (n, L).
        folds: The fold of each photo, (n,), products whole. With them an attribute is left alone unless calibration
            helps: photos must lose less by what the other folds found than without it, by more than a standard error.
    """
    views = X if X.ndim == 3 else X[None]
    logits = [member_logits(member, view) for view in views for member in head.members]
    shares = member_weights(head.members) * len(views)
    per_attribute = []
    for columns, link in zip(head.slices, head.links, strict=True):
        Z = np.stack([z[:, columns] for z in logits]).astype(np.float64)
        cells = _Cells(Z, Y[:, columns], known[:, columns], shares, link)
        per_attribute.append(cells.fitted() if folds is None or _helps(cells, folds) else ALONE)
    return Calibration(tuple(a for a, _ in per_attribute), tuple(b for _, b in per_attribute))


@dataclass(frozen=True)
class _Cells:
    """One attribute of w values on n photos: logits of each member and view (m, n, w), Y and known (n, w)."""

    Z: Float64
    Y: UInt8
    known: Bool
    shares: Sequence[float]
    link: str

    def take(self, rows: Positions | Bool) -> _Cells:
        return replace(self, Z=self.Z[:, rows], Y=self.Y[rows], known=self.known[rows])

    def fitted(self) -> tuple[float, float]:
        """(scale, shift)."""
        of_link = _of_softmax if self.link == "softmax" else _of_sigmoid
        return of_link(self.Z, self.Y, self.known, self.shares)

    def losses(self, scale: float, shift: float) -> Float64:
        """Log loss of each photo, (n,); 0 where nothing is known."""
        logits = scale * self.Z + shift
        if self.link == "softmax":
            grown = np.exp(logits - logits.max(axis=2, keepdims=True))
            P = _average(grown / grown.sum(axis=2, keepdims=True), self.shares)
            return np.asarray(-np.where(self.known & (self.Y > 0), np.log(P + TINY), 0.0).sum(axis=1))
        P = _average(0.5 * (1.0 + np.tanh(0.5 * logits)), self.shares)
        return np.asarray(-np.where(self.known, np.log(np.where(self.Y > 0, P, 1.0 - P) + TINY), 0.0).sum(axis=1))


def _helps(cells: _Cells, folds: Positions) -> bool:
    """Whether photos lose less by what the other folds find, by more than the standard error of the gain."""
    gain = np.zeros(len(folds))
    for fold in np.unique(folds):
        here = cells.take(folds == fold)
        gain[folds == fold] = here.losses(*ALONE) - here.losses(*cells.take(folds != fold).fitted())
    gain = gain[cells.known.any(axis=1)]
    return len(gain) > 1 and float(gain.mean()) > float(gain.std(ddof=1)) / np.sqrt(len(gain))


def calibrated(head: FittedHead, calibration: Calibration) -> FittedHead:
    """The head with the calibration folded into the last layer of every member."""
    scale, shift = np.ones(head.slices[-1].stop), np.zeros(head.slices[-1].stop)
    for columns, a, b in zip(head.slices, calibration.scale, calibration.shift, strict=True):
        scale[columns], shift[columns] = a, b
    return replace(head, members=[_folded(member, scale, shift) for member in head.members])


def uncalibrated(head: FittedHead, calibration: Calibration) -> FittedHead:
    """The head that `calibrated` was given, from what it gave."""
    pairs = list(zip(calibration.scale, calibration.shift, strict=True))
    return calibrated(head, Calibration(tuple(1 / a for a, _ in pairs), tuple(-b / a for a, b in pairs)))


def _folded(member: dict[str, Any], scale: Float64, shift: Float64) -> dict[str, Any]:
    *inner, (W, b) = member["layers"]
    last = ((W * scale).astype(np.float32), (b * scale + shift).astype(np.float32))
    return {**member, "layers": [*inner, last]}


def _of_softmax(Z: Float64, Y: UInt8, known: Bool, shares: Sequence[float]) -> tuple[float, float]:
    """(1 / temperature, 0) from logits (members, n, w), averaged by the members' shares."""
    rows = (known & (Y > 0)).any(axis=1)
    if not rows.any():
        return 1.0, 0.0
    Z = Z[:, rows] - Z[:, rows].max(axis=2, keepdims=True)
    at = (Y[rows] * known[rows]).argmax(axis=1)
    Z_true = np.take_along_axis(Z, at[None, :, None], axis=2)[..., 0]

    def loss(x: Float64) -> tuple[float, Float64]:
        scale = float(np.exp(x[0]))
        grown = np.exp(scale * Z)
        total = grown.sum(axis=2)
        P = np.exp(scale * Z_true) / total
        slope = P * (Z_true - (grown * Z).sum(axis=2) / total)
        mean = _average(P, shares) + TINY
        value = -np.log(mean).sum() + 0.5 * x[0] ** 2
        return float(value), np.array([-scale * (_average(slope, shares) / mean).sum() + x[0]])

    return float(np.exp(_minimum(loss, 1)[0])), 0.0


def _of_sigmoid(Z: Float64, Y: UInt8, known: Bool, shares: Sequence[float]) -> tuple[float, float]:
    """(scale, shift) from logits (members, n, w), averaged by the members' shares."""
    if not known.any():
        return 1.0, 0.0
    z, true = Z[:, known], Y[known] > 0
    cells = known.sum(axis=1).max()

    def loss(x: Float64) -> tuple[float, Float64]:
        scale, shift = float(np.exp(x[0])), x[1]
        P = 0.5 * (1.0 + np.tanh(0.5 * (scale * z + shift)))
        mean = _average(P, shares)
        chance = np.where(true, mean, 1.0 - mean) + TINY
        towards = np.where(true, -1.0, 1.0) / chance
        slope = P * (1.0 - P)
        by_scale = float((towards * _average(slope * z, shares)).sum()) * scale
        by_shift = float((towards * _average(slope, shares)).sum())
        value = -np.log(chance).sum() / cells + 0.5 * float((x**2).sum())
        return float(value), np.array([by_scale, by_shift]) / cells + x

    scale, shift = _minimum(loss, 2)
    return float(np.exp(scale)), float(shift)


def _average(values: Float64, shares: Sequence[float]) -> Float64:
    """Mean over the first axis by these shares."""
    if min(shares) == max(shares):
        plain: Float64 = values.mean(axis=0)
        return plain
    return np.asarray(np.average(values, axis=0, weights=shares))


def _minimum(loss: Any, size: int) -> Sequence[float]:
    from scipy.optimize import minimize

    bounds = [(-STEEPEST, STEEPEST), (-20.0, 20.0)][:size]
    result = minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B", bounds=bounds)
    return [float(x) for x in result.x]
