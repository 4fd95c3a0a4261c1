"""The report page: one self-contained HTML file that asks nothing of the network and runs no script."""

from __future__ import annotations

from pathlib import Path

from pipeline.comparison import Comparison
from pipeline.report import closer, sections
from pipeline.report.markup import Markup, el

__all__ = ["render", "write_report"]

SECTIONS = (
    sections.notes,
    sections.candidates,
    sections.by_field,
    sections.per_key,
    sections.policies,
    closer.curves,
    closer.confusions,
    closer.calibration,
    closer.left_out,
    closer.loading,
)
"""What stands on the page, in order; a section returns None when it has nothing to show."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(comparison: Comparison) -> str:
    """The whole page as text."""
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", f"{comparison.best}: comparison"),
        el("style", Markup(style)),
    )
    main = el("main", [section(comparison) for section in SECTIONS], el("footer", "Made by Selvedge, run.py compare."))
    body = el("body", sections.header(comparison), main)
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def write_report(comparison: Comparison, path: Path) -> Path:
    """Write the page, whole or not at all; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(render(comparison), encoding="utf-8")
    partial.replace(path)
    return path
