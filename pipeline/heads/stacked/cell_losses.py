"""Losses of single cells under sigmoids, with their slopes in closed form; `losses` says what each is and why so."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import softplus

_FOCAL_GAMMA = 2


_ASYMMETRIC_GAMMA, _ASYMMETRIC_MARGIN = 4, 0.05


SigmoidLoss = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(logits, targets, positive weights) -> (loss, d loss / d logits), all per cell."""


def _bce(z: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return softplus(z).sub_(z * y), torch.sigmoid(z).sub_(y)


def _weighted_bce(z: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    positive, negative = y * weight, 1 - y
    p = torch.sigmoid(z)
    return softplus(z) * (positive + negative) - positive * z, p * (positive + negative) - positive


def _focal(z: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    up_loss, up_slope = _focal_positive(z)
    down_loss, down_slope = _focal_positive(-z)
    return y * up_loss + (1 - y) * down_loss, y * up_slope - (1 - y) * down_slope


def _focal_positive(z: Tensor) -> tuple[Tensor, Tensor]:
    log_p, p = -softplus(-z), torch.sigmoid(z)
    focus = (1 - p) ** _FOCAL_GAMMA
    return -focus * log_p, focus * (_FOCAL_GAMMA * p * log_p - (1 - p))


def _asymmetric(z: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    p = torch.sigmoid(z)
    q = (p - _ASYMMETRIC_MARGIN).clamp_min(0)
    log_not = torch.log1p(-q)
    down_loss = -(q**_ASYMMETRIC_GAMMA) * log_not
    down_slope = q ** (_ASYMMETRIC_GAMMA - 1) * (q / (1 - q) - _ASYMMETRIC_GAMMA * log_not) * p * (1 - p)
    return y * softplus(-z) + (1 - y) * down_loss, (1 - y) * down_slope - y * (1 - p)


SIGMOID_LOSSES: Mapping[str, SigmoidLoss] = {
    "bce": _bce,
    "weighted-bce": _weighted_bce,
    "ce": _bce,  # on the attributes that ce leaves to sigmoids
    "weighted-ce": _bce,
    "focal": _focal,
    "asymmetric": _asymmetric,
}
