"""What the commands for those who label say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.cli.summaries.stages import finding_lines
from pipeline.errors import counted
from pipeline.options.forms.words import command

if TYPE_CHECKING:
    from pipeline.labelling.merged import LabelsReport
    from pipeline.labelling.next_photos import NextReport
    from pipeline.options import LabelsOptions

_SHOWN = 5


def next_lines(report: NextReport) -> Iterator[str]:
    """How many photos were chosen out of how many, what is asked, and the first ones."""
    yield from finding_lines(report.findings)
    how = "by what the model doubts" if report.with_model else "without a model: those that stand for the most others"
    yield (
        f"next: {counted(report.photos, 'photo')} of {report.candidates} with something left to label, {how} "
        f"-> {report.out}"
    )
    if not report.with_model:
        yield "  note: measured, better than photos at random in one catalogue of two, and within noise in the other"
    else:
        yield "  note: measured, better than random on some attributes, within noise on others, such as colours"
    asked = Counter(ask.attribute or "no attribute named" for ask in report.asks)
    yield "  asked: " + ", ".join(f"{name} {count}" for name, count in asked.most_common())
    for ask in report.asks[:_SHOWN]:
        likely = ", ".join(f"{each.value} {each.p:.2f}" for each in ask.candidates[:3])
        yield f"    {ask.photo}: {ask.attribute or 'label it'}{f' ({likely})' if likely else ''}; {ask.why}"
    if report.config is not None:
        yield f"  labelling configuration: {report.config}"
    what = "export as JSON" if report.config is not None else "fill in the column value"
    file = "EXPORT.json" if report.config is not None else report.out
    yield f"  {what}, then: {command('fit-heads', {'labels': file})} (with the same --data)"


def labels_lines(report: LabelsReport, options: LabelsOptions) -> Iterator[str]:
    """How many labels of how many photos, by whom, and where they are."""
    yield from finding_lines(report.findings)
    yield f"labels: {counted(report.said, 'label')} of {counted(report.photos, 'photo')} -> {options.out}"
    yield "  by " + ", ".join(f"{name or 'nobody named'} {count}" for name, count in report.people.items())
    if report.rows is not None:
        yield f"  {counted(report.rows, 'row')} -> {options.table}"
