"""What `finetune` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.catalogue import Finding


@dataclass(frozen=True)
class FinetuneReport:
    """A backbone that was trained and frozen again.

    Attributes:
        folder: Where weights, split.csv, history.csv and run.json are.
        weights: The weights file.
        own_heads: The model file of the heads that it was trained under.
        attributes: What it was trained on.
        values: Of all these attributes together.
        trains: all, last:N or head.
        parts: Photos per part.
        used: Photos whose labels trained, and chose the epoch.
        best: The record of the epoch that was kept.
        scores: Of what was kept, on validation: per attribute accuracy, or micro F1.
        epochs: How many were trained.
        resumed_from: After which epoch it went on.
        finished_before: Whether everything was there already.
        refit: Weights of the same training on training and validation photos, where that was asked for.
        final: Weights of the same training on every labelled photo, where that was asked for.
    """

    folder: Path
    weights: Path
    own_heads: Path
    attributes: tuple[str, ...]
    values: int
    trains: str
    parts: Mapping[str, int]
    used: Mapping[str, int]
    best: Mapping[str, float]
    scores: Mapping[str, float]
    epochs: int
    resumed_from: int
    finished_before: bool
    next_commands: tuple[str, ...]
    findings: tuple[Finding, ...]
    refit: Path | None
    final: Path | None
    notes: tuple[str, ...]
