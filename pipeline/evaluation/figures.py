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
    """One attribute. Every figure is over the photos on which it is known; None means that nothing could be measured.

    A value that only test photos have (`Unseen`) is true and never decided: it counts in every figure but log_loss,
    element_accuracy and calibration_error, which are over the cells of values that can be decided. With tp, fp, fn of a
    value or of pooled values, F1 = 2 tp / (2 tp + fp + fn).

    Attributes:
        attribute: Its name.
        single: Whether a photo has at most one value.
        values: Values it has, those that only test photos have included.
        photos: Photos on which it is known.
        scored_values: Values that at least one of these photos has; means over values are over them.
        rare_values: Those of them that fewer than `metrics.FEW` photos have: too rare to be measured one by one.
        log_loss: Mean binary cross-entropy per cell, in nats, whatever the head's link.
        element_accuracy: Share of cells decided as they are.
        micro_f1: F1 of all values pooled.
        macro_f1: Mean F1 over `scored_values`; 0 for a value that is never decided.
        samples_f1: Mean F1 over photos on which a value is true or decided.
        mean_average_precision: Mean average precision over `scored_values`.
        accuracy: Share of photos on which exactly the true values are decided (single-valued: the right value).
        balanced_accuracy: Single-valued: mean recall of the scored values; multi-valued: mean of (recall +
            specificity) / 2 over values with positives and negatives.
        iou: Mean of |true and decided| / |true or decided| over photos on which either is not empty.
        predicted_per_photo: Mean number of values decided.
        true_per_photo: Mean number of true values.
        calibration_error: See `ranking.calibration_error`.
    """

    attribute: str
    single: bool
    values: int
    photos: int
    scored_values: int
    rare_values: int
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
    """All attributes together; see `AttributeMetrics` for the figures.

    Two macro F1: `macro_f1` is the mean over all scored values, whatever their attribute, as DESIGN defines it;
    `key_macro_f1` is the mean over attributes of each attribute's `macro_f1`, in which an attribute of two values
    weighs as much as one of a hundred.

    Attributes:
        photos: Photos with a known attribute.
        photos_all_known: Photos on which every attribute is known.
        attributes: How many there are.
        keys_scored: Attributes known on a photo.
        scored_values, rare_values: Over all attributes.
        log_loss, element_accuracy, micro_f1: Over all cells or values pooled.
        macro_f1, mean_average_precision: Means over all `scored_values`.
        key_macro_f1, accuracy, balanced_accuracy, calibration_error: Means over the `keys_scored` attributes.
        samples_f1, predicted_per_photo, true_per_photo: Over photos, all attributes of a photo together.
        iou: Mean over (photo, attribute) pairs in which a value is true or decided.
        all_keys_right: Share of `photos` on which every known attribute is exactly right.
    """

    photos: int
    photos_all_known: int
    attributes: int
    keys_scored: int
    scored_values: int
    rare_values: int
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
