"""From the bytes of one photo to the square of pixels a backbone sees.

What happens to a photo, in this order (a change of any line is a new `PIXEL_POLICY`):

1. The format is found by content, never by file name: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000, netpbm, and
   HEIC where pillow-heif is installed. Animated and multi-page files give their first frame, HEIC its main picture.
   A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, as
   long as its shorter side stays at least twice as long as step 4 makes it (policy 1 decoded it whole, in three times
   the time for 12 megapixels; a vector moves less than by saving the photo once more at quality 75, and `crop` may
   resize its longer side to one pixel less or more).
2. EXIF orientation is applied; an EXIF block that cannot be read counts as none.
3. Colour: 16-bit greyscale is scaled to 8 bits (x / 257), CMYK and palettes become RGB, transparency is laid on
   white, greyscale is repeated over three channels. Colour profiles are ignored, as timm ignores them.
4. Resize with the model's own interpolation (anti-aliased, on 8-bit values), in one of three modes (see `Transform`).
   PyTorch's resize is used (or the same bits without it, see `resize`): Pillow's values within rounding at a fifth of
   the time. `crop` first trims a photo more than 8 times as long as wide to its middle 8:1.

Steps 1 to 3 are `pipeline.features.backbone.decoding`.

What becomes of bad input: an empty file, a file that is no image, a truncated or damaged one as far as that can be seen
(docs/CACHE.md says how far), one beyond what a photo may cost (`limits`), and one with floating-point pixels (no fixed
range) each raise `BadImage` with the reason. Half a picture is never used. Any size from 1x1 upwards is a photo: 1x1
gives a plain square, 20,000x10 is squashed, padded, or cropped to its middle like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Pixels
from pipeline.errors import OptionError
from pipeline.features.backbone.decoding import DECODER, TOO_MANY_PIXELS, decode
from pipeline.features.backbone.limits import MAX_PIXELS
from pipeline.features.backbone.resize import resize

__all__ = [
    "DECODER",
    "MAX_PIXELS",
    "PIXEL_POLICY",
    "RESIZE_MODES",
    "TOO_MANY_PIXELS",
    "VIEWS",
    "Pixels",
    "Transform",
    "decode",
    "require_view",
    "square",
    "to_pixels",
    "view",
]

PIXEL_POLICY = 2
_INTERPOLATIONS = ("bilinear", "bicubic")
_LONGEST = 8
_ROOM = 2


@dataclass(frozen=True)
class Transform:
    """How a photo becomes the square of pixels that a model sees.

    Attributes:
        size: Side of the square in pixels.
        resize_mode: `crop` resizes the shorter side to floor(size / crop_pct) and keeps the centre (timm's evaluation
            transform), `squash` resizes both sides to `size` (the aspect ratio is lost), `pad` resizes the longer side
            to `size` and fills the rest with the model's mean colour.
        interpolation: bilinear or bicubic, anti-aliased.
        mean: Per-channel mean the model expects, on a scale of 0 to 1.
        std: Per-channel standard deviation the model expects, on a scale of 0 to 1.
        crop_pct: Share of the resized photo that `crop` keeps; without effect on the other modes.
    """

    size: int
    resize_mode: str
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 1.0

    def __post_init__(self) -> None:
        if self.resize_mode not in _RESIZES:
            raise OptionError(f"resize mode is {self.resize_mode!r}; it can be {', '.join(_RESIZES)}")
        if self.interpolation not in _INTERPOLATIONS:
            raise OptionError(f"interpolation is {self.interpolation!r}; it can be {', '.join(_INTERPOLATIONS)}")
        if self.size < 1:
            raise OptionError(f"size is {self.size}; it must be at least 1 pixel")


def to_pixels(data: bytes, transform: Transform, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode, orient, convert and resize one photo.

    Args:
        data: The content of the photo's file.
        transform: What becomes of the decoded photo.
        max_pixels: Photos with more pixels than this are refused before they are decoded.

    Returns:
        uint8 (size, size, 3), RGB.

    Raises:
        BadImage: the photo cannot become pixels; the text is the reason.
    """
    return square(decode(data, max_pixels, _ROOM * _shorter(transform)), transform)


def square(picture: Pixels, transform: Transform) -> Pixels:
    """Step 4 alone: resize an upright RGB picture, uint8 (h, w, 3), to uint8 (size, size, 3)."""
    return _RESIZES[transform.resize_mode](picture, transform)


def _resize(pixels: Pixels, width: int, height: int, transform: Transform) -> Pixels:
    return resize(pixels, width, height, transform.interpolation)


def _shorter(transform: Transform) -> int:
    """Most pixels that the shorter side is resized to."""
    cropped = transform.resize_mode == "crop"
    return max(transform.size, int(transform.size / transform.crop_pct)) if cropped else transform.size


def _crop(pixels: Pixels, transform: Transform) -> Pixels:
    pixels = _middle(pixels, _LONGEST * min(pixels.shape[:2]), _LONGEST * min(pixels.shape[:2]))
    height, width = pixels.shape[:2]
    short = _shorter(transform)
    scaled_w = short if width <= height else int(short * width / height)
    scaled_h = short if height <= width else int(short * height / width)
    return _middle(_resize(pixels, scaled_w, scaled_h, transform), transform.size, transform.size)


def _middle(pixels: Pixels, width: int, height: int) -> Pixels:
    top, left = (max(0, round((have - want) / 2)) for have, want in zip(pixels.shape, (height, width), strict=False))
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _squash(pixels: Pixels, transform: Transform) -> Pixels:
    return np.ascontiguousarray(_resize(pixels, transform.size, transform.size, transform))


def _pad(pixels: Pixels, transform: Transform) -> Pixels:
    size, (height, width) = transform.size, pixels.shape[:2]
    scale = size / max(width, height)
    inner_w, inner_h = max(1, round(width * scale)), max(1, round(height * scale))
    square = np.empty((size, size, 3), np.uint8)
    square[:] = np.round(255 * np.array(transform.mean)).astype(np.uint8)
    left, top = (size - inner_w) // 2, (size - inner_h) // 2
    square[top : top + inner_h, left : left + inner_w] = _resize(pixels, inner_w, inner_h, transform)
    return square


_RESIZES: dict[str, Callable[[Pixels, Transform], Pixels]] = {"crop": _crop, "squash": _squash, "pad": _pad}
RESIZE_MODES = tuple(_RESIZES)

_VIEWS: dict[str, Callable[[Pixels], Pixels]] = {
    "identity": lambda batch: batch,
    "hflip": lambda batch: np.ascontiguousarray(batch[:, :, ::-1]),
    "vflip": lambda batch: np.ascontiguousarray(batch[:, ::-1]),
}
VIEWS = tuple(_VIEWS)


def view(batch: Pixels, name: str) -> Pixels:
    """One view of a batch of decoded photos.

    Args:
        batch: uint8 (b, s, s, 3).
        name: One of `VIEWS`.

    Returns:
        The shape and dtype of the batch, C-contiguous.

    Raises:
        OptionError: there is no view of that name.
    """
    require_view(name)
    return _VIEWS[name](batch)


def require_view(name: str) -> None:
    """Check the name of a view.

    Raises:
        OptionError: there is no view of that name.
    """
    if name not in _VIEWS:
        raise OptionError(f"there is no view {name!r}; the views are {', '.join(VIEWS)}")
