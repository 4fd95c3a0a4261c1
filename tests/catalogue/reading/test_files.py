"""Tables as people have them: encodings, delimiters, headers, Excel and Parquet."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from pipeline.catalogue import read_catalogue
from pipeline.catalogue.reading.tables import other_files
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker

QUOTED = "filename,for\na.jpg,Men’s – 5 €\n"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings(make: Maker, encoding: str) -> None:
    catalogue = read_catalogue(DataOptions(data=make(QUOTED.encode(encoding), "a.jpg")))
    assert list(catalogue.cells["for"]) == [("Men’s – 5 €",)]
    said = [f.detail for f in catalogue.findings]
    assert said == (["not valid UTF-8; read as Windows-1252, so check accented letters"] if encoding[0] == "c" else [])


def test_bytes_that_windows_1252_has_not_are_latin_1(make: Maker) -> None:
    catalogue = read_catalogue(DataOptions(data=make(b"filename,colour\na.jpg,gr\xfcn\x81\n", "a.jpg")))
    assert list(catalogue.cells["colour"]) == [("grün\x81",)]
    assert "Latin-1" in catalogue.findings[0].detail


@pytest.mark.parametrize(
    "text",
    [
        'filename;neck, front;size\na.jpg;v;"1,5"\n',
        "sep=;\r\nfilename;neck, front;size\r\na.jpg;v;1,5\r\n",
        "filename|neck, front|size\na.jpg|v|1,5\n",
        'filename,"neck, front",size\na.jpg,v,"1,5"\n',
    ],
)
def test_delimiters_are_those_that_fit_the_rows(make: Maker, text: str) -> None:
    catalogue = read_catalogue(DataOptions(data=make(text, "a.jpg")))
    assert {name: list(column) for name, column in catalogue.cells.items()} == {
        "neck, front": [("v",)],
        "size": [("1,5",)],
    }


def test_lines_are_counted_behind_a_stated_delimiter(make: Maker) -> None:
    catalogue = read_catalogue(DataOptions(data=make("sep=;\nfilename;neck\na.jpg;1\na.jpg;2\n", "a.jpg")))
    assert "line 4 names the photo of line 3" in catalogue.findings[0].detail


def test_blanks_and_capitals_of_the_header_do_not_count(make: Maker) -> None:
    table = make(" File Name ,Sleeve Length,SLEEVE\na.jpg,long,x\n", "a.jpg")
    for wanted in ("sleeve_length", "Sleeve Length", "sleeve length"):
        catalogue = read_catalogue(DataOptions(data=table, attributes=(wanted,)))
        assert catalogue.format == "A" and catalogue.attributes == ("Sleeve Length",)
    products = read_catalogue(DataOptions(data=table, format="products", image_column=("file_name",)))
    assert products.attributes == ("Sleeve Length", "SLEEVE")


def test_parquet_keeps_lists_dates_and_missing_numbers(make: Maker, tmp_path: Path) -> None:
    make("", "1.jpg", "2.jpg", name="other.txt")
    columns = {
        "id": pa.array([1.0, 2.0]),
        "tags": pa.array([["a|b", "c"], []]),
        "size": pa.array([38, None]),
        "day": pa.array([datetime.datetime(2026, 3, 1), None]),
        "on": pa.array([True, False]),
    }
    write_table(pa.table(columns), tmp_path / "labels.parquet")
    catalogue = read_catalogue(DataOptions(data=tmp_path, image_name="{id}.jpg"))
    cells = {name: list(column) for name, column in catalogue.cells.items()}
    assert cells == {"tags": [("a|b", "c"), None], "size": [("38",), None], "on": [("True",), ("False",)]}
    assert [f.detail for f in catalogue.findings if f.filename == "day"] == [
        "dates; left out unless --attributes names it"
    ]


def test_an_excel_workbook(make: Maker, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    make("", "1.jpg", "2.jpg", name="other.txt")
    book = openpyxl.Workbook()
    for row in (["Photo ID", "Neck", "Added", None], [1, "v", datetime.datetime(2026, 3, 1)], [], [2.0, None, None]):
        book.active.append(row)
    book.create_sheet("notes")
    book.save(tmp_path / "labels.xlsx")
    catalogue = read_catalogue(DataOptions(data=tmp_path, image_name="{photo_id}.jpg", attributes=("neck", "added")))
    assert list(catalogue.filenames) == ["1.jpg", "2.jpg"]
    assert {name: list(c) for name, c in catalogue.cells.items()} == {
        "Neck": [("v",), None],
        "Added": [("2026-03-01",), None],
    }
    assert [f.detail for f in catalogue.findings if f.kind == "other-sheets"] == [
        "the sheet 'Sheet' is read, the other 1 are not"
    ]


def test_an_excel_workbook_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with ZipFile(tmp_path / "labels.xlsx", "w"):
        pass
    with pytest.raises(CatalogueError, match="not installed. Run: pip install openpyxl, or save the table as CSV"):
        read_catalogue(DataOptions(data=tmp_path / "labels.xlsx"))


def test_a_table_that_is_no_csv_beside_class_folders_is_a_note(tmp_path: Path) -> None:
    for name in ("shirt/a.jpg", "dress/b.jpg", "notes.xlsx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert read_catalogue(DataOptions(data=tmp_path)).format == "folder"


@pytest.mark.parametrize(
    ("name", "match"),
    [("a.parquet", "cannot be read as a Parquet file"), ("a.xls", "before 2007 is not read; save it as .xlsx or CSV")],
)
def test_broken_and_old_files_are_named(tmp_path: Path, name: str, match: str) -> None:
    (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(CatalogueError, match=match):
        read_catalogue(DataOptions(data=tmp_path / name))


def test_a_workbook_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_files, "MOST_BYTES", 999)
    with ZipFile(tmp_path / "a.xlsx", "w", ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", b" " * 1000)
    with pytest.raises(CatalogueError, match="unpacked it has 1000 bytes, more than the 999. Save the table as CSV"):
        read_catalogue(DataOptions(data=tmp_path / "a.xlsx"))


def test_a_small_parquet_file_of_far_too_many_cells_is_refused(tmp_path: Path) -> None:
    """A run of equal cells takes next to no bytes; the file says how many there are before any is read."""
    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(40_000_000, np.int8)), pa.array(["red"]))
    write_table(pa.table({f"colour{i}": one for i in range(7)}), tmp_path / "a.parquet", use_dictionary=True)
    assert (tmp_path / "a.parquet").stat().st_size < 1_000_000
    with pytest.raises(CatalogueError, match="280000000 cells; at most .* are read"):
        read_catalogue(DataOptions(data=tmp_path / "a.parquet"))


def test_a_broken_workbook_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"nonsense")
    with pytest.raises(CatalogueError, match="cannot be read as an Excel workbook"):
        read_catalogue(DataOptions(data=tmp_path / "a.xlsx"))
