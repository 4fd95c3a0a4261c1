"""Small pictures of the test photos, kept in the run folder because photos may move.

    thumbnails/test.parquet    photo (string), webp (binary): WebP bytes, longer side at most 96 pixels

All test photos are kept, not the worst ones: `fit-heads` has no test labels and cannot know which those are.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.arrays import Ids, Int64
from pipeline.errors import BadImage, RunError, why_unread
from pipeline.experiment.run_tables import write_table
from pipeline.machine import cores
from pipeline.remote import RemotePhoto
from pipeline.remote.limits import READERS

if TYPE_CHECKING:
    from PIL import Image

Photos = Sequence[str | Path | RemotePhoto]

FILE = Path("thumbnails", "test.parquet")
SIDE = 96
QUALITY = 80
"""About 1.5 kB for a photo of a worn garment, 0.8 kB for one on white: 600 of them are about 1 MB."""
_EFFORT = 2


def choose_photos(ids: Ids, limit: int) -> Int64:
    """Positions, ascending, of the photos that get a thumbnail: all, or the `limit` with the smallest content ids.

    SHA-256 is as good as a draw, and every run over the same photos keeps the same ones.

    Args:
        ids: S32 (n,).
    """
    return np.sort(np.argsort(ids, kind="stable")[:limit])


def make_thumbnails(photos: Sequence[str], paths: Photos) -> tuple[dict[str, bytes], dict[str, str]]:
    """WebP bytes of these photos (names and their files, in the same order), and why the others have none."""
    pictures: dict[str, bytes] = {}
    problems: dict[str, str] = {}
    away = any(isinstance(path, RemotePhoto) for path in paths)
    with ThreadPoolExecutor(READERS if away else cores()) as pool:
        for name, made in zip(photos, pool.map(_picture, paths), strict=True):
            if isinstance(made, str):
                problems[name] = made
            else:
                pictures[name] = made
    return pictures, problems


def write_thumbnails(run_folder: Path, photos: Sequence[str], paths: Photos) -> dict[str, str]:
    """Write the thumbnails of these photos (names and their files, in the same order) into a run folder.

    The same photos give the same bytes. Returns the reason of every photo without a thumbnail; it is no failure. No
    file is written when there is no thumbnail at all.
    """
    import pyarrow as pa

    pictures, problems = make_thumbnails(photos, paths)
    if pictures:
        columns = {"photo": pa.array(pictures.keys(), pa.string()), "webp": pa.array(pictures.values(), pa.binary())}
        table = pa.table(columns)
        write_table(run_folder / FILE, table, compression="none", use_dictionary=False, write_statistics=False)
    return problems


def read_thumbnails(run_folder: Path, photos: Iterable[str]) -> dict[str, bytes]:
    """WebP bytes of those of these photos that have a thumbnail in the run folder.

    Raises:
        RunError: The folder's thumbnails are damaged.
    """
    path = run_folder / FILE
    if not path.is_file():
        return {}
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = pa.array(sorted(set(photos)), pa.string())
    try:
        table = pq.read_table(path, columns=["photo", "webp"])
        rows = table.filter(pc.is_in(table["photo"], wanted))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise RunError(
            f"{path} cannot be read as thumbnails ({error}); remove it to have a report without them"
        ) from error
    return dict(zip(rows["photo"].to_pylist(), rows["webp"].to_pylist(), strict=True))


def small_picture(data: bytes, side: int) -> Image.Image:
    """One photo's bytes to a picture: upright, on white, longer side at most `side` pixels and never enlarged.

    Raises BadImage when the photo cannot be decoded.
    """
    from PIL import Image

    from pipeline.features.backbone.decoding import decode

    picture = Image.fromarray(decode(data, enough=side))
    picture.thumbnail((side, side), Image.Resampling.BICUBIC)
    return picture


def encode_thumbnail(data: bytes) -> bytes:
    """One photo's bytes to WebP bytes of a picture of `SIDE` pixels, as `small_picture` makes it."""
    stream = io.BytesIO()
    small_picture(data, SIDE).save(stream, "WEBP", quality=QUALITY, method=_EFFORT)
    return stream.getvalue()


def _picture(path: str | Path | RemotePhoto) -> bytes | str:
    from pipeline.features.backbone.photo_file import read_photo

    try:
        return encode_thumbnail(read_photo(path))
    except (BadImage, OSError) as error:
        return why_unread(error)
