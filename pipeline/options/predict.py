"""A fitted model on new photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.options.features import Device


@dataclass(frozen=True)
class PredictOptions:
    """How a fitted model is applied to new photos.

    Attributes:
        cache: Folder of an embedding cache: photos whose vectors it has are not computed again (default: none).
        weights: Backbone weights file, where the source recorded in the model is not to be had.
        threshold: Override the model's thresholds: best, or one number for all labels.
        out: Where the predictions go: .csv in the shape of the attributes CSV, or .jsonl for multi-valued attributes.
        layout: columns (one per attribute), dict (columns filename and predictions) or auto (dict for a model of format
            B).
        probabilities: Add a column per attribute with the probability of the predicted value.
        sha256: Refuse the model file unless its SHA-256 is this.
        device: Where to compute; auto takes the GPU when there is one.
        runtime: auto, torch or another installed runtime.
        batch_size: Photos per forward pass.
        workers: Decoding threads.
    """

    cache: Path | None = None
    weights: Path | None = None
    threshold: str | None = None
    out: Path = Path("predictions.csv")
    layout: Literal["auto", "columns", "dict"] = "auto"
    probabilities: bool = False
    sha256: str | None = None
    device: Device = "auto"
    runtime: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
