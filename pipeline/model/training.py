"""What a model file says of the photos behind it: which ones, so that nobody judges it by them, and their majority.

The field `training` is optional; files of earlier versions lack it:

    seen        sorted uint64 (m,): the first 8 bytes, big-endian, of the content id (SHA-256) of every photo whose
                labels had a part in the model: those fitted on, those that chose epoch, thresholds and configuration,
                and those that a fine-tuned backbone learnt from
    positives   int64 (L,): training photos that are known to have the value
    known       int64 (L,): training photos on which its attribute is known

A photo costs 8 bytes of the file. Two of a million photos share a prefix by chance with a probability of 3 in 10^8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Ids, Int64

UInt64 = npt.NDArray[np.uint64]
FIELDS = ("seen", "positives", "known")


@dataclass(frozen=True, eq=False)
class TrainingRecord:
    """The field `training`: see this module's description."""

    seen: UInt64
    positives: Int64
    known: Int64

    def to_model(self) -> dict[str, Any]:
        """As it stands in a model dict."""
        return {name: getattr(self, name) for name in FIELDS}


def prefixes(ids: Ids) -> UInt64:
    """The first 8 bytes of content ids, S32 (n,), as numbers (n,)."""
    whole = np.ascontiguousarray(ids, "S32").view(np.uint8).reshape(len(ids), 32)
    return np.ascontiguousarray(whole[:, :8]).view(">u8").reshape(len(ids)).astype(np.uint64)


def training_record(ids: Ids, true: Bool, known: Bool) -> TrainingRecord:
    """The record of a fit.

    Args:
        ids: Content ids, S32, of all photos whose labels had a part in it, in any order.
        true: Bool (n, L), what the training photos are known to have.
        known: Bool (n, L), where that is known.
    """
    counts = (cells.sum(axis=0, dtype=np.int64) for cells in (true & known, known))
    return TrainingRecord(np.unique(prefixes(ids)), *counts)


def record_of(model: Mapping[str, Any]) -> TrainingRecord | None:
    """The record in a checked model dict; None where it has none."""
    found = model.get("training")
    return None if found is None else TrainingRecord(**{name: found[name] for name in FIELDS})


def was_seen(model: Mapping[str, Any], ids: Ids) -> Bool | None:
    """Whether photos, by their content ids S32 (n,), had a part in a model; None where its file does not say."""
    record = record_of(model)
    return None if record is None else np.isin(prefixes(ids), record.seen)
