"""Several values in one cell: recognised, said, split, and written so that they read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalogue import Finding, LabelSchema, infer_schema, read_catalogue
from pipeline.catalogue.joined import joined, parts
from pipeline.errors import CatalogueError
from pipeline.model.prediction import prediction_frame, write_predictions
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker

PHOTOS = [f"{letter}.jpg" for letter in "abcdef"]


def table_of(make: Maker, *cells: str, header: str = "filename;colour") -> Path:
    return make(header + "\n" + "".join(f"{p};{c}\n" for p, c in zip(PHOTOS, cells, strict=False)), *PHOTOS)


@pytest.mark.parametrize("separator", ["|", ", ", ","])
def test_cells_whose_values_occur_elsewhere_are_split_and_said(make: Maker, separator: str) -> None:
    table = table_of(make, f"Red{separator}White", "White", "Red", f"Blue{separator}Red", f"Red{separator}Blue", "none")
    catalogue = read_catalogue(DataOptions(data=table))
    cells = [("Red", "White"), ("White",), ("Red",), ("Blue", "Red"), ("Blue", "Red"), ()]
    assert list(catalogue.cells["colour"]) == cells
    assert catalogue.findings[0] == Finding(
        "several-values",
        "colour",
        f"3 row(s) hold several values, separated by {separator.strip()!r}; "
        "--separator none takes each cell as one value",
    )
    assert infer_schema(catalogue).single == (False,)


@pytest.mark.parametrize("options", [{"separator": "none"}, {"single": ("colour",)}])
def test_splitting_can_be_turned_off(make: Maker, options: dict[str, object]) -> None:
    table = table_of(make, "Red|White", "White", "Red")
    catalogue = read_catalogue(DataOptions(data=table, **options))  # type: ignore[arg-type]
    assert list(catalogue.cells["colour"]) == [("Red|White",), ("White",), ("Red",)]
    assert not [f for f in catalogue.findings if f.kind in ("several-values", "one-value")]


def test_cells_whose_values_occur_nowhere_else_stay_and_are_pointed_out(make: Maker) -> None:
    catalogue = read_catalogue(DataOptions(data=table_of(make, "Rock|Roll", "Plain", "Plain")))
    assert list(catalogue.cells["colour"]) == [("Rock|Roll",), ("Plain",), ("Plain",)]
    assert [(f.kind, f.detail) for f in catalogue.findings if f.filename == "colour"] == [
        ("one-value", "1 row(s), such as 'Rock|Roll', are taken as one value each; --separator '|' splits them")
    ]


def test_decimal_commas_are_no_separators(make: Maker) -> None:
    catalogue = read_catalogue(DataOptions(data=table_of(make, "12,50", "12", "50", "50,12")))
    assert list(catalogue.cells["colour"]) == [("12,50",), ("12",), ("50",), ("50,12",)]


def test_a_given_separator_splits_products_too_and_a_backslash_keeps_it(make: Maker) -> None:
    table = table_of(make, r"A\/B/C", "D/E", header="photo;colour")
    catalogue = read_catalogue(DataOptions(data=table, image_column=("photo",), separator="/"))
    assert list(catalogue.cells["colour"]) == [("A/B", "C"), ("D", "E")]


@pytest.mark.parametrize("separator", ["", "  ", "\\"])
def test_a_separator_that_separates_nothing_is_refused(make: Maker, separator: str) -> None:
    with pytest.raises(CatalogueError, match="--separator is .* expected what stands between"):
        read_catalogue(DataOptions(data=table_of(make, "a"), separator=separator))


def test_format_b_has_no_use_for_a_separator(make: Maker) -> None:
    table = make("id,filename,category,attributes\n1,a.jpg,Top,{}\n", "a.jpg")
    findings = read_catalogue(DataOptions(data=table, separator="|")).findings
    assert ("option-ignored", "--separator") in [(f.kind, f.filename) for f in findings]


TEXTS = st.text(st.sampled_from("ab|\\;, "), min_size=1).map(str.strip).filter(bool)


@given(st.lists(TEXTS, min_size=1), st.sampled_from(["|", ";", ", ", "/"]))
def test_what_is_joined_is_split_again(values: list[str], separator: str) -> None:
    assert parts(joined(values, separator), separator) == values


def test_predictions_read_back_as_a_catalogue(make: Maker, tmp_path: Path) -> None:
    make("", "a.jpg", "b.jpg", "c.jpg", name="other.txt")
    neck, style = ("v|deep", "round\\"), ("plain", "a|b", "x\\")
    schema = LabelSchema(("neck", "style"), (neck, style), (True, False))
    D = np.array([[1, 0, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0]], bool)
    out = tmp_path / "p.csv"
    write_predictions(prediction_frame(PHOTOS[:3], D.astype(np.float32), D, schema), out)
    catalogue = read_catalogue(DataOptions(data=out, separator="|"))
    assert list(catalogue.cells["neck"]) == [("v|deep",), ("round\\",), None]
    assert list(catalogue.cells["style"]) == [("a|b", "plain", "x\\"), ("plain",), ("a|b",)]
    alone = read_catalogue(DataOptions(data=out, attributes=("neck",)))
    assert alone.cells["neck"][0] == ("v|deep",)
