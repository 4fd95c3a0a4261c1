"""The figures of one evaluation, as records: per key and overall. `pipeline.evaluation.metrics` computes them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class KeyMetrics:
    """One key. Every figure is over its known cells; None means that nothing could be measured.

    photos : photos on which the key is known; values : values it has; scored_values : those with a test positive.
    log_loss : mean binary cross-entropy per cell, in nats, whatever the head's link. element_accuracy : share of cells
    decided as they are. micro_f1 : over all cells. macro_f1, mean_average_precision : means over `scored_values`.
    samples_f1 : mean over photos on which a value is true or decided. accuracy : share of photos on which exactly the
    true values are decided (single-valued: the right value). balanced_accuracy : single-valued: mean recall of the
    scored values; multi-valued: mean of (recall + specificity) / 2 over values with positives and negatives.
    iou : mean of |true and decided| / |true or decided| over photos on which either is not empty.
    predicted_per_photo, true_per_photo : mean numbers of values. calibration_error : see `ranking.calibration_error`.
    """

    key: str
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
    """All keys together; see `KeyMetrics` for the figures.

    accuracy, balanced_accuracy, key_macro_f1, calibration_error : means over the `keys_scored` keys known on a photo.
    log_loss, element_accuracy, micro_f1 : over all known cells. macro_f1, mean_average_precision : means over all
    `scored_values`. samples_f1, all_keys_right, predicted_per_photo, true_per_photo : over `photos`, those with a known
    key (all_keys_right: every known key exactly right); iou : over (photo, key) pairs.
    """

    photos: int
    photos_all_known: int
    keys: int
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
    """The result of `evaluate`: one row per key in schema order, and all keys together."""

    keys: tuple[KeyMetrics, ...]
    overall: OverallMetrics

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)
