"""What an audit found: records, worst first, and their tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from pipeline.catalogue.findings import Finding
from pipeline.remote import RemotePhoto
from pipeline.system import write_records


@dataclass(frozen=True)
class LabelIssue:
    """A label that is likely wrong.

    Attributes:
        given, suggested: values; "" for the one that is too much or missing of several.
        score: 0 (surely wrong) to 1.
        given_p, suggested_p: Probabilities from heads that did not see the photo.
        kind: wrong, extra or missing.
    """

    photo: str
    attribute: str
    given: str
    suggested: str
    score: float
    given_p: float
    suggested_p: float
    kind: str


@dataclass(frozen=True)
class Conflict:
    """Two photos that look the same and have different labels; kind is same-bytes or near-duplicate."""

    photo: str
    other: str
    cosine: float
    attribute: str
    given: str
    other_given: str
    same_product: bool
    kind: str


@dataclass(frozen=True)
class Outlier:
    """A photo far from all others (attribute and value ""), or from all others with its value.

    Attributes:
        distance: Mean distance to its nearest ones.
        score: Modified z-score of its logarithm.
    """

    photo: str
    attribute: str
    value: str
    distance: float
    score: float


@dataclass(frozen=True)
class AuditReport:
    """What one `audit` call found.

    Attributes:
        out: Its folder.
        photos: How many were looked at.
        counts: Per attribute, judged cells and issues.
        rare: Values shown by too few products to be judged.
        files: Photo -> its file, for the pictures.
    """

    out: Path
    photos: int
    seconds: float
    counts: dict[str, tuple[int, int]]
    issues: tuple[LabelIssue, ...]
    conflicts: tuple[Conflict, ...]
    outliers: tuple[Outlier, ...]
    rare: tuple[str, ...]
    findings: tuple[Finding, ...]
    files: Mapping[str, Path | RemotePhoto]


def write_tables(out: Path, report: AuditReport) -> None:
    """Write label_issues.csv, duplicates.csv and outliers.csv, each worst first."""
    _write(out / "label_issues.csv", report.issues, [field.name for field in fields(LabelIssue)])
    _write(out / "duplicates.csv", report.conflicts, [field.name for field in fields(Conflict)])
    _write(out / "outliers.csv", report.outliers, [field.name for field in fields(Outlier)])


def _write(path: Path, records: Sequence[object], columns: list[str]) -> None:
    write_records(path, [vars(record) for record in records], columns, "%.4f")
