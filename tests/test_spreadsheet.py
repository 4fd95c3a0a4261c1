"""No cell of a CSV file of ours runs as a formula, every text comes back as it was, and numbers stay numbers."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audit.report import AuditReport, Conflict, LabelIssue, Outlier, write_tables
from pipeline.audit.vocabulary import vocabulary
from pipeline.catalogue import read_catalogue, read_split
from pipeline.catalogue.reading.mapping import MappingLine, read_mapping, write_mapping
from pipeline.comparison.compare import compare
from pipeline.comparison.csv_file import save_csv
from pipeline.comparison.page.data import page_data
from pipeline.experiment.fit_heads import fit_heads
from pipeline.experiment.run_tables import read_rows
from pipeline.model.prediction import write_predictions
from pipeline.options import (
    CacheKeyOptions,
    CompareOptions,
    DataOptions,
    FitOptions,
    SplitOptions,
    VocabularyOptions,
)
from pipeline.spreadsheet import guarded, plain, read_dicts, write_rows
from pipeline.system import write_records
from tests.small_cache import write_catalogue

FORMULAS = ("=1+1", '=HYPERLINK("http://x","y")', "+A1", "-A1", "-1-1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "'=1")
TEXTS = ("", "'", "'80s", "''", "round", "a=b", "-", "+", "#N/A", " =1", "-5", "+5.25", "-1e-7", "-3,5", "-12%", "x'=1")


def running(path: Path) -> list[str]:
    """Cells that a spreadsheet would take for a formula: they begin with one of its signs and are no number."""
    with path.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    return [c for c in cells if re.match(r"[=+\-@\t\r]..*", c, re.DOTALL) and not re.fullmatch(r"[+-]?[\d.,eE+-]+", c)]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_gets_an_apostrophe_which_the_readers_take_away(text: str) -> None:
    assert guarded(text) == f"'{text}"
    assert plain(guarded(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_nothing_would_run_is_written_as_it_stands(text: str) -> None:
    assert guarded(text) == text == plain(text)


@pytest.mark.parametrize("number", [-5, -0.25, 0, None, True])
def test_numbers_are_no_texts(number: object) -> None:
    assert guarded(number) is number


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.sampled_from("'=+-@\t\r\n1.,a\"|;") | st.characters(codec="utf-8"), max_size=6), min_size=1))
def test_every_text_comes_back_from_a_file(cells: list[str]) -> None:
    file = io.StringIO(newline="")
    write_rows(file, [[f"c{i}" for i in range(len(cells))], cells])
    file.seek(0)
    header, rows = read_dicts(file)
    assert [[row[name] for name in header] for _, row in rows] == [cells]


def test_a_catalogue_of_formulas_goes_through_every_file(tmp_path: Path) -> None:
    small = write_catalogue(tmp_path, photos=60)
    names = {"0": "=1+1", "1": "'=1+1", "2": "-A1", "long": "@SUM(A1)", "short": "+A1"}
    with small.data.open(newline="", encoding="utf-8") as file:
        rows = [[names.get(cell, cell) for cell in row] for row in csv.reader(file)]
    rows[0] = ["filename", "=neck", "sleeve_length"]
    images = small.data.parent / "images"
    for row in rows[1:]:
        (images / row[0]).rename(images / f"-{row[0]}")
        row[0] = f"-{row[0]}"
    rows.append(["-gone.jpg", "#N/A", "=2"])
    with small.data.open("w", newline="", encoding="utf-8") as file:
        write_rows(file, rows)

    out = tmp_path / "run"
    options = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam",), epochs=1, out=out)
    fit_heads(DataOptions(data=small.data), CacheKeyOptions(), SplitOptions(near_duplicates=0.5), options)
    comparison = compare([out], CompareOptions(bootstrap=5))
    save_csv(comparison, tmp_path / "comparison.csv")
    mapping = tmp_path / "mapping.csv"
    vocabulary(DataOptions(data=small.data), VocabularyOptions(out=mapping))

    for path in (*out.glob("*.csv"), tmp_path / "comparison.csv", mapping):
        assert running(path) == [], path
    used = {row[0] for row in rows[1:-1]}
    assert set(read_split(out).photos) == used
    assert "-gone.jpg" in {row["photo"] for row in read_rows(out / "dropped.csv")}
    assert any(photo == "-gone.jpg" for kind in page_data(comparison).dropped for photo, _ in kind.examples)
    write_records(tmp_path / "records.csv", [{"photo": "a\rb", "detail": "\r"}, {"photo": "=c", "detail": -1.5}])
    assert [list(row.values()) for row in read_rows(tmp_path / "records.csv")] == [["a\rb", "\r"], ["=c", "-1.5"]]
    assert {row["photo_a"] for row in read_rows(out / "neighbours.csv")} <= used
    with (tmp_path / "comparison.csv").open(newline="", encoding="utf-8") as file:
        cells = [row for _, row in read_dicts(file)[1]]
    assert {"=neck", "sleeve_length"} == {row["key"] for row in cells if row["kind"] == "key"}
    assert {row["value"] for row in cells if row["kind"] == "value"} <= {*names.values(), "=2"}
    assert {(line.attribute, line.value) for line in read_mapping(mapping)} >= {("=neck", "=1+1"), ("=neck", "'=1+1")}


def test_predictions_can_be_read_as_a_catalogue(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "=x.jpg").write_bytes(b"x")
    frame = pd.DataFrame({"filename": ["=x.jpg"], "=neck": ["@v"], "size": ["-5"], "p:size": [-0.5]}, dtype=object)
    write_predictions(frame, tmp_path / "predictions.csv")
    assert running(tmp_path / "predictions.csv") == []
    assert (tmp_path / "predictions.csv").read_text() == "filename,'=neck,size,p:size\n'=x.jpg,'@v,-5,-0.5\n"
    read = read_catalogue(DataOptions(data=tmp_path / "predictions.csv", attributes=("=neck", "size")))
    assert list(read.filenames) == ["=x.jpg"]
    assert [list(read.cells[attribute]) for attribute in ("=neck", "size")] == [[("@v",)], [("-5",)]]


def test_a_mapping_comes_back(tmp_path: Path) -> None:
    lines = [MappingLine("=a", "-b", 3, "@c", "", "'=d"), MappingLine("n", "-5", 1, "", "", "-6")]
    write_mapping(tmp_path / "m.csv", lines)
    assert running(tmp_path / "m.csv") == []
    assert [(x.attribute, x.value, x.replacement) for x in read_mapping(tmp_path / "m.csv")] == [
        ("=a", "-b", "'=d"),
        ("n", "-5", "-6"),
    ]


def test_the_tables_of_an_audit_run_nothing(tmp_path: Path) -> None:
    issue = LabelIssue("=p", "-a", "@g", "+s", -0.12345, 0.5, 0.5, "wrong")
    conflict = Conflict("=p", "-o", 1.0, "a", "@g", "=h", True, "same-bytes")
    outlier = Outlier("=p", "a", "=v", 1.0, 2.0)
    report = AuditReport(tmp_path, 1, 0.0, {}, (issue,), (conflict,), (outlier,), (), (), {})
    write_tables(tmp_path, report)
    for name in ("label_issues.csv", "duplicates.csv", "outliers.csv"):
        assert running(tmp_path / name) == []
    assert (tmp_path / "label_issues.csv").read_text().splitlines()[1] == "'=p,'-a,'@g,'+s,-0.1235,0.5000,0.5000,wrong"
