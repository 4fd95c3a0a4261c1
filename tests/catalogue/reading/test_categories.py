"""Categories of tables with a column per attribute: which attributes apply, from a file or learnt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.catalogue import infer_schema, read_catalogue
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker

ROWS = "1,Shoes,,flat\n2,Tops,v,\n3,Tops,round,high\n4,Hats,v,\n5,,v,flat\n"
PHOTOS = [f"{i}.jpg" for i in range(1, 6)]


def table_of(make: Maker, category: str) -> tuple[Path, Path]:
    table = make(f"id,{category},neck,heel\n" + ROWS, *PHOTOS)
    applying = table.parent / "applying.json"
    applying.write_text(json.dumps({"Shoes": ["heel"], "Tops": ["neck"]}))
    return table, applying


@pytest.mark.parametrize("column", ["category", "Category", "articleType"])
def test_attributes_apply_to_the_categories_of_a_file(make: Maker, column: str) -> None:
    table, applying = table_of(make, column)
    name = None if column.casefold() == "category" else "article type"
    options = DataOptions(data=table, image_name="{id}.jpg", category_column=name, category_attributes=applying)
    catalogue = read_catalogue(options)
    schema = infer_schema(catalogue)
    assert catalogue.attributes == (column, "neck", "heel")
    assert list(catalogue.categories or ()) == ["Shoes", "Tops", "Tops", "Hats", None]
    assert schema.category_attribute == column
    _, mask = schema.encode(catalogue.cells, catalogue.categories)
    known = [[bool(mask[i, at].all()) for at in schema.slices] for i in range(5)]
    assert known == [
        [True, False, True],
        [True, True, False],
        [True, True, False],
        [True, True, False],
        [False, True, True],
    ]
    said = {(f.kind, f.filename) for f in catalogue.findings}
    assert {("attribute-does-not-apply", "heel"), ("category-without-attributes", "Hats")} <= said
    assert "option-ignored" not in {kind for kind, _ in said}


def test_without_a_file_it_is_learnt_and_without_the_option_there_are_no_categories(make: Maker) -> None:
    table, _ = table_of(make, "category")
    options = DataOptions(data=table, image_name="{id}.jpg", category_column="category")
    assert infer_schema(read_catalogue(options)).gate == {
        "Hats": ("neck",),
        "Shoes": ("heel",),
        "Tops": ("neck", "heel"),
    }
    plain = read_catalogue(DataOptions(data=table, image_name="{id}.jpg"))
    assert plain.categories is None and infer_schema(plain).gate is None


def test_a_category_has_one_value_and_is_never_left_out(make: Maker) -> None:
    names = [f"{i}.jpg" for i in range(40)]
    rows = "".join(f"{name},C{i}|D,{i % 3}\n" for i, name in enumerate(names))
    table = make("filename,kind,neck\n" + rows, *names)
    catalogue = read_catalogue(DataOptions(data=table, category_column="kind", separator="|"))
    assert catalogue.attributes == ("kind", "neck")
    assert catalogue.cells["kind"][3] == ("C3|D",)


def test_a_missing_category_column_is_asked_for(make: Maker) -> None:
    table, applying = table_of(make, "sort")
    with pytest.raises(CatalogueError, match="needs a column with the category.* --category-column; there are: id, so"):
        read_catalogue(DataOptions(data=table, image_name="{id}.jpg", category_attributes=applying))
    with pytest.raises(CatalogueError, match="no column 'kinds', but --category-column asks for it"):
        read_catalogue(DataOptions(data=table, image_name="{id}.jpg", category_column="kinds"))
