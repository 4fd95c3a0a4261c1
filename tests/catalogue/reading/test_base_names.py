"""Photos found by the last part of their names where nothing else matches; numbers written with a point."""

from __future__ import annotations

import json

import pytest

from pipeline.catalogue import Catalogue, read_catalogue
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker


def said(catalogue: Catalogue, kind: str) -> list[str]:
    return [f.detail for f in catalogue.findings if f.kind == kind]


@pytest.mark.parametrize(
    ("cells", "photos"),
    [
        (["https://cdn.example/a/1.jpg?w=300#x", "http://cdn.example/b%20c.jpg"], ["1.jpg", "b c.jpg"]),
        (["15970.0", "59263.0"], ["15970.jpg", "59263.png"]),
        (["one", "two"], ["one.JPG", "deep/two.webp"]),
        (["C:\\photos\\a.jpg", "C:\\photos\\B.JPG"], ["a.jpg", "b.jpg"]),
        (["/mnt/old/a.jpg", "/mnt/old/b.jpg"], ["a.jpeg", "b.png"]),
    ],
    ids=["addresses", "float ids", "no ending", "another machine's paths", "another ending"],
)
def test_photos_are_found_by_base_name_and_it_is_said(make: Maker, cells: list[str], photos: list[str]) -> None:
    table = make("photo,neck\n" + "".join(f"{cell},{i}\n" for i, cell in enumerate([*cells, "gone.jpg"])), *photos)
    catalogue = read_catalogue(DataOptions(data=table, image_column=("photo",)))
    assert list(catalogue.filenames) == photos
    assert [path.is_file() for path in catalogue.paths] == [True, True]
    (detail,) = said(catalogue, "found-by-base-name")
    assert f"by base name 2 of 3 row(s) name a photo there, such as {cells[0]!r} the photo {photos[0]!r}" in detail
    assert [f.filename for f in catalogue.findings if f.kind == "missing-photo"] == ["gone.jpg"]


@pytest.mark.parametrize("pattern", ["{id}", "{id}.jpg", "photos/{id}.png"])
def test_a_pattern_without_the_right_ending(make: Maker, pattern: str) -> None:
    table = make("id,neck\n7.0,a\n8.0,b\n", "7.jpg", "8.jpg")
    assert list(read_catalogue(DataOptions(data=table, image_name=pattern)).filenames) == ["7.jpg", "8.jpg"]


def test_one_name_that_is_a_file_turns_guessing_off(make: Maker) -> None:
    catalogue = read_catalogue(DataOptions(data=make("filename,neck\na.jpg,1\nx/b.jpg,2\n", "a.jpg", "b.jpg")))
    assert list(catalogue.filenames) == ["a.jpg"] and said(catalogue, "found-by-base-name") == []


def test_a_base_name_of_several_photos_is_not_certain(make: Maker) -> None:
    table = make("filename,neck\nz/a.jpg,1\nz/b.jpg,2\n", "x/a.jpg", "y/a.jpg", "x/b.jpg", "y/b.jpg")
    with pytest.raises(CatalogueError, match="For 2 of them .* several photos of that base name .* their folders"):
        read_catalogue(DataOptions(data=table))


def test_photos_that_are_not_there_are_still_asked_for(make: Maker) -> None:
    with pytest.raises(CatalogueError, match="neither as written nor by its base name; it holds 1 photos.*--images"):
        read_catalogue(DataOptions(data=make("filename,neck\nhttps://x.example/b.jpg,1\n", "a.jpg")))


def test_1_and_1_0_are_one_value_of_a_column_of_numbers(make: Maker) -> None:
    rows = ["1,1.0,06", "1.0,1.5,6.0", "-2.00,2.0,", ",NULL,7"]
    names = [f"{i}.jpg" for i in range(4)]
    table = make("filename,a,b,c\n" + "".join(f"{name},{row}\n" for name, row in zip(names, rows, strict=True)), *names)
    catalogue = read_catalogue(DataOptions(data=table))
    assert list(catalogue.cells["a"]) == [("1",), ("1",), ("-2",), None]
    assert list(catalogue.cells["b"]) == [("1.0",), ("1.5",), ("2.0",), ("NULL",)]
    assert list(catalogue.cells["c"]) == [("06",), ("6",), None, ("7",)]
    assert said(catalogue, "number-form")[0] == "2 row(s) hold numbers such as 1.0, which is read as 1"


def test_allowed_numbers_are_compared_in_the_same_form(make: Maker) -> None:
    table = make("filename,a\na.jpg,1\nb.jpg,2.0\n", "a.jpg", "b.jpg")
    allowed = table.parent / "allowed.json"
    allowed.write_text(json.dumps({"a": [1.0, "2.0"]}))
    catalogue = read_catalogue(DataOptions(data=table, allowed_values=allowed))
    assert list(catalogue.cells["a"]) == [("1",), ("2",)]
