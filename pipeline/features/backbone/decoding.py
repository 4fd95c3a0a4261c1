"""From the bytes of one photo to an upright RGB picture: formats, orientation, colour, and what is refused.

Steps 1 to 3 of the pixel policy that `transform` states; a change of what they give is a new `PIXEL_POLICY`.
Without torch, so that thumbnails and the report can use it.

JPEG is decoded by libjpeg-turbo through simplejpeg, which refuses whatever the decoder would only warn of. Pillow gives
the same pixels, but hides those warnings and shows a damaged photo as well as it can. The other formats are Pillow's,
and HEIC is libheif's, through pillow-heif where that is installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError, _imaging

from pipeline.arrays import Pixels
from pipeline.errors import BadImage, TooCostly
from pipeline.features.backbone.heif import check_avif, is_heif, open_heif
from pipeline.features.backbone.limits import MAX_DECODED_BYTES, MAX_PIXELS
from pipeline.features.backbone.photo_file import check_deflated_tiff, check_file, open_bytes

DECODER = "pillow/libjpeg-turbo"
TOO_MANY_PIXELS = "too many pixels"


# No others: among Pillow's readers are some that start other programs or are hardly ever exercised.
_WANTED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
Image.init()
_FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)
_JPEGS = ("JPEG", "MPO")
_SHRINKS = (8, 4, 2)
_STRIP = 2**20
_BYTES_PER_PIXEL = {"WEBP": 16, "AVIF": 14, "JPEG2000": 25, "HEIF": 25}
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_ORIENTATION_TAG = 0x0112
_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
# Everything Pillow's readers are known to raise on damaged files; a list, so that our own mistakes still surface.
_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, AttributeError, ArithmeticError,
    RuntimeError, Warning, struct.error, zlib.error,
)  # fmt: skip


def decode(data: bytes, max_pixels: int = MAX_PIXELS, enough: int = 0) -> Pixels:
    """Encoded bytes to an upright RGB picture of the photo's own size.

    Args:
        data: The content of the photo's file.
        max_pixels: Photos with more pixels than this are refused before they are decoded.
        enough: With more than 0, a JPEG whose shorter side is at least twice that many pixels comes at 1/2, 1/4 or 1/8
            of its size, the smallest whose shorter side is still at least `enough`: the decoder leaves out what a
            small picture does not show, at a fraction of the time.

    Returns:
        uint8 (h, w, 3), C-contiguous.

    Raises:
        BadImage: the photo cannot become pixels; the text is the reason.
    """
    if not data:
        raise BadImage("empty file")
    check_file(data)
    image = _open(data)
    try:
        _check_size(image, max_pixels)
        orientation = _orientation(image)
        if image.format == "TIFF" and orientation in _TURNS:
            # Pillow turns these while it loads them. Reading them right would give this policy two kinds of pixels:
            # vectors computed by earlier versions, which turned them once more, are in caches under the same key.
            raise BadImage(f"a TIFF that lies turned (EXIF orientation {orientation}); save it upright, or as PNG")
        turn = _TURNS.get(orientation)
        if image.format in _JPEGS:
            shrink = next((by for by in _SHRINKS if enough and min(image.size) >= by * enough), 1)
            pixels = _jpeg(data, image.size, shrink)
        else:
            check_deflated_tiff(data, getattr(image, "tag_v2", {}))
            stated = image.size
            image.load()
            if image.format == "HEIF" and image.size != stated:  # which the limits were held against
                raise BadImage(f"damaged image: its size is {stated} and {image.size}")
            pixels = _array(image)
    except BadImage:
        raise
    except MemoryError:
        raise TooCostly("not enough memory here to decode it") from None
    except _DECODE_ERRORS as error:
        raise BadImage(f"damaged or truncated image: {error}") from None
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def picture_of_image(image: Image.Image, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The upright RGB picture of an image that Pillow has opened or made, with the rules that hold for files.

    Orientation, transparency, palettes and 16 bits are taken as `decode` takes them; nobody else's pixels are changed.
    What Pillow would show of a damaged file is shown: only `decode` sees the bytes.

    Args:
        image: The image; the frame it stands at.
        max_pixels: Images with more pixels than this are refused before they are loaded.

    Returns:
        uint8 (h, w, 3), C-contiguous, memory of its own.

    Raises:
        BadImage: the image cannot become pixels; the text is the reason.
    """
    if not image.width or not image.height:
        raise BadImage(f"an image of {image.width} x {image.height} pixels")
    try:
        _check_size(image, max_pixels)
        # Some readers turn the picture while they load it, and then say that it stands upright.
        image.load()
        turn = _TURNS.get(_orientation(image))
        pixels = _array(image)
    except BadImage:
        raise
    except MemoryError:
        raise TooCostly("not enough memory here to decode it") from None
    except _DECODE_ERRORS as error:
        raise BadImage(f"damaged or truncated image: {error}") from None
    return np.array(pixels if turn is None else turn(pixels), order="C")


