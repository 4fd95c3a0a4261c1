"""Small pictures of photos for the page of an audit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import BadImage

SIDE = 96


def webp_pictures(photos: Sequence[str], paths: Sequence[Path]) -> dict[str, bytes]:
    """Photo -> WebP bytes, the longer side at most 96 pixels; a photo that cannot be read is left out."""
    from PIL import Image

    from pipeline.images import decode

    pictures: dict[str, bytes] = {}
    for photo, path in zip(photos, paths, strict=True):
        try:
            picture = Image.fromarray(decode(path.read_bytes()))
        except (OSError, BadImage):
            continue
        picture.thumbnail((SIDE, SIDE))
        data = io.BytesIO()
        picture.save(data, "WEBP", quality=80)
        pictures[photo] = data.getvalue()
    return pictures
