"""What fine-tuning minimises over all its attributes, and how well its predictions do.

A pair is a photo and an attribute whose value is known and applies; the loss is the mean over pairs, so that no
attribute drowns another, however many values it has or however many photos lack it.

    ce, single-valued   softmax cross-entropy over the values, weighted by w_c = (N - n_c) / sum(N - n), where n_c of N
                        training photos have value c; scaled so that the weights' mean over training photos is 1
    else                binary cross-entropy, summed over the values

With logit adjustment (Menon et al. 2021) the softmax sees z_c + tau log(share of c in training).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from pipeline.arrays import Bool, Float32, UInt8
from pipeline.catalogue import LabelSchema
from pipeline.errors import OptionError
from pipeline.options import FinetuneOptions


@dataclass(frozen=True)
class AttributeLoss:
    """The loss of one attribute.

    Attributes:
        columns: Where its w values are.
        softmax: Whether a photo has exactly one value, and the loss says so.
        weights: float32 (w,), one per value; only the softmax reads it.
        prior: float32 (w,), added to the logits while training.
    """

    columns: slice
    softmax: bool
    weights: Tensor
    prior: Tensor

    def pairs(self, logits: Tensor, Y: Tensor, mask: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        """Sum of the losses and sum of the weights of its pairs in a batch, two scalars.

        Args:
            logits: (b, L) float32.
            Y: (b, L) float32, shares of the values; those of a photo add up to 1 where the attribute has one value.
            mask: (b, L) bool, where the truth is known.
            smoothing: Share of a softmax target spread over all values.
        """
        z, target, known = logits[:, self.columns], Y[:, self.columns], mask[:, self.columns]
        if not self.softmax:
            cells = binary_cross_entropy_with_logits(z, target, reduction="none") * known
            return cells.sum(), known.any(dim=1).sum().to(z.dtype)
        weight = (target * self.weights).sum(dim=1) * (known.all(dim=1) & (target.sum(dim=1) > 0))
        loss = cross_entropy(z + self.prior, target, reduction="none", label_smoothing=smoothing)
        return (loss * weight).sum(), weight.sum()


@dataclass(frozen=True)
class Objective:
    """Loss and score over all attributes of a schema."""

    attributes: tuple[AttributeLoss, ...]
    smoothing: float = 0.0

    def loss(self, logits: Tensor, Y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the losses and sum of the weights over all pairs, two scalars: (b, L) each.

        Their ratio is the loss of the batch; adding both up first gives that of several.
        """
        logits, Y = logits.float(), Y.float()
        each = [attribute.pairs(logits, Y, mask, self.smoothing) for attribute in self.attributes]
        return torch.stack([loss for loss, _ in each]).sum(), torch.stack([weight for _, weight in each]).sum()

    def plain(self) -> Objective:
        """The objective to judge by: without smoothing and adjustment."""
        plain = (replace(each, prior=torch.zeros_like(each.prior)) for each in self.attributes)
        return Objective(tuple(plain))

    def to(self, device: torch.device) -> Objective:
        """The same objective on a device."""
        moved = (replace(a, weights=a.weights.to(device), prior=a.prior.to(device)) for a in self.attributes)
        return replace(self, attributes=tuple(moved))


def objective(Y: UInt8, mask: Bool, schema: LabelSchema, options: FinetuneOptions) -> Objective:
    """The objective for training targets (n, L).

    Attributes of which all photos have the same change nothing: their loss has no slope, or ends at a constant.

    Raises:
        OptionError: There is nothing to tell apart in any attribute.
    """
    losses = []
    for columns, single in zip(schema.slices, schema.single, strict=True):
        softmax = single and options.loss == "ce"
        known = mask[:, columns].all(axis=1)
        counts = Y[known, columns].sum(axis=0, dtype=np.float64)
        weights = _rarity(counts) if softmax and options.class_weights == "rarity" else np.ones(len(counts))
        share = (counts + 1) / (counts + 1).sum()
        prior = options.logit_adjust * np.log(share) if softmax else np.zeros(len(counts))
        vectors = (torch.from_numpy(vector.astype(np.float32)) for vector in (weights, prior))
        losses.append(AttributeLoss(columns, softmax, *vectors))
    if len(constant_attributes(Y, mask, schema)) == len(schema.attributes):
        said = "; ".join(
            f"{name}: {' | '.join(v[:5])}" for name, v in zip(schema.attributes, schema.values, strict=True)
        )
        raise OptionError(
            f"nothing to learn: all of the {len(Y)} training photos that are known have the same ({said[:300]}); give "
            "labels that differ between photos"
        )
    return Objective(tuple(losses), options.label_smoothing)


def _rarity(counts: Float32) -> Float32:
    """w_c, scaled so that their mean over the photos counted is 1."""
    rest = counts.sum() - counts
    mean = (rest * counts).sum() / max(counts.sum(), 1.0)
    weights: Float32 = rest / mean if mean > 0 else np.ones_like(counts)
    return weights


def constant_attributes(Y: UInt8, mask: Bool, schema: LabelSchema) -> tuple[str, ...]:
    """The attributes of which all photos whose value is known have the same: (n, L) each."""
    constant = []
    for name, columns in zip(schema.attributes, schema.slices, strict=True):
        known, true = mask[:, columns], Y[:, columns] > 0
        if not ((known & true).any(axis=0) & (known & ~true).any(axis=0)).any():
            constant.append(name)
    return tuple(constant)


def attribute_scores(logits: Float32, Y: UInt8, mask: Bool, schema: LabelSchema) -> Mapping[str, float]:
    """Accuracy of the likeliest value (single-valued), or micro F1 at probability 0.5, on known cells: (n, L) each.

    Attributes without a known photo are left out.
    """
    scores = {}
    for name, columns, single in zip(schema.attributes, schema.slices, schema.single, strict=True):
        z, true, known = logits[:, columns], Y[:, columns] > 0, mask[:, columns]
        rows = known.any(axis=1)
        if not rows.any():
            continue
        if single:
            scores[name] = float(np.take_along_axis(true[rows], z[rows].argmax(axis=1)[:, None], axis=1).mean())
            continue
        chosen = (z > 0) & known
        total = int(chosen.sum()) + int((true & known).sum())
        scores[name] = 2 * int((chosen & true).sum()) / total if total else 0.0
    return scores
