"""Allowed values: what lies outside is reported, and dropped or kept; `none` is the lack of a value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.catalogue import Catalogue, count_kinds, read_catalogue
from pipeline.catalogue.reading.allowed_values import read_allowed_values
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker

ROWS = """id,filename,category,attributes
1,a.jpg,shirt,"{'neck': ['round'], 'pattern': ['solid', 'none', 'spotty'], 'price': ['9']}"
2,b.jpg,shirt,"{'neck': ['rond'], 'pattern': ['spotty']}"
3,c.jpg,skirt,"{'pattern': ['none'], 'neck': ['#N/A']}"
"""
ALLOWED = {"neck": ["none", "round ", "v"], "pattern": ["solid", "None", "printed"]}


def read(make: Maker, tmp_path: Path, **options: object) -> Catalogue:
    path = tmp_path / "allowed.json"
    path.write_text(json.dumps(ALLOWED))
    data = make(ROWS, "a.jpg", "b.jpg", "c.jpg")
    return read_catalogue(DataOptions(data=data, allowed_values=path, **options))  # type: ignore[arg-type]


def test_values_outside_are_dropped_and_a_cell_without_any_left_is_unknown(make: Maker, tmp_path: Path) -> None:
    catalogue = read(make, tmp_path)
    assert catalogue.attributes == ("category", "neck", "pattern")
    assert list(catalogue.cells["neck"]) == [("round",), None, None]
    assert list(catalogue.cells["pattern"]) == [("solid",), None, ()]
    assert list(catalogue.cells["category"]) == [("shirt",), ("shirt",), ("skirt",)]
    found = {(f.kind, f.filename, f.detail) for f in catalogue.findings if "allowed" in f.kind}
    assert found == {
        ("value-not-allowed", "neck", "'rond' on 1 photo(s); dropped"),
        ("value-not-allowed", "pattern", "'spotty' on 2 photo(s); dropped"),
        ("attribute-not-allowed", "price", "1 photo(s) carry it; dropped"),
    }


def test_values_outside_can_be_kept_and_are_reported_all_the_same(make: Maker, tmp_path: Path) -> None:
    catalogue = read(make, tmp_path, outside="keep")
    assert catalogue.attributes == ("category", "neck", "pattern", "price")
    assert list(catalogue.cells["neck"]) == [("round",), ("rond",), None]
    assert list(catalogue.cells["pattern"]) == [("solid", "spotty"), ("spotty",), ()]
    kinds = count_kinds(catalogue.findings)
    assert (kinds["value-not-allowed"], kinds["attribute-not-allowed"]) == (2, 1)


def test_none_is_listed_last_and_counted_but_is_no_value(tmp_path: Path) -> None:
    path = tmp_path / "allowed.json"
    path.write_text(json.dumps(ALLOWED))
    allowed = read_allowed_values(path)
    assert dict(allowed.values) == {"neck": ("round ", "v", "none"), "pattern": ("solid", "printed", "None")}
    assert allowed.size == 6
    assert allowed.of("neck") == {"round", "v"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", r'expected \{"attribute"'),
        ('{"a": "b"}', r'expected \{"attribute"'),
        ('{"a": [["b"]]}', r'expected \{"attribute"'),
        ('{"other": ["b"]}', "name none of the attributes"),
    ],
)
def test_a_file_of_another_shape_or_catalogue_is_an_error(make: Maker, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    data = make("filename,neck\na.jpg,v\n", "a.jpg")
    with pytest.raises(CatalogueError, match=message):
        read_catalogue(DataOptions(data=data, allowed_values=path))
