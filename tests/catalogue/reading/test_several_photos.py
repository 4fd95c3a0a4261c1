"""Rows that have several photos: columns that name one each, or a pattern that many files match."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline.catalogue import Catalogue, groups_of, identities_of, keyed_split, read_catalogue
from pipeline.catalogue.reading.naming.shelf import ANY, Shelf
from pipeline.catalogue.reading.photos import Folder
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker


def read(table: Path, columns: tuple[str, ...] = (), name: str | None = None, group: str | None = None) -> Catalogue:
    return read_catalogue(DataOptions(data=table, image_column=columns, image_name=name), group)


def kinds(catalogue: Catalogue) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in catalogue.findings:
        found.setdefault(finding.kind, []).append(finding.filename)
    return found


FRONT_BACK = "front,back,neck\na1.jpg,a2.jpg,round\nb1.jpg,,v\n,#N/A,v\nc1.jpg,gone.jpg,polo\n"


def test_each_column_names_a_photo_of_the_row(make: Maker) -> None:
    table = make(FRONT_BACK, "a1.jpg", "a2.jpg", "b1.jpg", "c1.jpg")
    catalogue = read(table, ("front", "back"))
    assert list(catalogue.filenames) == ["a1.jpg", "a2.jpg", "b1.jpg", "c1.jpg"]
    assert list(catalogue.cells["neck"]) == [("round",), ("round",), ("v",), ("polo",)]
    assert catalogue.attributes == ("neck",)
    assert list(catalogue.groups or ()) == ["a1", "a1", "b1", "c1"]
    found = kinds(catalogue)
    assert found["missing-photo"] == ["gone.jpg"] and found["no-name"] == [""]
    assert found["products-together"] == [""]


def test_a_name_with_a_comma_is_still_one_column(make: Maker) -> None:
    catalogue = read(make('"photo, front",neck\na.jpg,v\n', "a.jpg"), ("photo", "front"))
    assert list(catalogue.filenames) == ["a.jpg"] and catalogue.groups is None


def test_a_column_that_is_not_there_is_named(make: Maker) -> None:
    with pytest.raises(CatalogueError, match="no column 'bak', but --image-column .* Did you mean 'back'"):
        read(make(FRONT_BACK, "a1.jpg"), ("front", "bak"))


@pytest.mark.parametrize(
    ("pattern", "photos"),
    [
        ("{sku}/*", ["7/back.jpg", "7/front.jpg", "12/x.JPG"]),
        ("{sku}_*.jpg", ["7_back.jpg", "7_front.jpg", "12_x.jpg"]),
        ("./{sku}_*", ["7_back.jpg", "7_front.jpg", "12_x.jpg"]),
        ("*/{sku}-*.jpg", ["men/7-1.jpg", "women/7-2.jpg", "men/12-1.jpg"]),
        ("IMG_*_{sku}.jpg", ["IMG_1_7.jpg", "IMG_2_7.jpg", "IMG_1_12.jpg"]),
        ("*_{sku}_*.jpg", ["a_7_1.jpg", "b_7_2.jpg", "a_12_1.jpg"]),
    ],
)
def test_all_photos_that_match_a_pattern_are_of_the_row(make: Maker, pattern: str, photos: list[str]) -> None:
    table = make("sku,neck\n7,round\n12,v\n99,polo\n", *photos, "notes.txt", "7/deep/er.jpg", "other.jpg")
    catalogue = read(table, name=pattern)
    assert list(catalogue.filenames) == photos
    assert list(catalogue.cells["neck"]) == [("round",), ("round",), ("v",)]
    assert groups_of(catalogue.filenames, None, catalogue.groups).tolist() == [0, 0, 1]
    assert kinds(catalogue)["missing-photo"] == [pattern.replace("{sku}", "99")]


def test_what_the_cells_hold_is_no_pattern(make: Maker) -> None:
    catalogue = read(make("sku,neck\n*,v\na,round\n,polo\n", "a_1.jpg", "*_1.jpg", "_1.jpg"), name="{sku}_*.jpg")
    assert list(catalogue.filenames) == ["*_1.jpg", "a_1.jpg"]
    assert kinds(catalogue)["no-name"] == [""]


def test_numbers_written_with_a_point_are_found(make: Maker) -> None:
    catalogue = read(make("sku,neck\n7.0,v\n8.0,round\n", "7_1.jpg", "7_2.jpg", "8_1.jpg"), name="{sku}_*.jpg")
    assert list(catalogue.filenames) == ["7_1.jpg", "7_2.jpg", "8_1.jpg"]


def test_a_pattern_never_leaves_the_images(make: Maker, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "s.jpg").write_bytes(b"x")
    catalogue = read(make("sku,neck\n../secret,v\na,round\n", "a/1.jpg"), name="{sku}/*")
    assert list(catalogue.filenames) == ["a/1.jpg"]
    assert kinds(catalogue)["outside-images"] == ["../secret/*"]


def test_a_photo_that_matches_two_rows_is_nobodys_and_said(make: Maker) -> None:
    table = make("sku,neck\n1,round\n1_2,v\n", "1_1.jpg", "1_2_1.jpg", "1_3.jpg")
    catalogue = read(table, name="{sku}_*.jpg")
    assert list(catalogue.filenames) == ["1_1.jpg", "1_3.jpg"]
    (finding,) = [f for f in catalogue.findings if f.kind == "matches-several"]
    assert finding.filename == "1_2_1.jpg"
    assert finding.detail.startswith("matches '1_*.jpg' (line 2) and '1_2_*.jpg' (line 3)")


def test_a_pattern_by_which_no_photo_is_certain_is_refused(make: Maker) -> None:
    with pytest.raises(CatalogueError, match=r"matches several rows: '12.jpg' matches .* narrower pattern"):
        read(make("sku,neck\n1,round\n12,v\n", "12.jpg"), name="{sku}*")


def test_a_product_with_two_rows_keeps_the_first(make: Maker) -> None:
    catalogue = read(make("sku,neck\n7,round\n7,v\n", "7_1.jpg", "7_2.jpg"), name="{sku}_*.jpg")
    assert list(catalogue.cells["neck"]) == [("round",), ("round",)]
    assert kinds(catalogue)["repeated"] == ["7_1.jpg", "7_2.jpg"]


def test_rows_stay_together_whatever_else_names_products(make: Maker) -> None:
    rows = "".join(f"{i},{f'P{i // 2}' if i < 20 else ''},{i % 3}\n" for i in range(30))
    table = make("no,parent_id,neck\n" + rows, *[f"{i}_{k}.jpg" for i in range(30) for k in range(2)])
    for group in (None, "parent_id"):
        catalogue = read(table, name="{no}_*.jpg", group=group)
        assert sorted(Counter(catalogue.groups or ()).values()) == [2] * 10 + [4] * 10
    assert read(table, name="{no}_*.jpg", group="none").groups is None


def test_photos_and_rows_that_come_move_nobody(make: Maker) -> None:
    def parts(rows: int, photos: int) -> dict[str, str]:
        names = [f"{i}_{k}.jpg" for i in range(rows) for k in range(photos)]
        table = make("no,neck\n" + "".join(f"{i},{i % 3}\n" for i in range(rows)), *names)
        catalogue = read(table, name="{no}_*.jpg")
        groups = groups_of(catalogue.filenames, None, catalogue.groups)
        identities = identities_of(catalogue.filenames, None, catalogue.groups)
        part = keyed_split(groups, identities, (0.6, 0.2, 0.2), 0)
        return dict(zip(catalogue.filenames, part.tolist(), strict=True))

    before, after = parts(40, 2), parts(60, 3)
    assert {name: after[name] for name in before} == before


def test_many_rows_and_photos_are_matched_without_comparing_all_with_all() -> None:
    shelf = Shelf(Folder(Path(), {f"{i}_{k}.jpg": -1 for i in range(20_000) for k in range(2)}), most=100_000)
    assert all(shelf.matching(f"{i}_{ANY}.jpg") == (f"{i}_0.jpg", f"{i}_1.jpg") for i in range(20_000))
    assert len(shelf.matching(f"{ANY}1999{ANY}")) == 24
    with pytest.raises(CatalogueError, match=r"with '\*2999\*' and others like it, over 100000 .* begins or ends"):
        shelf.matching(f"{ANY}2999{ANY}")
