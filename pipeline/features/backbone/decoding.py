"""From the bytes of one photo to an upright RGB picture: formats, orientation, colour, and what is refused.

Steps 1 to 3 of the pixel policy that `transform` states; a change of what they give is a new `PIXEL_POLICY`.
Without torch, so that thumbnails and the report can use it.

JPEG is decoded by libjpeg-turbo, through simplejpeg where it is installed (half the time) and through Pillow
otherwise; both give the same pixels.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError, features

from pipeline.errors import BadImage

try:
    import simplejpeg
except ImportError:
    simplejpeg = None  # only slower without it

DECODER = "pillow/libjpeg-turbo" if simplejpeg or features.check_feature("libjpeg_turbo") else "pillow/libjpeg"
MAX_PIXELS = 178_956_970
TOO_MANY_PIXELS = "too many pixels"

Pixels = npt.NDArray[np.uint8]

# No others: among Pillow's readers are some that start other programs or are hardly ever exercised.
_WANTED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
Image.init()
_FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)
_SHRINKS = (8, 4, 2)
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Everything Pillow's readers are known to raise on damaged files; a list, so that our own mistakes still surface.
_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, AttributeError, ArithmeticError,
    RuntimeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip


def decode(data: bytes, max_pixels: int = MAX_PIXELS, enough: int = 0) -> Pixels:
    """Encoded bytes to an upright RGB picture of the photo's own size: uint8 (h, w, 3).

    With `enough`, a JPEG whose shorter side is at least twice that many pixels comes at 1/2, 1/4 or 1/8 of its size,
    the smallest whose shorter side is still at least `enough`: the decoder leaves out what a small picture does not
    show, at a fraction of the time.

    Raises:
        BadImage: the photo cannot become pixels; the text is the reason.
    """
    if not data:
        raise BadImage("empty file")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise BadImage("not an image in a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(f"{TOO_MANY_PIXELS}: {error}") from None
    except _DECODE_ERRORS as error:
        raise BadImage(f"damaged image: {error}") from None
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage(f"{TOO_MANY_PIXELS}: {width} x {height} is more than the limit of {max_pixels}")
    try:
        turn = _turn(image)
        shrink = next((by for by in _SHRINKS if enough and min(image.size) >= by * enough), 1)
        if turn is None and (pixels := _fast_jpeg(data, image, shrink)) is not None:
            return pixels
        if shrink > 1:
            image.draft(None, (max(1, width // shrink), max(1, height // shrink)))
        image.load()
        upright = image if turn is None else image.transpose(turn)
        return np.array(_rgb(upright))
    except BadImage:
        raise
    except _DECODE_ERRORS as error:
        raise BadImage(f"damaged or truncated image: {error}") from None


def _fast_jpeg(data: bytes, image: Image.Image, shrink: int) -> Pixels | None:
    """The pixels of an ordinary colour JPEG, or None where Pillow has to decide what the file is worth."""
    if simplejpeg is None or image.format != "JPEG" or image.mode != "RGB":
        return None
    # Any warning of the decoder, such as a missing end, is an error here; Pillow then tells harmless from truncated.
    with contextlib.suppress(ValueError):
        # The least size is the size itself rounded up, so that the decoder's own scales leave just the one wanted.
        least = (0, 0) if shrink == 1 else (-(-image.height // shrink), -(-image.width // shrink))
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=least[0], min_width=least[1], strict=True)
        return pixels
    return None


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODE_ERRORS:
        return None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise BadImage("floating-point pixels have no fixed range")
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGB", layer.size, (255, 255, 255))
        white.paste(layer, mask=layer.getchannel("A"))
        return white
    return image.convert("RGB")
