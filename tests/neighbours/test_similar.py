"""`similar` end to end: photos by name and by file, new ones embedded first, filters, the table, the page."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import FeatureCache
from pipeline.cli.main import main
from pipeline.errors import BadImage, OptionError
from pipeline.features.extract import extract
from pipeline.neighbours.page import render_similar, shown_photos
from pipeline.neighbours.report import Asked, Similar, SimilarReport
from pipeline.neighbours.similar import similar
from pipeline.options import BackboneOptions, CacheKeyOptions, DataOptions, ExtractOptions, SimilarOptions
from tests.comparison.page.test_page import HOSTILE, Page, markup_of
from tests.small_cache import SmallCatalogue, write_catalogue

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallCatalogue:
    return write_catalogue(tmp_path_factory.mktemp("small"), photos=60, pictures=True)


def found(small: SmallCatalogue, folder: Path, *photos: str, data: bool = True, **changes: object) -> SimilarReport:
    options = replace(SimilarOptions(cache=small.cache, out=folder / "similar.csv", count=5), **changes)
    return similar(photos, DataOptions(data=small.data if data else None), CacheKeyOptions(), options)


def test_the_nearest_of_a_photo_have_its_labels_and_are_not_itself(small: SmallCatalogue, tmp_path: Path) -> None:
    report = found(small, tmp_path, "shirt1-0.jpg", "shirt8-1.jpg")
    assert [asked.photo for asked in report.asked] == ["shirt1-0.jpg", "shirt8-1.jpg"]
    assert report.embedded == 0 and report.searched == 60
    for asked in report.asked:
        names = [each.photo for each in asked.nearest]
        assert len(names) == 5 and asked.photo not in names
        cosines = [each.cosine for each in asked.nearest]
        assert cosines == sorted(cosines, reverse=True) and cosines[0] < 1
    assert {each.labels["neck"] for each in report.asked[0].nearest} <= {("1",), None}
    with (tmp_path / "similar.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 6)] * 2
    assert [row["similar"] for row in rows[:5]] == [each.photo for each in report.asked[0].nearest]
    assert {row["neck"] for row in rows[:5]} <= {"1", "#N/A"}


def test_a_photo_is_not_its_own_neighbour_however_it_is_named_and_folders_keep_photos_of_one_name_apart(
    small: SmallCatalogue, tmp_path: Path
) -> None:
    images = small.data.parent / "images"
    photo = images / ".." / "images" / "shirt1-0.jpg"
    report = found(small, tmp_path, str(photo))
    assert "shirt1-0.jpg" not in [each.photo for each in report.asked[0].nearest]
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, name in zip(folders, ("shirt2-0.jpg", "shirt3-0.jpg"), strict=True):
        folder.mkdir()
        shutil.copy(images / name, folder / "shirt1-0.jpg")
    report = found(small, tmp_path, *map(str, folders))
    assert [asked.photo for asked in report.asked] == [str(folder / "shirt1-0.jpg") for folder in folders]
    assert [asked.nearest[0].photo for asked in report.asked] == ["shirt2-0.jpg", "shirt3-0.jpg"]


def test_only_photos_with_the_labels_asked_for_are_listed(small: SmallCatalogue, tmp_path: Path) -> None:
    where = ("neck=0", "neck=2", "sleeve_length=long")
    report = found(small, tmp_path, "shirt1-0.jpg", where=where)
    labels = [each.labels for each in report.asked[0].nearest]
    assert len(labels) == 5
    assert all(each["neck"] in (("0",), ("2",)) and each["sleeve_length"] == ("long",) for each in labels)


def test_without_a_catalogue_the_files_that_the_cache_knows_are_searched(
    small: SmallCatalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, photo = tmp_path / "moved", small.data.parent / "images" / "shirt1-0.jpg"
    shutil.copytree(small.cache, moved, ignore=shutil.ignore_patterns("files.sqlite*"))
    with pytest.raises(OptionError, match="does not know which files"):
        found(replace(small, cache=moved), tmp_path, str(photo), data=False)
    # A fresh file is not kept in the index, as it might change again within the clock's granularity.
    monkeypatch.setattr("cache.files.RACY_NS", 0)
    FeatureCache(small.cache).files.ids(sorted(photo.parent.iterdir()))
    report = found(small, tmp_path, str(photo), data=False)
    with_catalogue = found(small, tmp_path, "shirt1-0.jpg")
    expected = [each.photo for each in with_catalogue.asked[0].nearest]
    assert [Path(each.photo).name for each in report.asked[0].nearest] == expected
    assert report.attributes == ()


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("colour=red", "no attribute 'colour'; there are neck, sleeve_length"),
        ("nek=0", "no attribute 'nek'; did you mean neck"),
        ("neck=9", "no photo has neck '9'"),
        ("neck", "'neck'; expected attribute=value"),
    ],
)
def test_labels_that_there_are_not(small: SmallCatalogue, tmp_path: Path, where: str, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        found(small, tmp_path, "shirt1-0.jpg", where=(where,))
    with pytest.raises(OptionError, match="name the catalogue that has them with --data|expected attribute=value"):
        found(small, tmp_path, str(small.data.parent / "images" / "shirt1-0.jpg"), data=False, where=(where,))


def test_what_cannot_be_is_said_in_one_line(
    small: SmallCatalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["similar", "nowhere.jpg", "--data", str(small.data), "--out", str(tmp_path / "a.csv"), "--cache"]
    assert main([*words, str(small.cache)]) == 1
    assert "no such photo or folder: nowhere.jpg" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "none")]) == 1
    assert "run `python run.py extract`" in capsys.readouterr().err
    with pytest.raises(OptionError, match="name ending in .csv"):
        found(small, tmp_path, "shirt1-0.jpg", out=tmp_path / "similar.json")


def test_vectors_without_room_in_memory_are_searched_in_one_pass(small: SmallCatalogue, tmp_path: Path) -> None:
    photos, where = ("shirt1-0.jpg", "shirt8-1.jpg"), ("neck=0", "neck=1")
    for labels in ((), where):
        within, beyond = (found(small, tmp_path, *photos, where=labels, memory=gib) for gib in (1.0, 1e-9))
        for one, other in zip(within.asked, beyond.asked, strict=True):
            assert [each.photo for each in one.nearest] == [each.photo for each in other.nearest]
            assert [each.cosine for each in one.nearest] == pytest.approx([e.cosine for e in other.nearest], abs=1e-6)


def test_a_new_photo_is_embedded_as_the_cached_ones_were(tmp_path: Path) -> None:
    """A photo that differs in one byte of its file, not in its pixels, is new to the cache and lies where it lay."""
    images = tmp_path / "photos" / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(images / f"{number}.png")
    table = tmp_path / "photos" / "labels.csv"
    table.write_text("filename,neck\n" + "".join(f"{i}.png,v{i % 2}\n" for i in range(8)), encoding="utf-8")
    cache = tmp_path / "features"
    backbone = BackboneOptions(backbone="test_resnet", weights="random:0", size=32)
    extract(sorted(images.iterdir()), backbone, ExtractOptions(cache=cache, runtime="torch", device="cpu"))
    new, odd = tmp_path / "new.png", tmp_path / "odd.png"
    new.write_bytes((images / "3.png").read_bytes() + b"\0")
    odd.write_bytes(b"no photo")
    options = SimilarOptions(cache=cache, out=tmp_path / "similar.csv", count=2, device="cpu")
    report = similar([str(new), str(odd)], DataOptions(data=table), CacheKeyOptions(), options)
    assert report.embedded == 1
    assert [name for name, _ in report.rejects] == [str(odd)]
    assert report.asked[0].nearest[0].photo == "3.png"
    assert report.asked[0].nearest[0].cosine == pytest.approx(1, abs=1e-4)
    with pytest.raises(BadImage, match="no photo that was asked for"):
        similar([str(odd)], DataOptions(data=table), CacheKeyOptions(), options)


def report_of(name: str, asked: int = 1) -> SimilarReport:
    nearest = tuple(Similar(f"{name}{i}", Path(f"{i}.jpg"), 0.9, {name: (name,), "neck": None}) for i in range(5))
    every = tuple(Asked(f"{name} of {k}", Path("a.jpg"), nearest) for k in range(asked))
    return SimilarReport(every, (name, "neck"), 700, name, 0, (), (), 0.1)


def test_the_page_escapes_names_and_shows_no_more_pictures_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    page = render_similar(report_of(HOSTILE), {f"{HOSTILE}0": b"webp"})
    assert Page(page).scripts == []
    assert "window.hacked=1</script>" not in markup_of(page)
    assert page.count("<img") == 1 and "&lt;script&gt;" in page
    monkeypatch.setattr("pipeline.neighbours.page.MOST", 20)
    many = report_of("a", asked=30)
    assert len(shown_photos(many)) == 20
    assert "The first 15 of\n30 photos" in render_similar(many, {})


def test_the_command_writes_the_table_and_the_page(
    small: SmallCatalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.csv"
    words = ["--data", str(small.data), "--cache", str(small.cache), "--out", str(out), "--count", "3"]
    assert main(["similar", "shirt1-0.jpg", *words]) == 0
    said = capsys.readouterr().out
    assert "similar: 1 photo asked for, 60 photos searched" in said and f"page: {tmp_path / 's.html'}" in said
    assert (tmp_path / "s.html").read_text(encoding="utf-8").count("<img") == 4
