"""Masked losses of many configurations at once, with their slopes in closed form.

Autograd derives the networks, not the losses: its derivative of, say, softplus(z) - y z rounds otherwise than
sigmoid(z) - y, and the figures of a seed are to stay as they are.

The objective of a configuration is J = S / N over a batch: S sums the losses of the known cells, N counts the known
(photo, attribute) pairs, so an attribute counts the same however many values it has and a good rate does not depend on
the number of labels. An attribute with softmax is one pair; one with sigmoids adds up its values' binary losses.

    bce           -y log p - (1-y) log(1-p)
    weighted-bce  bce with positives weighted by (N-n)/n of their column (n positives among N known), at most 100.
                  Class weights (N-n_c)/sum(N-n) only rescale whole columns, which are independent of each other in a
                  linear head; weighting the positives is what changes the answer.
    ce            softmax cross-entropy per single-valued attribute, bce for multi-valued attributes
    weighted-ce   ce with a photo of class c weighing (N-n_c)/sum(N-n) of its attribute (n_c photos among N known),
                  scaled so that a training photo weighs 1 on average
    focal         -y (1-p)^2 log p - (1-y) p^2 log(1-p)                       (Lin et al. 2017)
    asymmetric    -y log p - (1-y) q^4 log(1-q), q = max(p - 0.05, 0)          (Ridnik et al. 2021)

Label smoothing e: y becomes y(1-e) + e/2 for sigmoids and y(1-e) + e/V over the V values of a softmax.
Logit adjustment tau (Menon et al. 2021): training sees z + tau * log prior (softmax) or z + tau * log-odds of the prior
(sigmoid); prediction uses z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.heads.config import HeadConfig
from pipeline.heads.stacked.cell_losses import SIGMOID_LOSSES
from pipeline.heads.targets import Targets

_POS_WEIGHT_LIMIT = 100.0


SOFTMAX_LOSSES = frozenset({"ce", "weighted-ce"})


def links(loss: str, targets: Targets) -> tuple[str, ...]:
    """Per attribute "softmax" or "sigmoid"; one of a single value has nothing to normalise over and stays a sigmoid."""
    return tuple(
        "softmax" if loss in SOFTMAX_LOSSES and single and columns.stop - columns.start > 1 else "sigmoid"
        for single, columns in zip(targets.single, targets.slices, strict=True)
    )


@dataclass(frozen=True)
class TargetBatch:
    """Targets of b rows on the device, floating.

    Attributes:
        y: (b, L), 1 where the photo has the value.
        known: (b, L), 1 where the truth is known.
        soft_known: (b, S), the same for each attribute that has a softmax under `ce`.
        sigmoid_pairs: N of J for losses without softmax, a scalar.
        softmax_pairs: N of J for losses with softmax, a scalar.
    """

    y: Tensor
    known: Tensor
    soft_known: Tensor
    sigmoid_pairs: Tensor
    softmax_pairs: Tensor


@dataclass(frozen=True)
class Pieces:
    """How one loss reads the columns: its softmax attributes and the runs of columns it treats as sigmoids."""

    soft: tuple[slice, ...]
    sigmoid: tuple[slice, ...]


class LossData:
    """Everything the losses need from the targets: batches on the device, priors, weights, column runs.

    Priors and weights come from `train`, whichever targets the batches are taken from.
    """

    def __init__(self, targets: Targets, train: Targets, device: torch.device, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._targets, self._device = targets, device
        self._moved: tuple[Tensor, Tensor] | None = None
        if device.type != "cpu":
            self._moved = (torch.tensor(targets.Y, device=device), torch.tensor(targets.mask, device=device))
        widths = np.concatenate([np.full(s.stop - s.start, 1.0 / (s.stop - s.start)) for s in targets.slices])
        self._share = torch.from_numpy(widths).to(device, dtype)
        self._pieces = {soft: _pieces(links("ce" if soft else "bce", train), train.slices) for soft in (False, True)}
        runs = self._pieces[True].sigmoid
        self._hard_share = torch.zeros_like(self._share)
        for run in runs:
            self._hard_share[run] = self._share[run]
        self.pos_weight = torch.from_numpy(pos_weight(train)).to(device, dtype)

    def batch(self, rows: Tensor) -> TargetBatch:
        """Targets of some rows, as floating tensors."""
        y, known = (part.to(self._dtype) for part in self._gather(rows))
        soft = self._pieces[True].soft
        columns = [known[:, s].amin(dim=1) * y[:, s].amax(dim=1) for s in soft]
        soft_known = torch.stack(columns, dim=1) if columns else y.new_zeros((len(y), 0))
        counts = known.sum(dim=0)
        return TargetBatch(y, known, soft_known, counts @ self._share, soft_known.sum() + counts @ self._hard_share)

    def _gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        if self._moved is not None:
            return self._moved[0].index_select(0, rows), self._moved[1].index_select(0, rows)
        at = rows.numpy()  # indexing the arrays as they are copies nothing, mapped or broadcast ones included
        return torch.from_numpy(self._targets.Y[at]), torch.from_numpy(self._targets.mask[at])

    def pieces(self, loss: str) -> Pieces:
        """The column runs of a loss."""
        return self._pieces[loss in SOFTMAX_LOSSES]


def _pieces(kinds: Sequence[str], slices: Sequence[slice]) -> Pieces:
    """Softmax attributes one by one; neighbouring sigmoid ones joined into runs, so that they cost one operation."""
    soft: list[slice] = []
    runs: list[slice] = []
    for kind, columns in zip(kinds, slices, strict=True):
        if kind == "softmax":
            soft.append(columns)
        elif runs and runs[-1].stop == columns.start:
            runs[-1] = slice(runs[-1].start, columns.stop)
        else:
            runs.append(columns)
    return Pieces(tuple(soft), tuple(runs))


def pos_weight(train: Targets) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(L,) weights of the positives: (N - n) / n, between 1e-2 and 1e2."""
    n = np.maximum(train.positive_counts, 1.0)
    ratio = np.maximum(train.known_counts - train.positive_counts, 1.0) / n
    return np.clip(ratio, 1 / _POS_WEIGHT_LIMIT, _POS_WEIGHT_LIMIT)


