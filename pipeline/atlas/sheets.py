"""Small pictures of many photos, side by side on sheets: a file each would cost more bytes than its picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pipeline.errors import BadImage, why_unread
from pipeline.experiment.thumbnails import small_picture
from pipeline.features.backbone.photo_file import read_photo
from pipeline.machine import cores
from pipeline.remote import RemotePhoto

SIDE, COLUMNS, ROWS = 64, 16, 16
"""Pixels of a picture's longer side; pictures in a row, and rows, of a sheet."""

QUALITY = 55
"""0.4 to 0.7 kB a picture."""


@dataclass(frozen=True)
class Sheets:
    """WebP sheets and the photos on them.

    Attributes:
        sheets: WebP bytes; COLUMNS x ROWS pictures of SIDE x SIDE pixels each.
        photos: Positions of the photos, in the order of the pictures.
        problems: Photos that cannot be read: position to reason.
    """

    sheets: tuple[bytes, ...]
    photos: tuple[int, ...]
    problems: dict[int, str]


def make_sheets(paths: Sequence[Path | RemotePhoto], order: Sequence[int], most_bytes: float) -> Sheets:
    """Sheets of photos in the given order, as many as the bytes allow.

    Args:
        paths: The files of all photos.
        order: Positions of those that are wanted, the first ones first.
        most_bytes: That the sheets may take together.
    """
    sheets: list[bytes] = []
    shown: list[int] = []
    problems: dict[int, str] = {}
    left, size = most_bytes, COLUMNS * ROWS
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(order), size):
            some = order[start : start + size]
            made = list(zip(some, pool.map(_picture, (paths[i] for i in some)), strict=True))
            pictures = {i: picture for i, picture in made if isinstance(picture, Image.Image)}
            problems |= {i: picture for i, picture in made if isinstance(picture, str)}
            sheet = _sheet(list(pictures.values()))
            if len(sheet) > left:
                break
            left -= len(sheet)
            # Every sheet but the last is full, so that a picture's number says where it lies.
            sheets.append(sheet)
            shown += [*pictures, *[-1] * (size - len(pictures))]
    return Sheets(tuple(sheets), tuple(shown), problems)


def _picture(path: Path | RemotePhoto) -> Image.Image | str:
    try:
        return small_picture(read_photo(path), SIDE)
    except (BadImage, OSError) as error:
        return why_unread(error)


def _sheet(pictures: Sequence[Image.Image]) -> bytes:
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (SIDE * COLUMNS, SIDE * max(rows, 1)), "white")
    for number, picture in enumerate(pictures):
        row, column = divmod(number, COLUMNS)
        corner = ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2)
        sheet.paste(picture, (column * SIDE + corner[0], row * SIDE + corner[1]))
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=QUALITY, method=4)
    return stream.getvalue()
