"""The figures of one evaluation, as records: per attribute and overall. `pipeline.evaluation.metrics` computes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

_FILE_NAMES = {"attribute": "key", "attributes": "keys", "attribute_intervals": "key_intervals"}


def published(value: Any) -> Any:
    """Records as a JSON file has them, whose field names other code relies on; figures that do not exist are null.

    Args:
        value: A dataclass, or a mapping or sequence of what may stand in JSON.
    """
    if is_dataclass(value):
        return {_FILE_NAMES.get(f.name, f.name): published(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {name: published(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [published(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class AttributeMetrics:
    """One attribute. Every figure is over its known cells; None means that nothing could be measured.

    photos : photos on which the attribute is known; values : values it has; scored_values : those with a test positive.
    log_loss : mean binary cross-entropy per cell, in nats, whatever the head's link. element_accuracy : share of cells
    decided as they are. micro_f1 : over all cells. macro_f1, mean_average_precision : means over `scored_values`.
    samples_f1 : mean over photos on which a value is true or decided. accuracy : share of photos on which exactly the
    true values are decided (single-valued: the right value). balanced_accuracy : single-valued: mean recall of the
    scored values; multi-valued: mean of (recall + specificity) / 2 over values with positives and negatives.
    iou : mean of |true and decided| / |true or decided| over photos on which either is not empty.
    predicted_per_photo, true_per_photo : mean numbers of values. calibration_error : see `ranking.calibration_error`.
    """

    attribute: str
    single: bool
    values: int
    photos: int
    scored_values: int
    log_loss: float | None
    element_accuracy: float | None
    micro_f1: float | None
    macro_f1: float | None
    samples_f1: float | None
    mean_average_precision: float | None
    accuracy: float | None
    balanced_accuracy: float | None
    iou: float | None
    predicted_per_photo: float | None
    true_per_photo: float | None
    calibration_error: float | None


@dataclass(frozen=True)
class OverallMetrics:
    """All attributes together; see `KeyMetrics` for the figures.

    accuracy, balanced_accuracy, key_macro_f1, calibration_error : means over the `keys_scored` attributes known on a
    photo. log_loss, element_accuracy, micro_f1 : over all known cells. macro_f1, mean_average_precision : means over
    all `scored_values`. samples_f1, all_keys_right, predicted_per_photo, true_per_photo : over `photos`, those with a
    known attribute (all_keys_right: every known attribute exactly right); iou : over (photo, attribute) pairs.
    """

    photos: int
    photos_all_known: int
    attributes: int
    keys_scored: int
    scored_values: int
    log_loss: float | None
    element_accuracy: float | None
    micro_f1: float | None
    macro_f1: float | None
    key_macro_f1: float | None
    samples_f1: float | None
    mean_average_precision: float | None
    accuracy: float | None
    balanced_accuracy: float | None
    iou: float | None
    all_keys_right: float | None
    predicted_per_photo: float | None
    true_per_photo: float | None
    calibration_error: float | None


@dataclass(frozen=True)
class Metrics:
    """The result of `evaluate`: one row per attribute in schema order, and all attributes together."""

    attributes: tuple[AttributeMetrics, ...]
    overall: OverallMetrics

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        result: dict[str, Any] = published(self)
        return result
