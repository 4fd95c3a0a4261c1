"""Format B: categories, dict literals, and attributes that apply or do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.catalogue import Catalogue, infer_schema, read_catalogue
from pipeline.catalogue.cells import UNKNOWN_TOKENS
from pipeline.catalogue.reading.attributes import parse_attributes
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker

HEADER = "id,filename,category,attributes\n"


def read(make: Maker, rows: str, **options: object) -> Catalogue:
    names = [line.split(",")[1] for line in rows.splitlines()]
    return read_catalogue(DataOptions(data=make(HEADER + rows, *names), **options))  # type: ignore[arg-type]


def test_lists_become_sorted_cells_and_none_is_dropped(make: Maker) -> None:
    rows = """1,a.jpg,shirt,"{'neck': ['round'], 'pattern': ['solid', 'none', 'printed', 'solid']}"
2,b.jpg,shirt,"{'pattern': ['none']}"
3,c.jpg,skirt,{}
4,d.jpg,skirt,
5,e.jpg,skirt,"{'neck': 'v', 'year': [2020, 2019]}"
"""
    catalogue = read(make, rows)
    assert catalogue.attributes == ("category", "neck", "pattern", "year")
    assert list(catalogue.cells["category"]) == [("shirt",), ("shirt",), ("skirt",), ("skirt",), ("skirt",)]
    assert list(catalogue.cells["neck"]) == [("round",), (), (), (), ("v",)]
    assert list(catalogue.cells["pattern"]) == [("printed", "solid"), (), (), (), ()]
    assert list(catalogue.cells["year"]) == [(), (), (), (), ("2019", "2020")]
    assert list(catalogue.categories or ()) == ["shirt", "shirt", "skirt", "skirt", "skirt"]


def test_only_an_explicit_unknown_token_is_unknown(make: Maker) -> None:
    rows = """1,a.jpg,shirt,"{'neck': ['#N/A'], 'fit': [''], 'fabric': None, 'length': ['long', 'N/A']}"
2,b.jpg,shirt,{}
"""
    catalogue = read(make, rows)
    assert {attribute: list(catalogue.cells[attribute]) for attribute in catalogue.attributes[1:]} == {
        "neck": [None, ()],
        "fit": [None, ()],
        "fabric": [None, ()],
        "length": [("long",), ()],
    }


def test_without_a_category_absent_keys_are_unknown(make: Maker) -> None:
    rows = """1,a.jpg,,"{'neck': ['v']}"\n2,b.jpg,#N/A,{}\n3,c.jpg,shirt,{}\n"""
    catalogue = read(make, rows)
    assert list(catalogue.categories or ()) == [None, None, "shirt"]
    assert list(catalogue.cells["neck"]) == [("v",), None, ()]


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "{'neck': [open('x')]}",
        "{'neck': ['v']",
        "['neck']",
        "{1: ['v']}",
        "{'neck': {'v': 1}}",
        "{'neck': [['v']]}",
        "(" * 5000,
        "-" * 10_000 + "1",
        "\x00",
        "{'neck': ['" + "v" * 20_000 + "']}",
    ],
)
def test_anything_but_a_dict_literal_is_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"the attributes are no dict|the values of 'neck' are no list|20014 characters"
    ):
        parse_attributes(text, UNKNOWN_TOKENS)


def test_a_bad_literal_leaves_the_category_known_and_every_other_key_unknown(make: Maker) -> None:
    catalogue = read(make, """1,a.jpg,shirt,"{'neck': ['v']}"\n2,b.jpg,shirt,{'neck'\n3,c.jpg,shirt,{}\n""")
    assert list(catalogue.cells["category"]) == [("shirt",), ("shirt",), ("shirt",)]
    assert list(catalogue.cells["neck"]) == [("v",), None, ()]
    first = catalogue.findings[0]
    assert (first.kind, first.filename, first.detail) == (
        "bad-attributes",
        "b.jpg",
        "line 3: the attributes are no dict literal: \"{'neck'\"; every attribute but the category is unknown",
    )


def test_a_category_inside_the_attributes_is_ignored(make: Maker) -> None:
    catalogue = read(make, """1,a.jpg,shirt,"{'category': ['skirt'], 'neck': ['v']}"\n""")
    assert list(catalogue.cells["category"]) == [("shirt",)]


def test_a_repeated_row_names_the_conflict_of_lists(make: Maker) -> None:
    rows = """1,a.jpg,shirt,"{'neck': ['v', 'polo']}"\n2,a.jpg,skirt,{}\n"""
    detail = next(f.detail for f in read(make, rows).findings if f.kind == "repeated")
    assert detail.endswith("category: shirt kept, skirt dropped; neck: polo+v kept, none dropped")


def test_chosen_keys(make: Maker) -> None:
    rows = """1,a.jpg,shirt,"{'neck': ['v'], 'fit': ['slim']}"\n"""
    assert read(make, rows, attributes=("fit", "category")).attributes == ("fit", "category")
    with pytest.raises(CatalogueError, match=r"no attribute 'nek' .* Did you mean 'neck'"):
        read(make, rows, attributes=("nek",))


ROWS = """1,a.jpg,shirt,"{'neck': ['v'], 'fit': ['slim', 'long']}"
2,b.jpg,shirt,{}
3,c.jpg,skirt,"{'fit': ['wide']}"
4,d.jpg,skirt,"{'fit': ['#N/A']}"
"""


def test_the_gate_is_learnt_and_excludes_keys_that_do_not_apply(make: Maker) -> None:
    catalogue = read(make, ROWS)
    schema = infer_schema(catalogue)
    assert schema.gate == {"shirt": ("neck", "fit"), "skirt": ("fit",)}
    assert schema.category_attribute == "category"
    assert schema.single == (True, True, False)
    assert schema.column_names == ("category=shirt", "category=skirt", "neck=v", "fit=long", "fit=slim", "fit=wide")
    Y, mask = schema.encode(catalogue.cells, catalogue.categories)
    assert Y.tolist() == [[1, 0, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0]]
    assert mask.astype(int).tolist() == [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0]]


def test_the_gate_of_a_file_wins_and_its_gaps_are_reported(make: Maker, tmp_path: Path) -> None:
    gate = tmp_path / "gate.json"
    gate.write_text('{"shirt": ["neck"]}')
    catalogue = read(make, ROWS, category_attributes=gate)
    assert infer_schema(catalogue).gate == {"shirt": ("neck",)}
    assert [(f.kind, f.filename, f.detail) for f in catalogue.findings if "attribute" in f.kind] == [
        (
            "attribute-does-not-apply",
            "fit",
            "1 photos of category 'shirt' carry the attribute, which does not apply to it",
        ),
        ("category-without-attributes", "skirt", "2 photos: the category-attributes file does not list this category"),
    ]


def test_bad_category_files(make: Maker, tmp_path: Path) -> None:
    gate = tmp_path / "gate.json"
    gate.write_text('{"shirt": "neck"}')
    with pytest.raises(CatalogueError, match=r'expected \{"category": \["attribute", ...\], ...\}'):
        read(make, ROWS, category_attributes=gate)
    with pytest.raises(CatalogueError, match=r"cannot be read as JSON"):
        read(make, ROWS, category_attributes=tmp_path / "nowhere.json")
