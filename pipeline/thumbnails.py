"""Small pictures of the test photos, kept in the run folder because photos may move."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FILE = Path("thumbnails", "test.parquet")


def read_thumbnails(folder: Path, photos: Iterable[str]) -> dict[str, bytes]:
    """WebP bytes of those of these photos that have a thumbnail in the run folder."""
    if not (folder / FILE).is_file():
        return {}
    import pyarrow.parquet as pq

    table, wanted = pq.read_table(folder / FILE, columns=["photo", "webp"]), set(photos)
    pairs = zip(table["photo"].to_pylist(), table["webp"].to_pylist(), strict=True)
    return {photo: picture for photo, picture in pairs if photo in wanted}
