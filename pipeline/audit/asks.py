"""The doubts of an audit as questions, in the file that `next` writes too and that `--labels` takes when filled in."""

from __future__ import annotations

from pipeline.audit.report import AuditReport, LabelIssue
from pipeline.catalogue import Catalogue
from pipeline.catalogue.cells import cell_text
from pipeline.labelling.asks import Ask, Candidate


def asks_of(report: AuditReport, catalogue: Catalogue) -> tuple[Ask, ...]:
    """A question per photo and attribute in doubt, the worst label first."""
    row_of = {name: row for row, name in enumerate(catalogue.filenames)}
    by_cell: dict[tuple[str, str], list[LabelIssue]] = {}
    for issue in report.issues:
        by_cell.setdefault((issue.photo, issue.attribute), []).append(issue)
    return tuple(
        _ask(issues, cell_text(catalogue.cells[attribute][row_of[photo]]))
        for (photo, attribute), issues in by_cell.items()
    )


def _ask(issues: list[LabelIssue], cell: str) -> Ask:
    first = issues[0]
    likely = [Candidate(value, p) for issue in issues for value, p in _values(issue)]
    said = ", ".join(_said(issue) for issue in issues)
    return Ask(first.photo, first.attribute, tuple(likely), f"is {cell}, {said}", 1 - first.score)


def _values(issue: LabelIssue) -> list[tuple[str, float]]:
    pairs = [(issue.suggested, issue.suggested_p), (issue.given, issue.given_p)]
    return [(value, p) for value, p in pairs if value]


def _said(issue: LabelIssue) -> str:
    looks = {"missing": f"seems to lack {issue.suggested}", "extra": f"seems to have no {issue.given}"}
    return looks.get(issue.kind, f"looks like {issue.suggested}")
