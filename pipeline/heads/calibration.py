"""Probabilities that mean what they say: per attribute a temperature or Platt's two numbers, in the last layer.

A softmax key's logits are divided by one temperature (Guo et al. 2017), so z becomes scale * z; a sigmoid key's become
scale * z + shift (Platt 1999), the same two numbers for all its values. Both are fitted on known validation cells by
the log loss, with a Gaussian prior on (log scale, shift) that weighs as much as one photo, and scale stays positive:
on one member and one view the order of an attribute's values cannot change.

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
from pipeline.heads.probabilities import dense_logits

ROWS = 4000
"""Photos looked at; two numbers per attribute need no more."""

TINY = 1e-12
STEEPEST = 4.0


@dataclass(frozen=True)
class Calibration:
    """Per attribute of the schema: the factor and the term applied to its logits; 1 and 0 where nothing was known."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {"scale": list(self.scale), "shift": list(self.shift)}


def can_be_calibrated(head: FittedHead) -> bool:
    """Whether every member is made of layers."""
    return all(member["kind"] == "dense" for member in head.members)


def rows_to_look_at(n: int) -> Positions:
    """At most `ROWS` of n rows, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, ROWS)).astype(np.intp))


def fit_calibration(head: FittedHead, X: Float, Y: UInt8, known: Bool) -> Calibration:
    """The calibration of a head on photos it was not fitted on.

    Args:
        X: Features (n, d), or (V, n, d) with views.
        Y, known: (n, L).
    """
    views = X if X.ndim == 3 else X[None]
    logits = [dense_logits(member["layers"], view) for view in views for member in head.members]
    per_attribute = []
    for columns, link in zip(head.slices, head.links, strict=True):
        Z = np.stack([z[:, columns] for z in logits]).astype(np.float64)
        per_attribute.append(_of_softmax(Z, Y[:, columns], known[:, columns]) if link == "softmax" else
                     _of_sigmoid(Z, Y[:, columns], known[:, columns]))  # fmt: skip
    return Calibration(tuple(a for a, _ in per_attribute), tuple(b for _, b in per_attribute))


def calibrated(head: FittedHead, calibration: Calibration) -> FittedHead:
    """The head with the calibration folded into the last layer of every member."""
    scale, shift = np.ones(head.slices[-1].stop), np.zeros(head.slices[-1].stop)
    for columns, a, b in zip(head.slices, calibration.scale, calibration.shift, strict=True):
        scale[columns], shift[columns] = a, b
    return replace(head, members=[_folded(member, scale, shift) for member in head.members])


def _folded(member: dict[str, Any], scale: Float64, shift: Float64) -> dict[str, Any]:
    *inner, (W, b) = member["layers"]
    last = ((W * scale).astype(np.float32), (b * scale + shift).astype(np.float32))
    return {**member, "layers": [*inner, last]}


def _of_softmax(Z: Float64, Y: UInt8, known: Bool) -> tuple[float, float]:
    """(1 / temperature, 0) from logits (members, n, w)."""
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
        mean = P.mean(axis=0) + TINY
        value = -np.log(mean).sum() + 0.5 * x[0] ** 2
        return float(value), np.array([-scale * (slope.mean(axis=0) / mean).sum() + x[0]])

    return float(np.exp(_minimum(loss, 1)[0])), 0.0


def _of_sigmoid(Z: Float64, Y: UInt8, known: Bool) -> tuple[float, float]:
    """(scale, shift) from logits (members, n, w)."""
    if not known.any():
        return 1.0, 0.0
    z, true = Z[:, known], Y[known] > 0
    cells = known.sum(axis=1).max()

    def loss(x: Float64) -> tuple[float, Float64]:
        scale, shift = float(np.exp(x[0])), x[1]
        P = 0.5 * (1.0 + np.tanh(0.5 * (scale * z + shift)))
        mean = P.mean(axis=0)
        chance = np.where(true, mean, 1.0 - mean) + TINY
        towards = np.where(true, -1.0, 1.0) / chance
        slope = P * (1.0 - P)
        by_scale = float((towards * (slope * z).mean(axis=0)).sum()) * scale
        by_shift = float((towards * slope.mean(axis=0)).sum())
        value = -np.log(chance).sum() / cells + 0.5 * float((x**2).sum())
        return float(value), np.array([by_scale, by_shift]) / cells + x

    scale, shift = _minimum(loss, 2)
    return float(np.exp(scale)), float(shift)


def _minimum(loss: Any, size: int) -> Sequence[float]:
    from scipy.optimize import minimize

    bounds = [(-STEEPEST, STEEPEST), (-20.0, 20.0)][:size]
    result = minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B", bounds=bounds)
    return [float(x) for x in result.x]
