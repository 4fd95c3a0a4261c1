"""What the command that hands a model to other programs says of its report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.errors import counted

if TYPE_CHECKING:
    from pipeline.exchange.export import ExportReport


def export_lines(report: ExportReport) -> Iterator[str]:
    """The files, the digest to hand on with them, and what became of the ONNX graphs."""
    total = sum(report.sizes.values()) / 1e6
    yield f"export: {counted(len(report.sizes), 'file')}, {total:.1f} MB -> {report.folder}"
    yield f"  model.json has SHA-256 {report.sha256}, and in it those of the others: predict --sha256 takes it"
    for graph in report.graphs:
        if graph.reason:
            yield f"  {graph.name} was not written: {graph.reason}"
        else:
            yield f"  {graph.name}: probabilities within {graph.difference:.1e} of ours at batches of 1, 2 and 7"
