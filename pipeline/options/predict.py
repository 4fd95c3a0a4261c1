"""A fitted model on new photos, and fitted models on labelled ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.options.features import Device


@dataclass(frozen=True)
class PredictOptions:
    """How a fitted model is applied to new photos.

    Attributes:
        cache: Folder of an embedding cache: photos whose vectors it has are not computed again, and a network that it
            has converted starts in a third of the time (default: none).
        weights: Backbone weights file, where the source recorded in the model is not to be had; of several backbones
            one for each, separated by commas.
        threshold: Override the model's thresholds: best, or fixed:0.5 (in short 0.5) and the like for all values.
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
    weights: tuple[Path, ...] = ()
    threshold: str | None = None
    out: Path = Path("predictions.csv")
    layout: Literal["auto", "columns", "dict"] = "auto"
    probabilities: bool = False
    sha256: str | None = None
    device: Device = "auto"
    runtime: str = "auto"
    batch_size: int | None = None
    workers: int | None = None


@dataclass(frozen=True)
class EvaluateOptions:
    """How fitted models are judged on labelled photos.

    Attributes:
        model: Model files written by fit-heads, separated by commas; the first one is shown in full.
        sha256: Refuse the model files unless their SHA-256 are these, in their order.
        cache: Folder of an embedding cache: photos whose vectors it has are not computed again, and a network that it
            has converted starts in a third of the time (default: none).
        include_fitted: Also judge on photos that, or whose products, had a part in a model, which flatters it.
        at_precision: How much can be filled in when this share of it must be right, for each of these shares.
        group_column: Column of the CSV that names the product; intervals are over products.
        group_regex: Regular expression whose first group (or whole match) in the file name is the product.
        weights: Backbone weights file, where the source recorded in the models is not to be had; of several backbones
            one for each, separated by commas.
        device: Where to compute; auto takes the GPU when there is one.
        runtime: auto, torch or another installed runtime.
        batch_size: Photos per forward pass.
        workers: Decoding threads.
        thumbnails: Small pictures of at most this many photos are kept for the report (0 is none).
        out: Folder of the figures, one run folder per model (default: evaluations/ and a name made of the date).
        report: Where the report page goes (default: report.html in that folder).
        json: Also write all figures as JSON to this file.
        csv: Also write every figure, with its interval, as a row of this file.
        bootstrap: Resamples for the confidence intervals.
        seed: Seed of the resampling.
    """

    model: tuple[Path, ...] = ()
    sha256: tuple[str, ...] = ()
    cache: Path | None = None
    include_fitted: bool = False
    at_precision: tuple[float, ...] = (0.9, 0.95, 0.99)
    group_column: str | None = None
    group_regex: str | None = None
    weights: tuple[Path, ...] = ()
    device: Device = "auto"
    runtime: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    thumbnails: int = 5000
    out: Path | None = None
    report: Path | None = None
    json: Path | None = None
    csv: Path | None = None
    bootstrap: int = 10_000
    seed: int = 0
