"""The command that hands a model to other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pipeline.cli.output import say_all
from pipeline.cli.parameters import FileOptions, Flat
from pipeline.cli.summaries.exchange import export_lines
from pipeline.options import ModelExportOptions


def export(
    model: Path,
    *,
    options: Annotated[ModelExportOptions, Flat] = ModelExportOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Write a model as a folder without pickle, which predict, evaluate and serve take in its place, and as ONNX.

    Args:
        model: Model file written by fit-heads.
    """
    from pipeline.exchange.export import export_model

    say_all(export_lines(export_model(model, options)))
