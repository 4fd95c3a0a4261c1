"""HEIC and AVIF photos: read where the library for them is installed, and a reject that names it where it is not."""

from __future__ import annotations

import io
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import BadImage
from pipeline.features.backbone import decoding
from pipeline.features.backbone.decoding import decode
from pipeline.features.extract import extract
from pipeline.options import BackboneOptions, ExtractOptions

HEADER = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf"


def picture(width: int = 200, height: int = 160) -> Image.Image:
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 25, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def heic(image: Image.Image, **options: object) -> bytes:
    library = pytest.importorskip("pillow_heif", reason="pillow-heif, which reads HEIC, is not installed")
    stream = io.BytesIO()
    library.encode(image.mode, image.size, image.tobytes(), stream, quality=95, chroma=444, **options)
    return stream.getvalue()


@cache
def usual() -> bytes:
    """The encoder makes a pool of threads for each photo."""
    return heic(picture())


def far(pixels: np.ndarray, image: Image.Image) -> float:
    return float(np.abs(pixels.astype(int) - np.asarray(image).astype(int)).mean())


@pytest.mark.parametrize("size", [(200, 160), (97, 75), (65, 301)])
def test_a_heic_photo_is_read(size: tuple[int, int]) -> None:
    image = picture(*size)
    assert far(decode(heic(image)), image) < 4


def test_it_stands_upright() -> None:
    image = picture()
    exif = Image.Exif()
    exif[0x0112] = 6
    assert far(decode(heic(image, exif=exif.tobytes())), image.transpose(Image.Transpose.ROTATE_270)) < 4


def test_transparency_is_laid_on_white() -> None:
    image = picture().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    assert decode(heic(image)).min() > 250


def test_nothing_is_registered_with_pillow() -> None:
    data = usual()
    decode(data)
    assert "HEIF" not in Image.OPEN


def test_the_limits_hold() -> None:
    data = usual()
    with pytest.raises(BadImage, match="too many pixels: 200 x 160"):
        decode(data, max_pixels=100)
    for damaged in (data[: len(data) // 2], data[:-200] + bytes(200)):
        with pytest.raises(BadImage, match="damaged|truncated HEIC"):
            decode(damaged)


@pytest.mark.parametrize("data", [HEADER, HEADER + b"x" * 200, b"\xff\xff\xff\xffftypheic", b"\0\0\0\0ftypheix"])
def test_without_the_library_the_reason_names_it(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BadImage, match="a HEIC photo, which needs pillow-heif, not installed here: pip install pil"):
        decode(data)


def test_without_avif_in_pillow_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_FORMATS", ("JPEG", "PNG"))
    with pytest.raises(BadImage, match=r"an AVIF photo, which needs Pillow 11.3 or newer: pip install --upgrade"):
        decode(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + b"x" * 200)


def test_a_photo_that_lacked_the_library_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(usual())
    backbone = BackboneOptions(backbone="test_resnet", weights="random:0", size=32)
    options = ExtractOptions(cache=tmp_path / "features", runtime="torch", device="cpu")

    def rejects() -> list[str]:
        return [reject.reason for reject in extract([path], backbone, options).rejects]

    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pillow_heif", None)
        assert ["pillow-heif" in reason for reason in rejects()] == [True]
    assert rejects() == []