def class_weight(train: Targets) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(L,) weights (N - n_c) / sum(N - n) within each attribute, over their mean on the training photos."""
    weight = np.ones(train.size)
    for columns in train.slices:
        n = train.positive_counts[columns]
        rest = n.sum() - n
        if (n * rest).sum() > 0:
            weight[columns] = rest * n.sum() / (n * rest).sum()
    return weight


def prior_logits(loss: str, train: Targets) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(L,) log prior within each softmax attribute, log-odds of the prior elsewhere; each class counts a photo more."""
    positive, total = train.positive_counts + 1, train.known_counts + 2
    prior = np.log(positive / (total - positive))
    for kind, columns in zip(links(loss, train), train.slices, strict=True):
        if kind == "softmax":
            prior[columns] = np.log(positive[columns] / positive[columns].sum())
    return prior


class StackedLoss:
    """One loss for g stacked configurations that share it."""

    def __init__(self, configs: Sequence[HeadConfig], train: Targets, data: LossData) -> None:
        self._loss = configs[0].loss
        self._cell = SIGMOID_LOSSES[self._loss]
        self._pieces = data.pieces(self._loss)
        self._weight = data.pos_weight
        weighted = self._loss == "weighted-ce"
        self._class_weight = torch.from_numpy(class_weight(train)).to(data.pos_weight) if weighted else None
        self._smoothing = _column([c.label_smoothing for c in configs], data.pos_weight)
        tau = _column([c.logit_adjust for c in configs], data.pos_weight)
        prior = torch.from_numpy(prior_logits(self._loss, train)).to(data.pos_weight)
        self._shift = None if tau is None else tau * prior

    def pairs(self, batch: TargetBatch) -> Tensor:
        """N of J for this batch, a scalar tensor."""
        return batch.softmax_pairs if self._loss in SOFTMAX_LOSSES else batch.sigmoid_pairs

    def train(self, z: Tensor, batch: TargetBatch) -> tuple[Tensor, Tensor]:
        """The objective with smoothing and adjustment.

        Args:
            z: Logits (g, b, L); used up.
            batch: The targets of the b rows.

        Returns:
            S (g,) and dJ/dz (g, b, L).
        """
        if self._shift is not None:
            z += self._shift
        slope = torch.empty_like(z)
        total = self._apply(z, batch, self._smoothing, slope)
        return total, slope.div_(self.pairs(batch).clamp_min(1e-12))

    def columns(self, z: Tensor, batch: TargetBatch) -> tuple[Tensor, Tensor]:
        """The objective column by column, with smoothing and adjustment.

        Args:
            z: Logits (g, b, L); used up.
            batch: The targets of the b rows.

        Returns:
            S (g, L) by column, that of a softmax in the first column of its attribute; and dS/dz (g, b, L).
        """
        if self._shift is not None:
            z += self._shift
        slope, split = torch.empty_like(z), z.new_zeros((z.shape[0], z.shape[2]))
        self._apply(z, batch, self._smoothing, slope, split)
        return split, slope

    def value(self, z: Tensor, batch: TargetBatch) -> Tensor:
        """S (g,) of plain logits, without smoothing and adjustment."""
        return self._apply(z, batch, None, None)

    def _apply(
        self, z: Tensor, batch: TargetBatch, smoothing: Tensor | None, slope: Tensor | None, split: Tensor | None = None
    ) -> Tensor:
        total = z.new_zeros(z.shape[0])
        for run in self._pieces.sigmoid:
            y = batch.y[:, run]
            target = y if smoothing is None else y * (1 - smoothing) + smoothing / 2
            loss, dz = self._cell(z[..., run], target, self._weight[run])
            if split is None:
                total += _known_sum(loss, batch.known[:, run])
            else:
                split[:, run] = (loss * batch.known[:, run]).sum(dim=1)
            if slope is not None:
                torch.mul(dz, batch.known[:, run], out=slope[..., run])
        for i, columns in enumerate(self._pieces.soft):
            y = batch.y[:, columns]
            target = y / y.sum(dim=1, keepdim=True).clamp_min(1)
            if smoothing is not None:
                target = target * (1 - smoothing) + smoothing / target.shape[-1]
            if self._class_weight is not None:
                target = target * self._class_weight[columns]
            known = batch.soft_known[:, i]
            log_p = torch.log_softmax(z[..., columns], dim=-1)
            each = (log_p * target).sum(dim=-1) @ known
            if split is None:
                total -= each
            else:
                split[:, columns.start] = -each
            if slope is not None:
                share = log_p.exp_() if self._class_weight is None else log_p.exp_() * target.sum(dim=-1, keepdim=True)
                torch.mul(share.sub_(target), known[:, None], out=slope[..., columns])
        return total


def _known_sum(loss: Tensor, known: Tensor) -> Tensor:
    """Sum of the known cells per configuration, as a product that reads the cells once."""
    return torch.einsum("gbl,bl->g", loss, known)


def _column(values: Sequence[float], like: Tensor) -> Tensor | None:
    """(g, 1, 1) tensor, or None when every value is 0 and the work can be skipped."""
    if not any(values):
        return None
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)
