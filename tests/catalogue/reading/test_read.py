"""Catalogues of every format, as read from small files on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.catalogue import Catalogue, Finding, count_kinds, read_catalogue
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker


def columns(catalogue: Catalogue) -> dict[str, list[object]]:
    return {attribute: list(catalogue.cells[attribute]) for attribute in catalogue.attributes}


def of_kind(catalogue: Catalogue, kind: str) -> list[Finding]:
    return [f for f in catalogue.findings if f.kind == kind]


# Format A


def test_format_a_reads_every_cell_as_text(make: Maker) -> None:
    table = make("filename,neck,size\na.jpg,06,1.0\nb.jpg,#N/A,nan\nc.jpg, 6 ,NULL\n", "a.jpg", "b.jpg", "c.jpg")
    catalogue = read_catalogue(DataOptions(data=table))
    assert catalogue.format == "A"
    assert columns(catalogue) == {"neck": [("06",), None, ("6",)], "size": [("1.0",), None, ("NULL",)]}
    assert catalogue.paths[1] == table.parent / "images" / "b.jpg"
    assert of_kind(catalogue, "unknown-cells") == [
        Finding("unknown-cells", "neck", "1 of 3 photos have no known value"),
        Finding("unknown-cells", "size", "1 of 3 photos have no known value"),
    ]


def test_more_spellings_of_unknown(make: Maker) -> None:
    table = make("filename,neck\na.jpg,?\nb.jpg,-1\nc.jpg,NA\nd.jpg,N/A\ne.jpg,\n", *(f"{c}.jpg" for c in "abcde"))
    catalogue = read_catalogue(DataOptions(data=table, unknown=("?",)))
    assert columns(catalogue) == {"neck": [None, ("-1",), None, None, None]}


def test_a_repeated_row_is_dropped_and_the_conflicting_values_are_named(make: Maker) -> None:
    table = make(
        "filename,neck,fit\na.jpg,6,slim\nb.jpg,1,slim\na.jpg,2,slim\n./b.jpg,1,slim\nx.jpg,1,\nx.jpg,1,\n",
        "a.jpg",
        "b.jpg",
    )
    catalogue = read_catalogue(DataOptions(data=table))
    assert list(catalogue.filenames) == ["a.jpg", "b.jpg"]
    assert columns(catalogue)["neck"] == [("6",), ("1",)]
    assert of_kind(catalogue, "repeated") == [
        Finding("repeated", "a.jpg", "line 4 names the photo of line 2, which is kept; neck: 6 kept, 2 dropped"),
        Finding("repeated", "./b.jpg", "line 5 names the photo of line 3, which is kept; the labels agree"),
        Finding("repeated", "x.jpg", "line 7 names the photo of line 6, which is kept; the labels agree"),
    ]


def test_missing_photos_non_images_and_unnamed_photos_are_reported(make: Maker) -> None:
    table = make("filename,neck\na.jpg,1\ngone.jpg,2\n", "a.jpg", "Thumbs.db", ".DS_Store", "._a.jpg", "b.jpg", "c.PNG")
    catalogue = read_catalogue(DataOptions(data=table))
    assert list(catalogue.filenames) == ["a.jpg"]
    assert [f.filename for f in of_kind(catalogue, "missing-photo")] == ["gone.jpg"]
    assert [f.filename for f in of_kind(catalogue, "not-an-image")] == [".DS_Store", "._a.jpg", "Thumbs.db"]
    assert [f.detail for f in of_kind(catalogue, "not-in-catalogue")] == [
        "2 photo(s) on disk that no row names, such as 'b.jpg'"
    ]


@pytest.mark.parametrize(
    "text", ["\ufefffilename,neck\r\na.jpg,1\r\n", "filename;neck\na.jpg;1\n", "Filename\tneck\na.jpg\t1\n"]
)
def test_byte_order_mark_line_ends_and_delimiters(make: Maker, text: str) -> None:
    catalogue = read_catalogue(DataOptions(data=make(text, "a.jpg")))
    assert columns(catalogue) == {"neck": [("1",)]}


def test_latin_1_is_read_and_reported(make: Maker) -> None:
    table = make("filename,colour\na.jpg,grün\n".encode("latin-1"), "a.jpg")
    catalogue = read_catalogue(DataOptions(data=table))
    assert columns(catalogue) == {"colour": [("grün",)]}
    assert [f.kind for f in catalogue.findings] == ["encoding"]


def test_utf_16_is_read(make: Maker) -> None:
    catalogue = read_catalogue(DataOptions(data=make("filename,colour\na.jpg,grün\n".encode("utf-16"), "a.jpg")))
    assert columns(catalogue) == {"colour": [("grün",)]}


def test_rows_of_another_length(make: Maker) -> None:
    table = make("filename,neck,fit\na.jpg,1\nb.jpg,1,slim,extra\nc.jpg,2,wide,\n\n", "a.jpg", "b.jpg", "c.jpg")
    catalogue = read_catalogue(DataOptions(data=table))
    assert list(catalogue.filenames) == ["a.jpg", "c.jpg"]
    assert columns(catalogue) == {"neck": [("1",), ("2",)], "fit": [None, ("wide",)]}
    assert [f.detail for f in of_kind(catalogue, "ragged-row")] == [
        "line 2 has 2 cells, the header 3; the missing ones are unknown",
        "line 3 has 4 cells, the header 3; dropped",
    ]


def test_names_with_spaces_newlines_commas_and_umlauts(make: Maker) -> None:
    names = ["a b.jpg", "line\nbreak.jpg", "comma,.jpg", "größe.jpg", "x" * 251 + ".jpg", "sub/a b.jpg"]
    rows = "".join(f'"{name}",{i}\n' for i, name in enumerate(names))
    catalogue = read_catalogue(DataOptions(data=make("filename,neck\n" + rows, *names)))
    assert list(catalogue.filenames) == names
    assert all(path.is_file() for path in catalogue.paths)


def test_a_name_in_the_other_unicode_form_is_found_and_reported(make: Maker) -> None:
    composed, decomposed = "caf\u00e9.jpg", "cafe\u0301.jpg"
    catalogue = read_catalogue(DataOptions(data=make(f"filename,neck\n{decomposed},1\n", composed)))
    assert list(catalogue.filenames) == [decomposed]
    assert catalogue.paths[0].name == composed
    assert [f.kind for f in catalogue.findings] == ["unicode-form"]


def test_two_files_that_differ_in_unicode_form_only_are_two_photos(make: Maker) -> None:
    composed, decomposed = "caf\u00e9.jpg", "cafe\u0301.jpg"
    table = make(f"filename,neck\n{decomposed},1\n{composed},2\n", composed, decomposed)
    catalogue = read_catalogue(DataOptions(data=table))
    assert [path.name for path in catalogue.paths] == [decomposed, composed]
    assert catalogue.findings == ()


def test_equivalent_spellings_of_a_path(make: Maker) -> None:
    table = make("filename,neck\nsub\\a.jpg,1\nsub//b.jpg,2\n c.jpg,3\n", "sub/a.jpg", "sub/b.jpg", "c.jpg")
    catalogue = read_catalogue(DataOptions(data=table))
    assert [path.is_file() for path in catalogue.paths] == [True, True, True]
    assert count_kinds(catalogue.findings) == {"path-form": 3}


# Hostile folders


def test_paths_that_leave_the_images_folder_are_rejected(make: Maker, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"x")
    rows = [
        "../secret.jpg",
        str(secret),
        "sub/../../secret.jpg",
        "..\\secret.jpg",
        "C:\\secret.jpg",
        "link.jpg",
        "way/s.jpg",
        "ok.jpg",
    ]
    table = make("filename,neck\n" + "".join(f"{row},1\n" for row in rows), "ok.jpg")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "s.jpg").write_bytes(b"x")
    (tmp_path / "images" / "link.jpg").symlink_to(secret)
    (tmp_path / "images" / "way").symlink_to(outside)
    catalogue = read_catalogue(DataOptions(data=table))
    assert list(catalogue.filenames) == ["ok.jpg"]
    assert [f.filename for f in of_kind(catalogue, "outside-images")] == rows[:-1]
    assert "is outside the images folder" in of_kind(catalogue, "linked-folder")[0].detail


def test_links_that_stay_inside_are_followed_and_loops_end(make: Maker, tmp_path: Path) -> None:
    table = make("filename,neck\nalias.jpg,1\nagain/b.jpg,2\nself.jpg,3\nloop/loop/a.jpg,4\n", "a.jpg", "sub/b.jpg")
    images = tmp_path / "images"
    (images / "alias.jpg").symlink_to("a.jpg")
    (images / "again").symlink_to("sub")
    (images / "self.jpg").symlink_to("self.jpg")
    (images / "loop").symlink_to(".")
    catalogue = read_catalogue(DataOptions(data=table))
    assert list(catalogue.filenames) == ["alias.jpg", "again/b.jpg", "loop/loop/a.jpg"]
    assert [f.filename for f in of_kind(catalogue, "missing-photo")] == ["self.jpg"]


def test_rows_without_a_usable_name(make: Maker) -> None:
    catalogue = read_catalogue(DataOptions(data=make("filename,neck\n,1\n  ,1\na\0.jpg,1\nb.jpg,2\n", "b.jpg")))
    assert list(catalogue.filenames) == ["b.jpg"]
    assert count_kinds(catalogue.findings) == {"no-name": 3}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_reported(make: Maker, tmp_path: Path) -> None:
    table = make("filename,neck\na.jpg,1\n", "a.jpg", "shut/b.jpg")
    (tmp_path / "images" / "shut").chmod(0)
    catalogue = read_catalogue(DataOptions(data=table))
    (tmp_path / "images" / "shut").chmod(0o700)
    assert count_kinds(catalogue.findings) == {"unreadable-folder": 1}


# Products


def test_products_with_a_name_pattern(make: Maker) -> None:
    table = make("id,gender,season\n007,Men,\n8,Women,Fall\n,Men,Fall\n", "p/007.jpg", "p/8.jpg")
    catalogue = read_catalogue(DataOptions(data=table, image_name="p/{id}.jpg"))
    assert catalogue.format == "products"
    assert list(catalogue.filenames) == ["p/007.jpg", "p/8.jpg"]
    assert columns(catalogue) == {"gender": [("Men",), ("Women",)], "season": [None, ("Fall",)]}
    assert count_kinds(catalogue.findings) == {"no-name": 1, "unknown-cells": 1}


def test_products_with_an_image_column_and_chosen_keys(make: Maker) -> None:
    table = make("photo,gender,season\na.jpg,Men,Fall\n", "a.jpg")
    catalogue = read_catalogue(DataOptions(data=table, image_column=("photo",), attributes=("season",)))
    assert columns(catalogue) == {"season": [("Fall",)]}


def test_a_pattern_cannot_climb_out(make: Maker) -> None:
    table = make("id,neck\n../../etc/x,1\nb,2\n", "b.jpg")
    catalogue = read_catalogue(DataOptions(data=table, image_name="{id}.jpg"))
    assert [f.filename for f in of_kind(catalogue, "outside-images")] == ["../../etc/x.jpg"]


def test_an_identifier_that_is_asked_for_is_reported(make: Maker) -> None:
    names = [f"{i}.jpg" for i in range(101)]
    table = make("photo,id,neck\n" + "".join(f"{name},{i},1\n" for i, name in enumerate(names)), *names)
    catalogue = read_catalogue(DataOptions(data=table, image_column=("photo",), attributes=("id", "neck")))
    assert [(f.kind, f.filename) for f in catalogue.findings] == [("many-values", "id")]


def test_a_group_column_is_no_key(make: Maker) -> None:
    table = make("filename,product,neck\na.jpg,P1,1\nb.jpg,,2\n", "a.jpg", "b.jpg")
    catalogue = read_catalogue(DataOptions(data=table), group_column="product")
    assert catalogue.attributes == ("neck",)
    assert catalogue.groups is not None
    assert list(catalogue.groups) == ["P1", None]


# Folder


def test_one_class_per_sub_folder(tmp_path: Path) -> None:
    for name in ("shirt/b.jpg", "shirt/a.jpg", "dress/deep/c.png", "dress/notes.txt", "loose.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    catalogue = read_catalogue(DataOptions(data=tmp_path))
    assert catalogue.format == "folder"
    assert list(catalogue.filenames) == ["dress/deep/c.png", "shirt/a.jpg", "shirt/b.jpg"]
    assert columns(catalogue) == {"class": [("dress",), ("shirt",), ("shirt",)]}
    assert count_kinds(catalogue.findings) == {"not-an-image": 1, "no-class": 1}


def test_class_folders_one_level_deeper_are_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "images" / "dress").mkdir(parents=True)
    (tmp_path / "images" / "dress" / "a.jpg").write_bytes(b"x")
    with pytest.raises(CatalogueError, match=r"one sub-folder, 'images'.* Then give --data .*images"):
        read_catalogue(DataOptions(data=tmp_path))


# Which data, which format


def test_a_folder_with_one_csv_is_that_csv(make: Maker) -> None:
    table = make("filename,neck\na.jpg,1\n", "a.jpg")
    assert read_catalogue(DataOptions(data=table.parent)).format == "A"


def test_photos_beside_the_csv(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "labels.csv").write_text("filename,neck\na.jpg,1\n")
    catalogue = read_catalogue(DataOptions(data=tmp_path))
    assert list(catalogue.filenames) == ["a.jpg"]
    assert catalogue.findings == ()


@pytest.mark.parametrize(
    ("header", "image_name", "expected"),
    [
        ("id,filename,category,attributes", None, "B"),
        ("id,filename,category,attributes", "{id}.jpg", "B"),
        ("filename,category,attributes", None, "A"),
        ("id,filename,neck", "{id}.jpg", "A"),
        ("id,photo,neck", "{id}.jpg", "products"),
    ],
)
def test_the_most_specific_header_decides(make: Maker, header: str, image_name: str | None, expected: str) -> None:
    row = ",".join({"id": "a", "filename": "a.jpg", "attributes": "{}"}.get(h, "x") for h in header.split(","))
    catalogue = read_catalogue(DataOptions(data=make(f"{header}\n{row}\n", "a.jpg"), image_name=image_name))
    assert catalogue.format == expected
    ignored = image_name is not None and expected != "products"
    assert count_kinds(catalogue.findings) == ({"option-ignored": 1} if ignored else {})


def test_a_given_format_overrides_the_header(make: Maker) -> None:
    table = make("id,filename,neck\n1,x.jpg,2\n", "1.jpg")
    catalogue = read_catalogue(DataOptions(data=table, format="products", image_name="{id}.jpg"))
    assert catalogue.attributes == ("filename", "neck")


# Errors


@pytest.mark.parametrize(
    ("text", "options", "match"),
    [
        ("id,neck\n1,2\n", {}, r"no column says which photo.* columns are: id, neck\..*--image-column.*--image-name"),
        (
            "filename,neck\nb.jpg,2\n",
            {},
            r"No photo found: .*names 1 files, such as 'b.jpg'.*holds 1 photos, such as 'a.jpg'",
        ),
        ("filename,neck\n", {}, "no row below it"),
        ("", {}, "the first line is empty"),
        ("filename,neck,Neck\na.jpg,1,2\n", {}, "names a column twice: neck"),
        ("filename\na.jpg\n", {}, "no column is left for an attribute"),
        ("filename,neck\na.jpg,1\n", {"attributes": ("nek",)}, "no attribute 'nek' .* Did you mean 'neck'"),
        ("filename,neck\na.jpg,1\n", {"format": "C"}, r"no format 'C'.* auto, B, A, products, folder"),
        ("filename,neck\na.jpg,1\n", {"format": "B"}, "no column 'category', but format B needs"),
        ("filename,neck\na.jpg,1\n", {"format": "folder"}, "is a file, but format folder"),
        ("filename,neck\na.jpg,1\n", {"format": "products"}, "needs --image-column COLUMN or --image-name"),
        ("id,neck\na,1\n", {"image_column": ("nek",)}, "no column 'nek', but --image-column .* Did you mean 'neck'"),
        ("id,neck\na,1\n", {"image_name": "{ids}.jpg"}, "no column 'ids', but --image-name .* Did you mean 'id'"),
        ("id,neck\na,1\n", {"image_name": "{id.__class__}"}, "no column 'id.__class__'"),
        ("id,neck\na,1\n", {"image_name": "{id!r}.jpg"}, "only plain {column} fields"),
        ("id,neck\na,1\n", {"image_name": "{id.jpg"}, "expected '}'"),
        ("id,neck\na,1\n", {"image_name": "a.jpg"}, "names no column"),
        ("id,neck\na,1\n", {"image_name": "{id}", "image_column": ("id",)}, "give only one"),
        ('filename,neck\na.jpg,"1\nb.jpg,2\n', {}, "line 3: unexpected end of data.* quotation mark left open"),
    ],
)
def test_bad_tables_get_a_clear_error(make: Maker, text: str, options: dict[str, object], match: str) -> None:
    table = make(text, "a.jpg")
    with pytest.raises(CatalogueError, match=match):
        read_catalogue(DataOptions(data=table, **options))  # type: ignore[arg-type]


def test_bad_folders_get_a_clear_error(make: Maker, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"No data given"):
        read_catalogue(DataOptions())
    with pytest.raises(CatalogueError, match=r"nowhere: no such file or folder\. --data takes"):
        read_catalogue(DataOptions(data=tmp_path / "nowhere"))
    with pytest.raises(CatalogueError, match=r"No photo found: .* Expected FOLDER/attributes.csv"):
        read_catalogue(DataOptions(data=tmp_path))
    with pytest.raises(CatalogueError, match=r"holds no CSV file, but format A needs one"):
        read_catalogue(DataOptions(data=tmp_path, format="A"))
    table = make("filename,neck\na.jpg,1\n", "a.jpg")
    with pytest.raises(CatalogueError, match=r"--images .*: no such folder"):
        read_catalogue(DataOptions(data=table, images=tmp_path / "nowhere"))
    with pytest.raises(CatalogueError, match=r"no column 'sku', but --group-column"):
        read_catalogue(DataOptions(data=table), group_column="sku")
    make("filename,neck\n", name="other.csv")
    with pytest.raises(CatalogueError, match=r"holds 2 CSV files \(attributes.csv, other.csv\).* Name the one"):
        read_catalogue(DataOptions(data=tmp_path))


# The record


def test_the_digest_follows_names_and_labels_and_nothing_else(make: Maker) -> None:
    def digest(text: str) -> str:
        return read_catalogue(DataOptions(data=make(text, "a.jpg", "b.jpg"))).digest

    plain = digest("filename,neck\na.jpg,1\nb.jpg,2\n")
    assert digest("filename,neck\nz.jpg,7\na.jpg, 1\nb.jpg,2\na.jpg,3\n") == plain
    assert digest("filename,neck\na.jpg,2\nb.jpg,1\n") != plain
    assert digest("filename,nape\na.jpg,1\nb.jpg,2\n") != plain
    assert digest("filename,neck\nb.jpg,1\na.jpg,2\n") != plain
    assert digest("filename,neck\na.jpg,1\nb.jpg,\n") != plain


def test_take_keeps_rows_in_the_order_asked_for(make: Maker) -> None:
    import numpy as np

    table = make("filename,neck,product\na.jpg,1,P\nb.jpg,2,\nc.jpg,3,Q\n", "a.jpg", "b.jpg", "c.jpg")
    catalogue = read_catalogue(DataOptions(data=table), group_column="product").take(np.array([2, 0]))
    assert list(catalogue.filenames) == ["c.jpg", "a.jpg"]
    assert [path.name for path in catalogue.paths] == ["c.jpg", "a.jpg"]
    assert columns(catalogue) == {"neck": [("3",), ("1",)]}
    assert list(catalogue.groups or ()) == ["Q", "P"]
    assert len(catalogue.take(np.array([True, False]))) == 1