def picture_of_array(array: npt.NDArray[Any], max_pixels: int = MAX_PIXELS) -> Pixels:
    """The picture that an array holds: upright RGB, or greyscale, which is repeated over three channels.

    Args:
        array: uint8 (h, w, 3) or (h, w).
        max_pixels: Arrays of more pixels than this are refused.

    Returns:
        uint8 (h, w, 3), C-contiguous, memory of its own.

    Raises:
        BadImage: the array is no such picture.
    """
    shape = array.shape
    if array.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) or 0 in shape:
        raise BadImage(f"an array of {array.dtype} {shape}; expected uint8 (h, w, 3), RGB, or (h, w)")
    if shape[0] * shape[1] > max_pixels:
        raise TooCostly(f"{TOO_MANY_PIXELS}: {shape[1]} x {shape[0]} is more than the limit of {max_pixels}")
    picture: Pixels = np.array(np.broadcast_to(array.reshape(*shape[:2], -1), (*shape[:2], 3)), np.uint8, order="C")
    return picture


def _open(data: bytes) -> Image.Image:
    try:
        check_avif(data, "AVIF" in _FORMATS)
        return open_heif(data) if is_heif(data) else Image.open(open_bytes(data), formats=_FORMATS)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage("not an image in a known format") from None
    except Image.DecompressionBombError as error:
        raise TooCostly(f"{TOO_MANY_PIXELS}: {error}") from None
    except MemoryError:
        raise TooCostly("not enough memory here to open it") from None
    except _DECODE_ERRORS as error:
        raise BadImage(f"damaged image: {error}") from None


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise TooCostly(f"{TOO_MANY_PIXELS}: {width} x {height} is more than the limit of {max_pixels}")
    tiles = getattr(image, "tag_v2", {})
    tile = int(tiles.get(_TILE_WIDTH, 0)) * int(tiles.get(_TILE_LENGTH, 0))
    needed = max(width * height, tile) * _bytes_per_pixel(image)
    if needed > MAX_DECODED_BYTES:
        raise TooCostly(
            f"too much memory: decoding {width} x {height} pixels of {image.format} takes {needed} bytes,"
            f" more than the limit of {MAX_DECODED_BYTES}"
        )


def _bytes_per_pixel(image: Image.Image) -> int:
    """Memory at the peak of decoding, our own three bytes included: as measured at 36 megapixels, rounded up."""
    if image.format in _JPEGS:  # progressive ones, which are held whole as coefficients
        return 3 * max(3, len(image.getbands()))
    return _BYTES_PER_PIXEL.get(image.format or "", 8)


def _jpeg(data: bytes, size: tuple[int, int], shrink: int) -> Pixels:
    """Pixels of a JPEG, at 1/shrink of its size. Any warning of the decoder is an error: it means other pixels."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        if _is_unusual_sampling(error):
            raise BadImage(f"not a usual JPEG: {error}; save it again as JPEG or PNG") from None
        raise
    if (width, height) != size:
        raise BadImage(f"damaged image: its size is {size[0]} x {size[1]} and {width} x {height}")
    # The least size is the size itself rounded up, so that the decoder's own scales leave just the one wanted.
    least = {} if shrink == 1 else {"min_height": -(-height // shrink), "min_width": -(-width // shrink)}
    if colours not in ("CMYK", "YCCK"):
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True, **least)
        return pixels
    inks = simplejpeg.decode_jpeg(data, "CMYK", strict=True, **least)
    # Inverted, as Adobe's programs write them and everyone reads them.
    return _array(Image.frombuffer("CMYK", inks.shape[1::-1], inks, "raw", "CMYK;I", 0, 1))


def _is_unusual_sampling(error: ValueError) -> bool:
    """Whether the JPEG is sound and only its chroma sampling is none that the decoder knows.

    The library raises ValueError for everything; its text is all that tells this from damage.
    """
    return "subsampling" in str(error)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODE_ERRORS:
        return 1


def _array(image: Image.Image) -> Pixels:
    """RGB pixels of a loaded picture, strip by strip: conversions take up to 16 bytes per pixel on their way."""
    width, height = image.size
    rows = max(1, _STRIP // width)
    if height <= rows:
        return np.array(_rgb(image))
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(height, top + rows)))
        pixels[top : top + rows] = np.asarray(_rgb(strip))
    return pixels


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


def _mute_libtiff() -> None:
    """A photo's damage is told once, as the reason of its reject, not on stderr by the libraries that meet it."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # libtiff writes from C; Pillow has no switch for it. Where its symbols are out of reach, its lines stay.
    with contextlib.suppress(OSError, AttributeError):
        libtiff = ctypes.CDLL(_imaging.__file__)
        libtiff.TIFFSetErrorHandler(None)
        libtiff.TIFFSetWarningHandler(None)


_mute_libtiff()
