"""The report page: one self-contained HTML file that asks nothing of the network and runs only its own scripts."""

from __future__ import annotations

from pathlib import Path

from pipeline.comparison.page import against, data_sections, explore, loading, sections, summary, values
from pipeline.comparison.page.data import PageData
from pipeline.comparison.page.markup import Markup, el
from pipeline.comparison.page.payload import as_json, payload
from pipeline.comparison.page.scripts import policy, read_scripts
from pipeline.comparison.records import Comparison
from pipeline.system import write_text

__all__ = ["render", "write_report"]

SECTIONS = (
    sections.notes,
    sections.candidates,
    against.pairs,
    against.by_field,
    sections.per_attribute,
    values.values,
    explore.tried,
    sections.policies,
    values.calibration,
    explore.one_by_one,
    explore.photos,
    data_sections.dropped,
    data_sections.reproduce,
    loading.loading,
)
"""What stands on the page, in order; a section returns None when it has nothing to show."""


def render(comparison: Comparison, data: PageData) -> str:
    """The whole page as text. Raises OptionError when the plotting library is not installed."""
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    code = read_scripts()
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy(code)),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"{comparison.best}: comparison"),
        el("style", Markup(style)),
    )
    shown = [section for make in SECTIONS if (section := make(comparison, data)) is not None]
    body = el(
        "body",
        el("a", "Skip to the candidates", href="#candidates", class_="skip"),
        summary.header(comparison, data),
        el("main", shown, el("footer", f"Made by Selvedge, run.py compare, {comparison.created.replace('T', ' ')}.")),
        el("script", as_json(payload(comparison, data)), type="application/json", id="data"),
        [el("script", Markup(each)) for each in code],
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def write_report(comparison: Comparison, data: PageData, path: Path) -> Path:
    """Write the page, whole or not at all; returns its path."""
    write_text(path, render(comparison, data))
    return path
