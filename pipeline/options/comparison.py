"""What the comparison shows, and what the command line says instead of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.options.heads import Choose


@dataclass(frozen=True)
class CompareOptions:
    """What the comparison shows.

    Attributes:
        by: Set the best of each value of this field against each other: head, optimizer, lr, loss and so on, or what
            differs between runs, such as na, backbone, size, use, run.
        choose: What is best, on validation (default: what the runs were told; balanced where they differ): balanced,
            accuracy, macro-f1, all-right, iou or map. Each model keeps the thresholds it was saved with.
        report: Where the report page goes (default: report.html in the first run folder).
        json: Also write the whole comparison as JSON to this file.
        csv: Also write every figure, with its interval, as a row of this file.
        notes: Text file whose lines are shown below the table and on the report page.
        bootstrap: Resamples for the confidence intervals.
        seed: Seed of the resampling.
    """

    by: str | None = None
    choose: Choose | None = None
    report: Path | None = None
    json: Path | None = None
    csv: Path | None = None
    notes: Path | None = None
    bootstrap: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class ReproduceOptions:
    """What the command line says instead of the plan.

    Attributes:
        backbone: Backbone of every extraction, instead of those that the plan names.
        weights: Where its weights come from: hub, package or a file.
        cache: Folder of the embedding cache.
        out: Folder of the runs, the table and the report page; an interrupted reproduction goes on in it.
    """

    backbone: str | None = None
    weights: str | None = None
    cache: Path | None = None
    out: Path | None = None
