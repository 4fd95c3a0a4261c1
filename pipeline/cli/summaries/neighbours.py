"""What `similar` and `map` say of their reports: lines of text, no printing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.cli.summaries.stages import finding_lines
from pipeline.errors import counted

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.atlas.report import MapReport
    from pipeline.neighbours.report import SimilarReport

EXAMPLES = 5


def similar_lines(report: SimilarReport, out: Path, page: Path) -> Iterator[str]:
    """How many were searched, and the nearest of the first photos."""
    yield from finding_lines(report.findings)
    new = f", {report.embedded} of them embedded first" if report.embedded else ""
    yield (
        f"similar: {counted(len(report.asked), 'photo')} asked for{new}, {counted(report.searched, 'photo')} searched "
        f"in {report.seconds:.2f} s -> {out}"
    )
    yield f"  compared: {report.features}"
    for asked in report.asked[:EXAMPLES]:
        some = ", ".join(f"{each.photo} {each.cosine:.3f}" for each in asked.nearest[:EXAMPLES])
        yield f"  {asked.photo}: {some or 'no other photo'}"
    yield from (f"  rejected {name}: {why}" for name, why in report.rejects)
    yield f"page: {page}"


def map_lines(report: MapReport, page: Path) -> Iterator[str]:
    """What lies where, what is shown of it, and how large the page is."""
    yield from finding_lines(report.findings)
    yield (
        f"map: {counted(len(report.names), 'photo')}, {report.layout} in {report.seconds:.1f} s, "
        f"{report.pictured} with a picture -> {page} ({page.stat().st_size / 1e6:.1f} MB)"
    )
    yield f"  side by side: {report.features}"
    if report.predicted:
        yield f"  predictions: {report.predicted}"
    table = page.with_suffix(".parquet")
    yield f"  also as {table}: embedding-atlas {table} --x projection_x --y projection_y"
    problems = report.sheets.problems
    if problems:
        first = min(problems)
        yield f"  no picture of {counted(len(problems), 'photo')} (first: {report.names[first]}, {problems[first]})"
