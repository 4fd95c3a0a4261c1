"""The report page: one self-contained HTML file that asks nothing of the network and runs only its own scripts.

`templates/` says what stands on the page; the modules here prepare what the templates name, as plain data.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.comparison.page import against, once, sections, summary
from pipeline.comparison.page.data import PageData
from pipeline.comparison.page.payload import as_json, payload
from pipeline.comparison.page.scripts import read_scripts
from pipeline.comparison.page.templating import render_page
from pipeline.comparison.records import Comparison
from pipeline.options import CompareOptions
from pipeline.system import write_text

__all__ = ["render", "write_report"]


def render(comparison: Comparison, data: PageData, options: CompareOptions | None = None) -> str:
    """The whole page as text.

    Args:
        comparison: What `compare` found.
        data: What only the page shows, from `page_data`.
        options: Those of both, for the command that makes the page again (default: what `comparison` says of them).

    Returns:
        The HTML.

    Raises:
        OptionError: The plotting library is not installed.
    """
    options = options or CompareOptions(by=comparison.by, bootstrap=comparison.resamples)
    content = {
        "comparison": comparison,
        "data": data,
        "best": comparison.best_candidate,
        "majority": comparison.majority,
        "payload": as_json(payload(comparison, data)),
        **summary.prepare(comparison),
        **once.prepare(comparison),
        **against.prepare(comparison),
        **sections.prepare(comparison, data, options),
    }
    return render_page("report.html", content, scripts=read_scripts())


def write_report(comparison: Comparison, data: PageData, path: Path, options: CompareOptions | None = None) -> Path:
    """Write the page, whole or not at all.

    Args:
        comparison: What `compare` found.
        data: What only the page shows, from `page_data`.
        path: Where it goes.
        options: Those of `compare`.

    Returns:
        The path.
    """
    write_text(path, render(comparison, data, options))
    return path
