"""What fine-tuning minimises on one attribute, and how well its predictions do.

    single-valued   softmax cross-entropy over the values, mean weighted by w_c = (N - n_c) / sum(N - n), where n_c of N
                    training photos have value c
    multi-valued    binary cross-entropy, mean over the values and the photos

Only photos whose value is known come here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from pipeline.arrays import Float32, UInt8
from pipeline.errors import OptionError


@dataclass(frozen=True)
class Objective:
    """Loss and score of one attribute.

    Attributes:
        single: Whether a photo has exactly one value.
        weights: float32 (V,), one per value; only the single-valued loss reads it.
    """

    single: bool
    weights: Tensor

    def loss(self, logits: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the weighted losses and sum of the weights, two scalars: logits (b, V) floating, Y (b, V) 0 or 1.

        Their ratio is the loss of the batch; adding both up first gives that of several.
        """
        logits = logits.float()
        if not self.single:
            total = binary_cross_entropy_with_logits(logits, Y.float(), reduction="sum")
            return total, total.new_tensor(float(Y.numel()))
        value = Y.argmax(dim=1)
        total = cross_entropy(logits, value, weight=self.weights, reduction="sum")
        return total, self.weights[value].sum()


def objective(Y: UInt8, single: bool, weighting: str) -> Objective:
    """The objective for training targets (n, V).

    Raises:
        OptionError: There is nothing to tell apart.
    """
    if not len(Y) or (single and Y.shape[1] < 2):
        raise OptionError(
            f"{len(Y)} training photos with {Y.shape[1]} known value(s) of the attribute: nothing to learn"
        )
    rest = (len(Y) - Y.sum(axis=0, dtype=np.int64)).astype(np.float32)
    weights = rest / rest.sum() if weighting == "rarity" and single else np.ones(Y.shape[1], np.float32)
    return Objective(single, torch.from_numpy(weights))


def score(logits: Float32, Y: UInt8, single: bool) -> float:
    """Accuracy of the likeliest value (single-valued), or micro F1 at probability 0.5: (n, V) each."""
    if single:
        return float((logits.argmax(axis=1) == Y.argmax(axis=1)).mean())
    chosen = logits > 0
    both, total = int((chosen & (Y == 1)).sum()), int(chosen.sum()) + int(Y.sum())
    return 2 * both / total if total else 0.0
