"""The command that serves fitted models."""

from __future__ import annotations

from typing import Annotated

from pipeline.cli.output import say, say_all
from pipeline.cli.parameters import FileOptions, Flat
from pipeline.cli.summaries.serving import started_lines, stopped_lines
from pipeline.options import ServeOptions


def serve(
    *,
    options: Annotated[ServeOptions, Flat] = ServeOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Answer photos over HTTP with fitted models: an address for programs, a page for people."""
    from pipeline.serving.serve import serve as run_serve

    report = run_serve(options, lambda started: say_all(started_lines(started)), lambda text: say(f"serve: {text}"))
    say_all(stopped_lines(report))
