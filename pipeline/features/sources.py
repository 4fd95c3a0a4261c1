"""What a photo may come as: a file, bytes, something that gives its bytes when its turn comes, an image, an array.

Files and bytes are one path through the decoder. Images of Pillow and arrays are decoded already; they join it where
the upright RGB picture is resized.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cache import id_of
from pipeline.arrays import Pixels
from pipeline.features.backbone.decoding import picture_of_array, picture_of_image
from pipeline.features.backbone.photo_file import check_length, read_photo
from pipeline.features.backbone.transform import Transform, square, to_pixels

Source = str | os.PathLike[str] | bytes | Callable[[], bytes] | Image.Image | npt.NDArray[Any]
"""A callable is asked for the bytes by a decoding thread, so that what it waits for holds up nobody else's photo."""

Content = bytes | Image.Image | npt.NDArray[Any]

NO_CONTENT = bytes(32)
"""The content id of what has no bytes of a file."""


def read_source(source: Source) -> Content:
    """The bytes of a photo, or the image or array itself.

    Raises:
        BadImage: it has too many bytes, or is no regular file; a callable may raise it for its own reasons.
        OSError: the file cannot be read.
    """
    if isinstance(source, Image.Image | np.ndarray):
        return source
    if not isinstance(source, bytes):
        return read_photo(source)
    check_length(len(source))
    return source


def content_id(content: Content) -> bytes:
    """SHA-256 of a photo's bytes; zeros for images and arrays."""
    return id_of(content) if isinstance(content, bytes) else NO_CONTENT


def content_pixels(content: Content, transform: Transform, max_pixels: int) -> Pixels:
    """What the network sees of a photo: uint8 (size, size, 3), RGB.

    Raises:
        BadImage: the photo cannot become pixels; the text is the reason.
    """
    if isinstance(content, bytes):
        return to_pixels(content, transform, max_pixels)
    whole = picture_of_array if isinstance(content, np.ndarray) else picture_of_image
    return square(whole(content, max_pixels), transform)  # type: ignore[arg-type]  # each takes what it is chosen for
