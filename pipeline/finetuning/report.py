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
        weights: The weights file. stages : trained stages of all.
        parts: Photos per part.
        used: Photos whose label trained, and chose the epoch.
        best: The record of the epoch that was kept.
        epochs: How many were trained, and after which it went on.
    """

    folder: Path
    weights: Path
    attribute: str
    values: int
    trains: str
    parts: Mapping[str, int]
    used: Mapping[str, int]
    best: Mapping[str, float]
    epochs: int
    resumed_from: int
    finished_before: bool
    next_commands: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
