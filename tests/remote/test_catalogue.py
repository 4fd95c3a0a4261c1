"""Catalogues whose photos lie under a URL: which rows are kept, which are reported, and what is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.catalogue import Catalogue, read_catalogue
from pipeline.errors import CatalogueError, RemoteError
from pipeline.options import DataOptions
from tests.remote.server import BUCKET, Objects


def table(tmp_path: Path, names: list[str], column: str = "filename") -> Path:
    path = tmp_path / "data.csv"
    path.write_text(f"{column},neck\n" + "".join(f'"{name}",{i % 2}\n' for i, name in enumerate(names)))
    return path


def kinds(catalogue: Catalogue) -> dict[str, str]:
    return {finding.filename: f"{finding.kind}: {finding.detail}" for finding in catalogue.findings}


def test_a_bucket_stands_in_the_place_of_a_folder(bucket: Objects, tmp_path: Path) -> None:
    for key in ("shop/a.jpg", "shop/b/c ü.jpg", "shop/free.jpg", "elsewhere/d.jpg"):
        bucket.put(key, key.encode())
    root = f"s3://{BUCKET}/shop"
    names = [
        "a.jpg",
        f"{root}/b/c ü.jpg",
        "./a.jpg",
        "gone.jpg",
        "../elsewhere/d.jpg",
        f"s3://{BUCKET}/elsewhere/d.jpg",
    ]
    catalogue = read_catalogue(DataOptions(table(tmp_path, names), images=root))
    assert list(catalogue.filenames) == names[:2] and catalogue.images == root
    assert [str(photo) for photo in catalogue.paths] == [f"{root}/a.jpg", f"{root}/b/c ü.jpg"]
    assert catalogue.take(__import__("numpy").array([1])).paths[0]() == b"shop/b/c \xc3\xbc.jpg"  # type: ignore[operator]
    found = kinds(catalogue)
    assert found["./a.jpg"].startswith("repeated") and found[names[5]].startswith("outside-images")
    assert found["gone.jpg"] == f"missing-photo: there is no such photo under {root}; dropped"
    assert found["../elsewhere/d.jpg"].startswith("outside-images") and "1 photo(s)" in found[""]
    assert bucket.count("GET") == 1 and bucket.count("HEAD") == 0, "one listing tells all"


def test_a_web_server_is_asked_for_what_the_table_names(objects: Objects, tmp_path: Path) -> None:
    for key in ("a b.jpg", "c.jpg", "d.jpg"):
        objects.put(key, key.encode())
    objects.denied.add("d.jpg")
    root = f"{objects.url}/{BUCKET}/"
    names = [
        "a b.jpg",
        f"{root}c.jpg?width=7&sig=hush",
        "d.jpg",
        "gone.jpg",
        "../x.jpg",
        f"{root}../x.jpg",
        "/etc/a.jpg",
    ]
    names += [f"{root}%2e%2e/x.jpg", "http://other.invalid/a.jpg", f"http://me:word@{root.partition('//')[2]}c.jpg"]
    catalogue = read_catalogue(DataOptions(table(tmp_path, names), images=root))
    assert list(catalogue.filenames) == ["a b.jpg", f"{root}c.jpg?width=7"]
    assert [photo() for photo in catalogue.paths] == [b"a b.jpg", b"c.jpg"]  # type: ignore[operator]
    found = kinds(catalogue)
    assert "403" in found["d.jpg"] and "404" in found["gone.jpg"] and "user or password" in found[f"{root}c.jpg"]
    outside = [name for name, text in found.items() if text.startswith("outside-images")]
    assert len(outside) == 5 and objects.count("HEAD") == 4
    assert not any(secret in f"{found}{catalogue.filenames}{catalogue.paths}" for secret in ("hush", "word@"))


def test_any_host_where_the_prefix_names_none(objects: Objects, tmp_path: Path) -> None:
    objects.put("a.jpg", b"a")
    names = [f"{objects.url}/a.jpg", "a.jpg", "https://other.invalid/a.jpg"]
    options = DataOptions(table(tmp_path, names, "picture"), images="http://", image_column=("picture",))
    catalogue = read_catalogue(options)
    assert list(catalogue.filenames) == names[:1] and [photo() for photo in catalogue.paths] == [b"a"]  # type: ignore[operator]
    assert objects.count("HEAD") == 1


def test_urls_are_fetched_only_where_images_asks_for_it(objects: Objects, tmp_path: Path) -> None:
    objects.put("a.jpg", b"a")
    data = table(tmp_path, [f"{objects.url}/a.jpg?token=hushhush"])
    with pytest.raises(CatalogueError, match=f"--images {objects.url}/") as error:
        read_catalogue(DataOptions(data))
    assert objects.requests == [] and "hush" not in str(error.value)


def test_folders_in_a_bucket_are_classes_and_a_file_url_is_a_folder(bucket: Objects, tmp_path: Path) -> None:
    for key in ("x/dress/a.jpg", "x/dress/b.jpg", "x/shirt/c.jpg"):
        bucket.put(key, key.encode())
    catalogue = read_catalogue(DataOptions(tmp_path, images=f"s3://{BUCKET}/x", format="folder"))
    assert list(catalogue.cells["class"]) == [("dress",), ("dress",), ("shirt",)]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"a")
    local = read_catalogue(DataOptions(table(tmp_path, ["a.jpg"]), images=f"file://{tmp_path}/images"))
    assert list(local.paths) == [tmp_path / "images" / "a.jpg"]


def test_no_photo_and_no_bucket_say_what_is_wrong(bucket: Objects, tmp_path: Path) -> None:
    data = table(tmp_path, ["a.jpg"])
    with pytest.raises(CatalogueError, match=f"none of them is in s3://{BUCKET}"):
        read_catalogue(DataOptions(data, images=f"s3://{BUCKET}"))
    with pytest.raises(CatalogueError, match="'a.jpg': the server answers 404"):
        read_catalogue(DataOptions(data, images=f"{bucket.url}/{BUCKET}"))
    bucket.denied.add("")
    with pytest.raises(RemoteError, match=f"s3://{BUCKET}: permission denied"):
        read_catalogue(DataOptions(data, images=f"s3://{BUCKET}/x"))
