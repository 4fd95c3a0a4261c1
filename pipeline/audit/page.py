"""The page of an audit: small pictures of what it found, worst first, in one file that asks nothing of the network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.audit.report import AuditReport, Conflict
from pipeline.comparison.page.templating import render_page
from pipeline.system import write_text

Pictures = Mapping[str, bytes]
Pair = tuple[str, str]


def shown_photos(report: AuditReport, most: int) -> tuple[str, ...]:
    """The photos whose pictures the page needs, each once; it shows the `most` first of every kind of finding."""
    names = [issue.photo for issue in report.issues[:most]]
    names += [name for pair in list(_by_pair(report.conflicts))[:most] for name in pair]
    names += [outlier.photo for outlier in report.outliers[:most]]
    return tuple(dict.fromkeys(names))


def render_gallery(report: AuditReport, pictures: Pictures, most: int) -> str:
    """The whole page as text.

    Args:
        report: What the audit found.
        pictures: Photo to WebP bytes, where there are any.
        most: How many findings of every kind the page shows.

    Returns:
        The HTML.
    """
    by_pair = _by_pair(report.conflicts)
    content = {
        "report": report,
        "pictures": {name: base64.b64encode(picture).decode("ascii") for name, picture in pictures.items()},
        "issues": report.issues[:most],
        "pairs": list(by_pair.items())[:most],
        "pair_count": len(by_pair),
        "outliers": report.outliers[:most],
    }
    return render_page("audit.html", content, Path(__file__).parent / "templates")


def write_gallery(report: AuditReport, pictures: Pictures, most: int, path: Path) -> Path:
    """Write the page, whole or not at all; returns its path."""
    write_text(path, render_gallery(report, pictures, most))
    return path


def _by_pair(conflicts: Iterable[Conflict]) -> dict[Pair, list[Conflict]]:
    by_pair: dict[Pair, list[Conflict]] = {}
    for conflict in conflicts:
        by_pair.setdefault((conflict.photo, conflict.other), []).append(conflict)
    return by_pair
