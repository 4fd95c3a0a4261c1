"""Sheets of small pictures: as many as the bytes allow, each photo where its number says, odd files passed over."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from pipeline.atlas.sheets import COLUMNS, ROWS, SIDE, make_sheets


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """300 photos, each of a colour of its own; the third is no photo, the fourth is not there."""
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for i in range(300):
        paths.append(folder / f"{i}.png")
        Image.new("RGB", (48, 64), (i % 256, 100, 255 - i % 256)).save(paths[-1])
    paths[2].write_bytes(b"no photo")
    paths[3].unlink()
    return paths


def test_a_photos_number_says_where_its_picture_lies(paths: list[Path]) -> None:
    made = make_sheets(paths, range(299, -1, -1), 1e6)
    assert len(made.sheets) == 2 and set(made.problems) == {2, 3}
    pictured = [photo for photo in made.photos if photo >= 0]
    assert pictured == [i for i in range(299, -1, -1) if i not in (2, 3)]
    for photo in (299, 200, 44, 0):
        sheet, within = divmod(made.photos.index(photo), COLUMNS * ROWS)
        row, column = divmod(within, COLUMNS)
        with Image.open(io.BytesIO(made.sheets[sheet])) as image:
            red, _, blue = image.convert("RGB").getpixel((column * SIDE + SIDE // 2, row * SIDE + SIDE // 2))
        assert abs(red - photo % 256) < 12 and abs(blue - (255 - photo % 256)) < 12


def test_no_sheet_goes_beyond_the_bytes(paths: list[Path]) -> None:
    first = len(make_sheets(paths, range(256), 1e6).sheets[0])
    made = make_sheets(paths, range(300), first + 10)
    assert len(made.sheets) == 1 and sum(map(len, made.sheets)) <= first + 10
    assert make_sheets(paths, range(300), first - 1).sheets == ()
