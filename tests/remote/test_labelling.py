"""Labels of photos on other machines, and photos there worth labelling."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipeline.catalogue import read_catalogue
from pipeline.cli.main import main
from pipeline.errors import OptionError
from pipeline.labelling.next_photos import next_photos
from pipeline.labelling.pool import pool_photos
from pipeline.options import CacheKeyOptions, DataOptions, NextOptions
from tests.remote.conftest import png
from tests.remote.server import BUCKET, Objects


def labels(folder: Path, names: list[str]) -> Path:
    path = folder / "labels.csv"
    path.write_text("photo,attribute,value\n" + "".join(f"{name},neck,v\n" for name in names), encoding="utf-8")
    return path


def table(folder: Path, text: str) -> Path:
    path = folder / "data.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_find_photos_of_a_web_server_and_add_those_below_the_prefix(objects: Objects, tmp_path: Path) -> None:
    for key in ("a.jpg", "b.jpg", "new.jpg"):
        objects.put(key, key.encode())
    root = f"{objects.url}/{BUCKET}/"
    data = table(tmp_path, f"filename,neck\na.jpg,round\n{root}b.jpg,round\n")
    names = [f"{root}a.jpg", "b.jpg", f"{root}new.jpg?sig=hush", "http://other.invalid/c.jpg?sig=hush"]
    catalogue = read_catalogue(DataOptions(data, images=root, labels=(labels(tmp_path, names),)))
    assert list(catalogue.filenames) == ["a.jpg", f"{root}b.jpg", f"{root}new.jpg"]
    assert list(catalogue.cells["neck"]) == [("v",)] * 3
    assert [photo() for photo in catalogue.paths] == [b"a.jpg", b"b.jpg", b"new.jpg"]  # type: ignore[operator]
    found = {f.kind: f.filename for f in catalogue.findings}
    assert found["labels-without-photo"] == "http://other.invalid/c.jpg" and "labels-new-photo" in found
    assert not any("hush" in f"{f}" for f in (*catalogue.findings, *catalogue.filenames))


@pytest.mark.usefixtures("one_thread")
def test_next_chooses_in_a_bucket_and_reads_no_photo_again(bucket: Objects, tmp_path: Path) -> None:
    for number in range(8):
        bucket.put(f"shop/{number}.png", png(number))
    bucket.put("elsewhere/x.png", png(9))
    root, cache = f"s3://{BUCKET}/shop", tmp_path / "features"
    data = table(tmp_path, "filename,neck\n0.png,round\n1.png,\n2.png,v\n")
    pool = (root, f"s3://{BUCKET}/elsewhere/x.png")
    backbone = ["--backbone", "test_resnet", "--weights", "random:0", "--size", "32", "--runtime", "torch"]
    where = ["--data", str(data), "--images", root, "--cache", str(cache)]
    assert main(["extract", *where, "--pool", ",".join(pool), *backbone]) == 0
    assert bucket.count("GET") == 9
    options = NextOptions(pool=pool, cache=cache, near=1, out=tmp_path / "next.csv")
    report = next_photos(DataOptions(data, images=root), CacheKeyOptions(), options)
    asked = {row["photo"] for row in csv.DictReader((tmp_path / "next.csv").open(encoding="utf-8"))}
    assert asked == {"1.png", *(f"{number}.png" for number in range(3, 8)), pool[1]} and report.candidates == 7
    assert [f.detail for f in report.findings if f.kind == "pool-outside"] == [
        f"1 photo(s), such as {pool[1]!r}, are not below {root}"
    ]
    assert bucket.count("GET") == 9, "versions tell which content a photo has"
    (tmp_path / "next.csv").write_text("photo,attribute,value\n5.png,neck,v\n", encoding="utf-8")
    grown = read_catalogue(DataOptions(data, images=root, labels=(options.out,)))  # type: ignore[arg-type]
    assert [str(photo) for photo in grown.paths][-1] == f"{root}/5.png"
    alone = next_photos(DataOptions(), CacheKeyOptions(), options)
    assert {ask.photo for ask in alone.asks} == {*(f"{root}/{number}.png" for number in range(8)), pool[1]}


def test_a_pool_is_in_one_place_and_its_table_names_photos_there(bucket: Objects, tmp_path: Path) -> None:
    bucket.put("shop/a.jpg", b"a")
    bucket.put("shop/b.jpg", b"b")
    (tmp_path / "c.jpg").write_bytes(b"c")
    root = f"s3://{BUCKET}/shop"
    data = table(tmp_path, "filename,neck\na.jpg,round\n")
    both = NextOptions(pool=(tmp_path / "c.jpg",))
    with pytest.raises(OptionError, match=f"c.jpg is on this machine, {root} is not"):
        next_photos(DataOptions(data, images=root), CacheKeyOptions(), both)
    listed = tmp_path / "pool.csv"
    listed.write_text(f"photo\na.jpg\n{root}/b.jpg\n", encoding="utf-8")
    assert [str(photo) for photo in pool_photos([listed], root)] == [f"{root}/a.jpg", f"{root}/b.jpg"]
    listed.write_text("photo\nc.jpg\n", encoding="utf-8")
    with pytest.raises(OptionError, match=f"no such photo, 'c.jpg' under {root}"):
        pool_photos([listed], root)
    with pytest.raises(OptionError, match="read from this machine alone"):
        pool_photos([f"{root}/pool.csv"], root)
    listed.write_text(f"photo\n{root}/a.jpg\n", encoding="utf-8")
    with pytest.raises(OptionError, match="URLs in a table need --images"):
        pool_photos([listed], tmp_path)
