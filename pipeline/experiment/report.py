"""What `fit-heads` tells whoever called it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.catalogue.findings import Finding


@dataclass(frozen=True)
class FitReport:
    """What one `fit-heads` call did.

    Attributes:
        run: Its folder.
        best: config_id chosen on validation, its threshold policy and validation score, which is optimistic: the
            highest of many, or that of an ensemble of those.
        called: What people call the best one.
        choose: What the score is (`evaluation.goals`).
        configs: How many were fit.
        parts: Photos per part.
        notes: Sentences a person should read.
        findings: What was dropped or odd in the catalogue, its contents and its split.
    """

    run: Path
    best: str
    called: str
    policy: str
    score: float
    choose: str
    configs: int
    parts: Mapping[str, int]
    seconds: float
    notes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
