"""The majority baseline: what is right without looking at a photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Bool, Float32
from pipeline.catalogue.labels import LabelSchema
from pipeline.evaluation.metrics import Targets, known_cells


@dataclass(frozen=True)
class Majority:
    """The baseline that never looks at a photo: shares of training rows, each attribute's most common decision."""

    rates: Float32
    decided: Bool

    def predict(self, n: int) -> tuple[Float32, Bool]:
        """(P, D), both (n, L), the same for every photo."""
        return np.tile(self.rates, (n, 1)), np.tile(self.decided, (n, 1))


def majority_baseline(Y: Targets, mask: Bool, schema: LabelSchema) -> Majority:
    """The majority baseline of training rows (n, L).

    P is each value's share of the known rows (0 where there are none). A single-valued attribute decides its most
    common value, a multi-valued one every value that at least half of the known rows have. No gate is applied.
    """
    true, mask = known_cells(Y, mask, schema)
    rates = true.sum(axis=0) / np.maximum(mask.sum(axis=0), 1)
    decided = rates >= 0.5
    for columns, single in zip(schema.slices, schema.single, strict=True):
        if single and columns.stop > columns.start:
            width = columns.stop - columns.start
            decided[columns] = (np.arange(width) == rates[columns].argmax()) & (rates[columns] > 0)
    return Majority(rates.astype(np.float32), decided)
