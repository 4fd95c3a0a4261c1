"""The label schema that rows give, and the helpers beside it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalogue import (
    Catalogue,
    Finding,
    LabelSchema,
    alike_in_test,
    coded,
    empty_attributes,
    infer_schema,
    never_in_train,
    read_catalogue,
    same_content,
)
from pipeline.catalogue.cells import Cell, natural
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker
from tests.catalogue.dummies import dummies_view


def catalogue_of(make: Maker, text: str) -> Catalogue:
    return read_catalogue(DataOptions(data=make(text, *(line.split(",")[0] for line in text.splitlines()[1:]))))


def test_values_are_sorted_naturally(make: Maker) -> None:
    catalogue = catalogue_of(make, "filename,size\na.jpg,10\nb.jpg,9\nc.jpg,XL\nd.jpg,-1\ne.jpg,09\nf.jpg,xl\n")
    assert infer_schema(catalogue).values == (("09", "9", "10", "-1", "XL", "xl"),)


def test_the_schema_sees_only_the_rows_it_is_given(make: Maker) -> None:
    catalogue = catalogue_of(make, "filename,neck,fit\na.jpg,1,\nb.jpg,2,\nc.jpg,3,slim\nd.jpg,3,slim\n")
    schema = infer_schema(catalogue, np.array([0, 1]))
    assert (schema.attributes, schema.values) == (("neck",), (("1", "2"),))
    assert empty_attributes(catalogue, schema) == (
        Finding("empty-key", "fit", "no photo that fitting may see has a known value; left out"),
    )
    detail = "neck=3: 2 photo(s), none that fitting may see; it cannot be predicted"
    assert never_in_train(catalogue, schema) == (Finding("never-in-train", "neck", detail),)
    assert never_in_train(catalogue, schema, np.array([0, 1])) == ()
    Y, mask = schema.encode(catalogue.cells)
    assert Y.tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]
    assert mask.all()


def test_single_can_be_overridden_unless_the_cells_say_no(make: Maker) -> None:
    catalogue = catalogue_of(make, "filename,neck\na.jpg,1\n")
    assert infer_schema(catalogue).single == (True,)
    assert infer_schema(catalogue, single={"neck": False}).single == (False,)
    with pytest.raises(CatalogueError, match=r"no attribute 'nek'. Did you mean 'neck'"):
        infer_schema(catalogue, single={"nek": True})
    text = """id,filename,category,attributes\n1,a.jpg,x,"{'fit': ['a', 'b']}"\n"""
    with pytest.raises(CatalogueError, match=r"'fit' cannot be single-valued"):
        infer_schema(read_catalogue(DataOptions(data=make(text, "a.jpg"))), single={"fit": True})


def test_a_catalogue_without_any_known_value_is_an_error(make: Maker) -> None:
    catalogue = catalogue_of(make, "filename,neck\na.jpg,#N/A\nb.jpg,\n")
    with pytest.raises(
        CatalogueError, match=r"No attribute has a single known value in these 2 photos \(attributes: neck\)"
    ):
        infer_schema(catalogue)


def test_photos_with_the_same_bytes_and_other_labels_are_reported(make: Maker) -> None:
    catalogue = catalogue_of(make, "filename,neck,fit\na.jpg,1,slim\nb.jpg,2,slim\nc.jpg,1,\nd.jpg,4,\ne.jpg,5,\n")
    ids = np.array([b"same", b"same", b"same", b"", b""], "S32")
    assert same_content(catalogue, ids) == (
        Finding("same-content", "", "2 photo(s) repeat the bytes of another; all kept"),
        Finding("content-conflict", "b.jpg", "same bytes as a.jpg, other labels; neck: 1 and 2; both kept"),
        Finding("content-conflict", "c.jpg", "same bytes as a.jpg, other labels; fit: slim and #N/A; both kept"),
    )
    assert same_content(catalogue, np.array([hashlib.sha256(bytes([i])).digest() for i in range(5)], "S32")) == ()


def test_the_indicator_view_of_format_a(make: Maker) -> None:
    table = make("filename,neck,fit\na.jpg,10,#N/A\nb.jpg,2,1\na.jpg,3,1\nc.jpg,#N/A,0\n")
    frame = dummies_view(table)
    assert list(frame.columns) == ["fit_0", "fit_1", "neck_2", "neck_10"]
    assert frame.astype(int).to_dict("index") == {
        "a.jpg": {"fit_0": 0, "fit_1": 0, "neck_2": 0, "neck_10": 1},
        "b.jpg": {"fit_0": 0, "fit_1": 1, "neck_2": 1, "neck_10": 0},
        "c.jpg": {"fit_0": 1, "fit_1": 0, "neck_2": 0, "neck_10": 0},
    }
    with pytest.raises(CatalogueError, match=r"no column 'filename'; its columns are: id"):
        dummies_view(make("id\n1\n"))


CELLS = st.lists(st.none() | st.lists(st.sampled_from("abc"), max_size=3, unique=True).map(lambda v: tuple(sorted(v))))


@given(CELLS)
def test_encoding_agrees_with_its_definition(cells: list[Cell]) -> None:
    schema = LabelSchema(("k",), (("a", "b"),), (False,))
    Y, mask = schema.encode({"k": cells})
    assert Y.tolist() == [[int(v in (cell or ())) for v in "ab"] for cell in cells]
    assert mask.tolist() == [[cell is not None] * 2 for cell in cells]


@given(CELLS)
def test_coded_columns_are_sequences(cells: list[Cell]) -> None:
    column = coded(cells)
    assert list(column) == cells
    assert column == cells
    assert list(column.compact()) == cells
    assert list(column[1:]) == cells[1:]
    assert len(column.table) == len(set(cells))


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_is_numeric_order_of_numbers(numbers: list[int]) -> None:
    assert sorted(map(str, numbers), key=natural) == [str(n) for n in sorted(numbers)]


def test_attributes_that_are_alike_on_all_test_photos_are_named(make: Maker) -> None:
    rows = "a.jpg,w,1,x|y,,u\nb.jpg,m,2,x,,v\nc.jpg,w,1,x|y,p,\nd.jpg,w,,y|x,,\n"
    table = make("filename,gender,neck,colour,fit,unknown\n" + rows, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    catalogue = read_catalogue(DataOptions(data=table, separator="|"))
    found = {f.filename: f.detail for f in alike_in_test(catalogue, infer_schema(catalogue), np.array([0, 2, 3]))}
    end = "no figure can tell anything"
    assert found == {
        "gender": f"all 3 test photos on which it is known have w: {end}",
        "neck": f"all 2 test photos on which it is known have 1: {end}",
        "colour": f"all 3 test photos on which it is known have x+y: {end}",
        "fit": f"all 1 test photos on which it is known have p: {end}",
        "unknown": f"all 1 test photos on which it is known have u: {end}",
    }
    found = {f.filename: f.detail for f in alike_in_test(catalogue, infer_schema(catalogue), np.array([1, 2]))}
    assert set(found) == {"fit", "unknown"}
