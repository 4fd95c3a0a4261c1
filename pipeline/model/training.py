"""What a model file says of the photos behind it: which ones, so that nobody judges it by them, and their majority.

The field `training` is optional; files of earlier versions lack it:

    seen        sorted uint64 (m,): the first 8 bytes, big-endian, of the content id (SHA-256) of every photo whose
                labels had a part in the model: those fitted on, those that chose epoch, thresholds and configuration,
                and those that a fine-tuned backbone learnt from
    positives   int64 (L,): training photos that are known to have the value
    known       int64 (L,): training photos on which its attribute is known
    groups      sorted uint64 (g,), only where the catalogue named products: the first 8 bytes, big-endian, of the
                SHA-256 of the name of each one of which a photo is in `seen`

A photo and a product cost 8 bytes of the file each. Two of a million photos share a prefix by chance with a probability
of 3 in 10^8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Ids, Int64
from pipeline.catalogue.splits import name_digests

UInt64 = npt.NDArray[np.uint64]
FIELDS = ("seen", "positives", "known")
GROUPS = "groups"
"""The field that a record may lack."""


@dataclass(frozen=True, eq=False)
class TrainingRecord:
    """The field `training`: see this module's description."""

    seen: UInt64
    positives: Int64
    known: Int64
    groups: UInt64 | None = None

    def to_model(self) -> dict[str, Any]:
        """As it stands in a model dict."""
        named = {} if self.groups is None else {GROUPS: self.groups}
        return {name: getattr(self, name) for name in FIELDS} | named


def prefixes(ids: Ids) -> UInt64:
    """The first 8 bytes of content ids, or of other digests, S32 (n,), as numbers (n,)."""
    whole = np.ascontiguousarray(ids, "S32").view(np.uint8).reshape(len(ids), 32)
    return np.ascontiguousarray(whole[:, :8]).view(">u8").reshape(len(ids)).astype(np.uint64)


def training_record(
    ids: Ids,
    true: Bool,
    known: Bool,
    products: Sequence[str | None] | None = None,
    product_ids: Ids | None = None,
) -> TrainingRecord:
    """The record of a fit.

    Args:
        ids: Content ids, S32, of all photos whose labels had a part in it, in any order.
        true: Bool (n, L), what the training photos are known to have.
        known: Bool (n, L), where that is known.
        products: The names of the products of all photos whose labels had a part in it, None for unknown; None where
            nothing names any.
        product_ids: SHA-256 of more such names, S32: of the photos that the backbones learnt from.
    """
    positives, cells = (table.sum(axis=0, dtype=np.int64) for table in (true & known, known))
    more = np.empty(0, np.uint64) if product_ids is None else prefixes(product_ids)
    if products is None and not len(more):
        return TrainingRecord(np.unique(prefixes(ids)), positives, cells)
    named = prefixes(name_digests({name for name in products or () if name is not None}))
    return TrainingRecord(np.unique(prefixes(ids)), positives, cells, np.union1d(named, more))


def record_of(model: Mapping[str, Any]) -> TrainingRecord | None:
    """The record in a checked model dict; None where it has none."""
    found = model.get("training")
    return None if found is None else TrainingRecord(**{n: found[n] for n in FIELDS}, groups=found.get(GROUPS))


def was_seen(model: Mapping[str, Any], ids: Ids) -> Bool | None:
    """Whether photos, by their content ids S32 (n,), had a part in a model; None where its file does not say."""
    record = record_of(model)
    return None if record is None else np.isin(prefixes(ids), record.seen)


def names_products(model: Mapping[str, Any]) -> bool:
    """Whether a model's file knows products by name."""
    record = record_of(model)
    return record is not None and record.groups is not None and len(record.groups) > 0


def product_was_seen(model: Mapping[str, Any], products: Sequence[str | None] | None) -> Bool | None:
    """Whether a photo of the same product had a part in a model, by the products' names (n,), None for unknown.

    None where that cannot be told: the model's file names no products, or nothing names those of these photos.
    """
    record = record_of(model)
    if record is None or record.groups is None or products is None:
        return None
    named = np.array([name is not None for name in products], np.bool_)
    return named & np.isin(prefixes(name_digests(name or "" for name in products)), record.groups)
