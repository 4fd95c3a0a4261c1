"""What `vocabulary` and `audit` say of their reports: lines of text, no printing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.cli.summaries.stages import finding_lines
from pipeline.errors import counted
from pipeline.options.forms.words import command

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.audit.report import AuditReport
    from pipeline.audit.vocabulary_report import AttributeVocabulary, VocabularyReport

EXAMPLES = 3
WORST = 10


def vocabulary_lines(report: VocabularyReport) -> Iterator[str]:
    """Values per attribute, and how many look like misspellings, are rare or not allowed."""
    yield from finding_lines(report.findings)
    values = sum(len(each.counts) for each in report.attributes)
    alike = sum(len(each.suggestions) for each in report.attributes)
    spellings = f"{counted(values, 'value')}, {counted(alike, 'spelling')} like another"
    yield f"vocabulary: {counted(len(report.attributes), 'attribute')}, {spellings} -> {report.out}"
    for each in report.attributes:
        yield f"  {each.attribute}: {', '.join(_facts(each))}"
        for value, suggestion in sorted(each.suggestions.items(), key=lambda item: -item[1].similarity)[:EXAMPLES]:
            photos = each.counts[value], each.counts[suggestion.target]
            counts = f" ({photos[0]} and {counted(photos[1], 'photo')})" if any(photos) else ""
            yield f"    {value!r} is like {suggestion.target!r}{counts}"
    if report.carried:
        yield f"  {counted(report.carried, 'replacement')} taken over from the mapping given"
    yield "  Nothing is merged: fill in the last column, then give the file to any command with --mapping."


def _facts(each: AttributeVocabulary) -> Iterator[str]:
    yield counted(len(each.counts), "value")
    if each.suggestions:
        yield f"{len(each.suggestions)} like another"
    if each.rare:
        yield f"{len(each.rare)} rare"
    if each.foreign:
        yield f"{len(each.foreign)} not allowed"


def audit_lines(report: AuditReport, page: Path) -> Iterator[str]:
    """What was judged and found, and the worst labels."""
    yield from finding_lines(report.findings)
    yield (
        f"audit: {counted(report.photos, 'photo')} in {report.seconds:.1f} s: "
        f"{counted(len(report.issues), 'label')} in doubt, "
        f"{counted(len(report.conflicts), 'conflict')} between look-alikes, "
        f"{counted(len(report.outliers), 'outlier')} -> {report.out}"
    )
    for attribute, (judged, doubtful) in report.counts.items():
        yield f"  {attribute}: {doubtful} of {counted(judged, 'label')} in doubt"
    if report.rare:
        some = ", ".join(report.rare[:WORST])
        yield f"  not judged, shown by too few products ({len(report.rare)}): {some}"
    for issue in report.issues[:WORST]:
        given, suggested = issue.given or f"not {issue.suggested}", issue.suggested or f"not {issue.given}"
        yield f"    {issue.photo}: {issue.attribute} is {given}, looks like {suggested} ({issue.suggested_p:.0%})"
    yield f"page: {page}"
    if report.issues:
        doubts = report.out / "labels.csv"
        yield f"to fill in: {doubts}; then: {command('fit-heads', {'labels': doubts})} (with the same --data)"
