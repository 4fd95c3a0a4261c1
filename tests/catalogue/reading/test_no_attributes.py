"""Columns that are no attributes are left out with the reason; what looks alike but is an attribute stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from pipeline.catalogue import Catalogue, read_catalogue
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker

Cells = Callable[[int], object]
ROWS = 240


def read(make: Maker, columns: dict[str, Cells], rows: int = ROWS, attributes: Sequence[str] = ()) -> Catalogue:
    names = [f"{i}.jpg" for i in range(rows)]
    lines = [";".join([name, *(str(of(i)) for of in columns.values())]) for i, name in enumerate(names)]
    table = make("\n".join([";".join(["photo", *columns]), *lines]) + "\n", *names)
    return read_catalogue(DataOptions(data=table, image_column=("photo",), attributes=tuple(attributes)))


@pytest.mark.parametrize(
    ("name", "of", "reason"),
    [
        ("code", lambda i: f"K{i}", "an identifier or a name, 240 values on 240 photos"),
        ("vendorId", lambda i: f"P{i // 3}", "an identifier or a name, 80 values on 240 photos"),
        ("page", lambda i: f"https://shop.example/p/{i % 7}?size=1", "addresses of pages or files"),
        ("price", lambda i: f"{i % 50 + 9},99", "prices or other numbers, 50 values on 240 photos"),
        ("cost", lambda i: f"€ {i % 30 * 10}", "prices or other numbers, 30 values on 240 photos"),
        ("mrp", lambda i: i % 110 * 50 + 199, "prices or other numbers, 110 values on 240 photos"),
        ("text", lambda i: f"A soft shirt number {i % 70} for warm days", "free text, 70 values on 240 photos"),
        ("added", lambda i: f"2026-03-{i % 28 + 1:02}", "dates"),
        ("sold", lambda i: f"{i % 28 + 1}.4.2026 10:00", "dates"),
    ],
)
def test_columns_that_are_no_attributes_are_left_out_with_the_reason(
    make: Maker, name: str, of: Cells, reason: str
) -> None:
    columns: dict[str, Cells] = {name: of, "neck": lambda i: i % 4}
    catalogue = read(make, columns)
    assert catalogue.attributes == ("neck",)
    assert ("no-attribute", name, f"{reason}; left out unless --attributes names it") in [
        (f.kind, f.filename, f.detail) for f in catalogue.findings
    ]
    assert read(make, columns, attributes=(name.upper(), "neck")).attributes == (name, "neck")


def test_an_attribute_that_another_option_or_a_model_names_stays(make: Maker) -> None:
    columns: dict[str, Cells] = {"code": lambda i: f"K{i}", "name": lambda i: f"N{i}", "neck": lambda i: i % 4}
    read(make, columns)
    table = DataOptions(data=make("", name="other.txt").parent, image_column=("photo",), single=("code",))
    assert read_catalogue(table, wanted=["name", "size"]).attributes == ("code", "name", "neck")


@pytest.mark.parametrize(
    "of",
    [
        lambda i: i % 16,
        lambda i: 2000 + i % 20,
        lambda i: 34 + i % 21 / 2,
        lambda i: i % 46,
        lambda i: f"brand {i % 60}",
        lambda i: f"a value with a very long name, the {i % 8}th of its kind",
        lambda i: "10-12-14",
    ],
    ids=["codes", "years", "sizes", "46 codes", "brands", "long values", "no date"],
)
def test_attributes_stay(make: Maker, of: Cells) -> None:
    catalogue = read(make, {"value": of})
    assert catalogue.attributes == ("value",)
    assert "no-attribute" not in {f.kind for f in catalogue.findings}


def test_a_few_photos_say_nothing_about_a_column(make: Maker) -> None:
    assert read(make, {"value": lambda i: f"v{i}"}, rows=15).attributes == ("value",)


def test_a_table_without_any_attribute_is_an_error_that_says_why(make: Maker) -> None:
    with pytest.raises(CatalogueError, match=r"\(code: an identifier .*\). Name those you mean with --attributes"):
        read(make, {"code": lambda i: f"K{i}"})
