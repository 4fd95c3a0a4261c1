"""Photos of one product are recognised by a column, by folders, or at least suspected by their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.catalogue import Catalogue, groups_of, read_catalogue
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions, grouping
from tests.catalogue.conftest import Maker


def table_of(make: Maker, column: str, cells: list[str]) -> Path:
    names = [f"{i}.jpg" for i in range(len(cells))]
    rows = "".join(f"{name},{cell},{i % 3}\n" for i, (name, cell) in enumerate(zip(names, cells, strict=True)))
    return make(f"filename,{column},neck\n" + rows, *names)


def found(catalogue: Catalogue, kind: str = "products-together") -> list[str]:
    return [f.detail for f in catalogue.findings if f.kind == kind]


PAIRS = [f"P{i // 2}" for i in range(40)]


@pytest.mark.parametrize(
    "column", ["sku", "Product ID", "styleId", "parent_sku", "STYLE", "product", "articleNo", "id"]
)
def test_a_column_that_names_products_is_used_and_said(make: Maker, column: str) -> None:
    table = table_of(make, column, PAIRS)
    catalogue = read_catalogue(DataOptions(data=table))
    assert catalogue.attributes == ("neck",)
    assert list(catalogue.groups or ()) == PAIRS
    assert found(catalogue) == [
        f"the column {column!r} names 20 products of 40 photos; each stays in one part of a split. "
        "--group-column none undoes it"
    ]
    assert len(set(groups_of(catalogue.filenames, None, catalogue.groups).tolist())) == 20
    alone = read_catalogue(DataOptions(data=table), "none")
    assert alone.groups is None and found(alone) == []


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("style", ["casual", "formal", "boho", "sport", "party", "home"] * 10),
        ("style", [f"style {i % 3}" for i in range(60)]),
        ("sku", [f"P{i}" for i in range(60)]),
        ("brand", [f"B{i // 2}" for i in range(60)]),
        ("product_type", [f"T{i // 2}" for i in range(60)]),
    ],
    ids=["an attribute", "few", "all distinct", "another name", "a type"],
)
def test_other_columns_name_no_products(make: Maker, column: str, cells: list[str]) -> None:
    catalogue = read_catalogue(DataOptions(data=table_of(make, column, cells)))
    assert catalogue.groups is None and found(catalogue) == []


def test_of_several_columns_the_widest_is_taken(make: Maker) -> None:
    names = [f"{i}.jpg" for i in range(48)]
    rows = "".join(f"{name},S{i // 2},P{i // 4},{i % 3}\n" for i, name in enumerate(names))
    catalogue = read_catalogue(DataOptions(data=make("filename,sku,parent_id,neck\n" + rows, *names)))
    assert len(set(catalogue.groups or ())) == 12


def test_a_named_attribute_may_name_products_too(make: Maker) -> None:
    catalogue = read_catalogue(DataOptions(data=table_of(make, "sku", PAIRS), attributes=("sku", "neck")))
    assert catalogue.attributes == ("sku", "neck") and list(catalogue.groups or ()) == PAIRS


def test_format_b_too(make: Maker) -> None:
    names = [f"{i}.jpg" for i in range(40)]
    rows = "".join(f"{i // 2},{name},Top,{{}}\n" for i, name in enumerate(names))
    catalogue = read_catalogue(DataOptions(data=make("id,filename,category,attributes\n" + rows, *names)))
    assert len(set(catalogue.groups or ())) == 20


def test_a_folder_per_product(make: Maker) -> None:
    names = [f"S{i // 3}/{['front', 'back', 'side'][i % 3]}.jpg" for i in range(30)]
    table = make("filename,neck\n" + "".join(f"{name},1\n" for name in names), *names)
    catalogue = read_catalogue(DataOptions(data=table))
    assert list(catalogue.groups or ()) == [name[: name.index("/")] for name in names]
    assert found(catalogue)[0].startswith("a folder per product names 10 products of 30 photos")
    assert read_catalogue(DataOptions(data=table), "none").groups is None


def test_folders_of_many_photos_are_no_products(make: Maker) -> None:
    names = [f"shop{i // 20}/{i}.jpg" for i in range(200)]
    table = make("filename,neck\n" + "".join(f"{name},1\n" for name in names), *names)
    assert read_catalogue(DataOptions(data=table)).groups is None


def test_class_folders_with_a_folder_per_product(tmp_path: Path) -> None:
    for i in range(36):
        place = tmp_path / f"{('dress', 'shirt')[i % 2]}/P{i // 4}{'ab'[i % 2]}/{i}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x")
    (tmp_path / "dress" / "loose-1.jpg").write_bytes(b"x")
    catalogue = read_catalogue(DataOptions(data=tmp_path))
    assert set(catalogue.cells["class"]) == {("dress",), ("shirt",)}
    groups = dict(zip(catalogue.filenames, catalogue.groups or (), strict=True))
    assert groups["dress/P0a/0.jpg"] == groups["dress/P0a/2.jpg"] == "P0a"
    assert groups["dress/loose-1.jpg"] == "dress/loose"
    assert read_catalogue(DataOptions(data=tmp_path), "none").groups is None
    with pytest.raises(CatalogueError, match="--group-column 'sku' needs a CSV file"):
        read_catalogue(DataOptions(data=tmp_path), "sku")


@pytest.mark.parametrize("ending", ["_{}", " ({})", "-{view}"])
def test_names_alike_up_to_an_ending_are_a_warning_whose_regex_helps(make: Maker, ending: str) -> None:
    names = [f"shirt{i // 2}{ending.format(i % 2 + 1, view=('front', 'back')[i % 2])}.jpg" for i in range(24)] + [
        "alone.jpg"
    ]
    table = make("filename,neck\n" + "".join(f'"{name}",1\n' for name in names), *names)
    catalogue = read_catalogue(DataOptions(data=table))
    (warning,) = found(catalogue, "products-apart")
    assert catalogue.groups is None
    assert warning.startswith(f"24 photos, such as {names[0]!r}, have names alike up to an ending")
    regex = warning.split('--group-regex "')[1].rstrip('"')
    assert groups_of(names, regex).tolist() == [i // 2 for i in range(25)]
    assert found(read_catalogue(DataOptions(data=table), grouping(None, regex)), "products-apart") == []


@pytest.mark.parametrize("pattern", ["img_{:02}.jpg", "{:05}.jpg", "IMG_2{:03}.jpg", "shirt{}-1.jpg"])
def test_numbered_photos_are_no_warning(make: Maker, pattern: str) -> None:
    names = [pattern.format(i) for i in range(30)]
    table = make("filename,neck\n" + "".join(f"{name},1\n" for name in names), *names)
    assert found(read_catalogue(DataOptions(data=table)), "products-apart") == []


def test_a_regex_or_column_that_is_given_is_the_choice() -> None:
    assert [grouping(None, None), grouping("sku", "x"), grouping(None, "x")] == [None, "sku", "none"]


def test_groups_follow_the_photos_that_are_there(make: Maker) -> None:
    table = table_of(make, "sku", PAIRS)
    for i in range(1, 40, 2):
        (table.parent / "images" / f"{i}.jpg").unlink()
    catalogue = read_catalogue(DataOptions(data=table))
    assert catalogue.groups is None and len(catalogue.take(np.arange(3))) == 3
