"""Thumbnails of test photos: what they look like, hostile names, photos that are gone, the same bytes again."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.errors import RunError
from pipeline.experiment.run_tables import write_table
from pipeline.experiment.thumbnails import choose_photos, encode_thumbnail, read_thumbnails, write_thumbnails

HOSTILE = ["plain.jpg", "a/b c.jpg", "</script><img src=x onerror=alert(1)>", "été 衣.jpg", 'x,"y"\n.jpg', "'; --"]


def photo(folder: Path, name: str, size: tuple[int, int] = (300, 400), kind: str = "JPEG", **options: object) -> Path:
    """A photo whose upper half is red and whose lower half is blue."""
    picture = Image.new("RGB", size, (255, 0, 0))
    picture.paste((0, 0, 255), (0, size[1] // 2, *size))
    path = folder / name
    picture.save(path, kind, **options)
    return path


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "WEBP"
    return picture.convert("RGB")


def near(colour: object, wanted: tuple[int, int, int]) -> bool:
    return bool(np.abs(np.subtract(colour, wanted)).max() <= 12)


def test_names_of_any_kind_come_back_with_their_own_picture(tmp_path: Path) -> None:
    paths = [photo(tmp_path, f"{i}.jpg", (100 + 10 * i, 200)) for i in range(len(HOSTILE))]
    assert write_thumbnails(tmp_path / "run", HOSTILE, paths) == {}
    found = read_thumbnails(tmp_path / "run", [*HOSTILE, "not there.jpg"])
    assert set(found) == set(HOSTILE)
    assert [opened(found[name]).width for name in HOSTILE] == [48, 53, 58, 62, 67, 72]
    assert list(read_thumbnails(tmp_path / "run", ["été 衣.jpg"])) == ["été 衣.jpg"]


@pytest.mark.parametrize("size", [(1200, 1600), (100, 140), (60, 80), (1, 1), (3000, 10)])
def test_longer_side_is_at_most_96_and_nothing_is_enlarged(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = opened(encode_thumbnail(photo(tmp_path, "p.png", size, "PNG").read_bytes()))
    assert max(picture.size) == min(96, max(size))


def test_photo_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    picture = opened(encode_thumbnail(photo(tmp_path, "p.jpg", (1600, 1200), quality=95, exif=exif).read_bytes()))
    assert picture.size == (72, 96)
    assert near(picture.getpixel((68, 48)), (255, 0, 0))
    assert near(picture.getpixel((4, 48)), (0, 0, 255))


def test_transparency_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert near(opened(encode_thumbnail((tmp_path / "clear.png").read_bytes())).getpixel((20, 20)), (255, 255, 255))


def test_missing_and_unreadable_photos_have_a_reason_and_shift_nothing(tmp_path: Path) -> None:
    good = [photo(tmp_path, "a.jpg", (100, 50)), photo(tmp_path, "b.jpg", (50, 100))]
    (tmp_path / "torn.jpg").write_bytes(good[0].read_bytes()[:-60])
    (tmp_path / "folder.jpg").mkdir()
    paths = [good[0], tmp_path / "gone.jpg", tmp_path / "torn.jpg", tmp_path / "folder.jpg", good[1]]
    problems = write_thumbnails(tmp_path / "run", [path.name for path in paths], paths)
    assert set(problems) == {"gone.jpg", "torn.jpg", "folder.jpg"}
    assert problems["gone.jpg"] == "No such file or directory"
    assert "truncated" in problems["torn.jpg"]
    found = read_thumbnails(tmp_path / "run", [path.name for path in paths])
    assert {name: opened(data).size for name, data in found.items()} == {"a.jpg": (96, 48), "b.jpg": (48, 96)}


def test_same_photos_give_the_same_bytes(tmp_path: Path) -> None:
    paths = [photo(tmp_path, f"{i}.jpg", (200, 200 + i)) for i in range(9)]
    for run in ("a", "b"):
        write_thumbnails(tmp_path / run, [path.name for path in paths], paths)
    first, second = ((tmp_path / run / "thumbnails" / "test.parquet").read_bytes() for run in ("a", "b"))
    assert first == second


def test_run_without_thumbnails_has_none(tmp_path: Path) -> None:
    assert read_thumbnails(tmp_path, ["a.jpg"]) == {}
    assert write_thumbnails(tmp_path, ["a.jpg"], [tmp_path / "a.jpg"]) == {"a.jpg": "No such file or directory"}
    assert not (tmp_path / "thumbnails").exists()


def test_damaged_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    write_thumbnails(tmp_path, ["a.jpg"], [photo(tmp_path, "a.jpg")])
    path = tmp_path / "thumbnails" / "test.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match=r"test\.parquet cannot be read as thumbnails .*; remove it"):
        read_thumbnails(tmp_path, ["a.jpg"])


def test_more_photos_than_wanted_are_drawn_by_content_whatever_their_order() -> None:
    ids = np.random.default_rng(0).integers(1, 256, (50, 32), dtype=np.uint8).view("S32").reshape(-1)
    rows = choose_photos(ids, 20)
    assert len(rows) == 20 and (np.diff(rows) > 0).all()
    shuffled = np.random.default_rng(1).permutation(50)
    assert set(ids[shuffled][choose_photos(ids[shuffled], 20)]) == set(ids[rows])
    assert choose_photos(ids, 5000).tolist() == list(range(50))
    assert len(choose_photos(ids, 0)) == 0


def test_a_table_that_cannot_be_written_leaves_no_part_of_it(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nonsense"):
        write_table(tmp_path / "new" / "labels.parquet", pa.table({"photo": ["a.jpg"]}), compression="nonsense")
    assert list((tmp_path / "new").iterdir()) == []
