"""What `serve` says when it takes requests and when it has stopped: lines of text, no printing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.errors import counted

if TYPE_CHECKING:
    from pipeline.serving.serve import ServeReport, Started


def started_lines(started: Started) -> Iterator[str]:
    """Which models are served where, and how to ask one."""
    yield f"serve: {counted(len(started.models), 'model')} at {started.address} (Ctrl-C or SIGTERM stops it)"
    for model in started.models:
        schema = model.predictor.schema
        size = f"{counted(len(schema.attributes), 'attribute')}, {counted(schema.size, 'value')}"
        yield f"  {model.name}: {model.path}, {size}"
        yield from (f"    note: {note}" for note in model.notes)
    yield f"  curl --data-binary @photo.jpg {started.address}predict"
    if started.open_to_others:
        yield "  note: other machines can reach it, and nobody is asked for a password; see docs/SERVE.md"


def stopped_lines(report: ServeReport) -> Iterator[str]:
    """How many photos it answered."""
    yield f"serve: stopped; {counted(report.photos, 'photo')} predicted, {report.refused} refused"
