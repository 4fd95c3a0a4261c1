"""Whether attributes apply: with categories the figure reaches the table, the JSON and CSV files and the page."""

from __future__ import annotations

from pathlib import Path

from pipeline.comparison.compare import compare
from pipeline.comparison.csv_file import rows
from pipeline.comparison.page import render
from pipeline.comparison.page.data import page_data
from pipeline.comparison.table import table
from pipeline.options import CompareOptions
from tests.comparison.runfolder import ATTRIBUTES, ROWS, write_run

QUICK = CompareOptions(bootstrap=20)
HEADING = "Where attributes apply"


def test_a_run_with_categories_has_it_everywhere(tmp_path: Path) -> None:
    first, *others = ATTRIBUTES["neck"]
    gate = {first: ["neck", "style"], **{value: ["neck"] for value in others}}
    schema = {
        "keys": ["neck", "style"],
        "values": [ATTRIBUTES["neck"], ATTRIBUTES["style"]],
        "single": [True, False],
        "gate": gate,
        "category_key": "neck",
    }
    labels = [(*row[:4], None if row[3] in others else row[4]) for row in ROWS]
    comparison = compare([write_run(tmp_path / "run", rows=labels, schema=schema)], QUICK)
    (row,) = comparison.applies
    assert (row.candidate, row.attribute) == (comparison.best, "style")
    assert (row.applying, row.not_applying, row.spoken, row.silent) == (2, 2, 1.0, 0.5), "h1 is taken for a round one"
    assert comparison.to_json()["applies"][0]["key"] == "style"
    assert f"Does {comparison.best} name attributes where the category has them" in table(comparison)
    written = {each["figure"]: each["estimate"] for each in rows(comparison) if each["kind"] == "applies"}
    assert written["spoken"] == row.spoken and written["not_applying"] == row.not_applying
    assert HEADING in render(comparison, page_data(comparison), QUICK)


def test_a_run_without_categories_has_it_nowhere(tmp_path: Path) -> None:
    comparison = compare([write_run(tmp_path / "run")], QUICK)
    assert comparison.applies == () and HEADING not in render(comparison, page_data(comparison), QUICK)
    assert "name attributes where the category" not in table(comparison)
