"""HEIC photos, as telephones write them: read by pillow-heif, where that is installed."""

from __future__ import annotations

import io

from PIL import Image

from pipeline.errors import TooCostly

BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
"""What the first box of a file may say that it holds: pictures coded as HEVC, which Pillow alone does not decode."""

AVIF_BRANDS = frozenset({b"avif", b"avis"})

_MOST_BRANDS = 64


def brands_of(data: bytes) -> frozenset[bytes]:
    """The brands that the first box of an ISO media file states; none for any other file."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4]), len(data), 16 + 4 * _MOST_BRANDS)
    return frozenset({data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))})


def is_heif(data: bytes) -> bool:
    """True for a photo that this module opens; an AVIF, in the same container, is Pillow's."""
    brands = brands_of(data)
    return bool(brands & BRANDS) and not brands & AVIF_BRANDS


def open_heif(data: bytes) -> Image.Image:
    """The photo as Pillow opens one: size and metadata are read, the pixels are not. It stands upright.

    Raises:
        BadImage: pillow-heif is not installed; installed later, it will read the photo, so that this is no lasting
            reject.
    """
    try:
        # By its class: registered with Pillow, it would read the files of whatever program this one is part of.
        from pillow_heif import HeifImageFile
    except ImportError:
        raise TooCostly("a HEIC photo, which needs pillow-heif, not installed here: pip install pillow-heif") from None
    image: Image.Image = HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call, unused-ignore]
    return image


def check_avif(data: bytes, readable: bool) -> None:
    """Say what an AVIF photo needs, where Pillow cannot read it.

    Raises:
        BadImage: it is one, and not `readable`.
    """
    if not readable and brands_of(data) & AVIF_BRANDS:
        raise TooCostly("an AVIF photo, which needs Pillow 11.3 or newer: pip install --upgrade pillow")
