"""The page of similar photos: each one asked for, and beside it the nearest, in one file that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from pipeline.comparison.page.templating import render_page
from pipeline.neighbours.report import SimilarReport, label_text
from pipeline.remote import RemotePhoto
from pipeline.system import write_text

MOST = 1_000
"""Pictures that the page shows at most: some 2 MB."""


def shown_photos(report: SimilarReport) -> dict[str, Path | RemotePhoto]:
    """Photos whose pictures the page needs, by name, and their files; those of the first photos asked for."""
    shown: dict[str, Path | RemotePhoto] = {}
    for asked in report.asked:
        group = {asked.photo: asked.path} | {each.photo: each.path for each in asked.nearest}
        if shown and len(shown | group) > MOST:
            break
        shown |= group
    return shown


def render_similar(report: SimilarReport, pictures: Mapping[str, bytes]) -> str:
    """The whole page as text.

    Args:
        report: What was found.
        pictures: Photo to WebP bytes, where there are any.

    Returns:
        The HTML.
    """
    shown = shown_photos(report)
    content = {
        "report": report,
        "asked": [asked for asked in report.asked if asked.photo in shown],
        "pictures": {name: base64.b64encode(picture).decode("ascii") for name, picture in pictures.items()},
        "label_text": label_text,
    }
    return render_page("similar.html", content, Path(__file__).parent / "templates")


def write_page(report: SimilarReport, pictures: Mapping[str, bytes], path: Path) -> Path:
    """Write the page, whole or not at all; returns its path."""
    write_text(path, render_similar(report, pictures))
    return path
