"""A fitted model in forms for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModelExportOptions:
    """What is written of a fitted model, and where.

    Attributes:
        to: Folder to write: it is not there yet, or empty.
        onnx: Also write head.onnx (features to probabilities) and model.onnx (photos to probabilities), each only where
            ONNX Runtime gives what this program gives.
        weights: Backbone weights file for model.onnx, where the source recorded in the model is not to be had; of
            several backbones one for each, separated by commas.
        sha256: Refuse the model file unless its SHA-256 is this.
    """

    to: Path | None = None
    onnx: bool = False
    weights: tuple[Path, ...] = ()
    sha256: str | None = None
