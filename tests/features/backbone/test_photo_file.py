"""Damaged photos are refused, no photo costs more than the limits, and only regular files are opened."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import BadImage
from pipeline.features.backbone.decoding import decode
from pipeline.features.backbone.limits import MAX_FILE_BYTES, MAX_READS, MAX_SCANS
from pipeline.features.backbone.photo_file import read_photo

ROOT = Path(__file__).resolve().parents[3]


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def picture(mode: str = "RGB", width: int = 200, height: int = 160) -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (20, 25, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def grey_progressive(scans: int, side: int = 64) -> bytes:
    """A grey JPEG of so many scans: one for the mean of each block, then empty ones, one per coefficient and bit."""
    blocks = (side // 8) ** 2
    data = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
    data += segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    data += segment(0xC4, b"\0\1" + bytes(15) + b"\0") + segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")
    data += segment(0xDA, b"\1\1\0\0\0\0") + bytes(blocks // 8)
    steps = [(c, bit) for c in range(1, 64) for bit in range(13, -1, -1)]
    for coefficient, bit in steps[: scans - 1]:
        before = 0 if bit == 13 else bit + 1
        data += segment(0xDA, bytes([1, 1, 0, coefficient, coefficient, before << 4 | bit])) + b"\0\1"
    return data + b"\xff\xd9"


def three_scans_again(times: int) -> bytes:
    """A JPEG of one scan per component, all repeated; the decoder would follow each of them."""
    data = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
    data += segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 3) + b"\1\x11\0\2\x11\0\3\x11\0")
    data += segment(0xC4, b"\0\1" + bytes(15) + b"\0") + segment(0xC4, b"\x10\1" + bytes(15) + b"\0")
    scans = b"".join(segment(0xDA, bytes([1, component, 0, 0, 63, 0])) + b"\x3f" for component in (1, 2, 3))
    return data + scans * times + b"\xff\xd9"


class TestDamage:
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    @pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["sequential", "progressive"])
    @pytest.mark.parametrize("orientation", [1, 6])
    def test_a_jpeg_with_a_zeroed_block_is_refused(self, mode, options, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        sound = encoded(picture(mode), "JPEG", quality=95, exif=exif, **options)
        assert decode(sound).shape == ((160, 200, 3) if orientation == 1 else (200, 160, 3))
        middle = len(sound) // 2
        with pytest.raises(BadImage, match="damaged or truncated image: Corrupt JPEG data"):
            decode(sound[:middle] + bytes(512) + sound[middle + 512 :])

    @pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["sequential", "progressive"])
    @pytest.mark.parametrize("lost", [1, 2, 60])
    def test_a_jpeg_with_a_zeroed_or_lost_tail_is_refused(self, options, lost):
        sound = encoded(picture(), "JPEG", quality=90, **options)
        for damaged in (sound[:-lost], sound[:-lost] + bytes(lost)):
            with pytest.raises(BadImage, match="damaged or truncated image"):
                decode(damaged)

    def test_the_first_picture_of_a_phones_double_file_is_checked_too(self):
        sound = encoded(picture(), "MPO", save_all=True, append_images=[picture("L")])
        assert np.array_equal(decode(sound), np.asarray(Image.open(io.BytesIO(sound))))
        at = sound.index(b"\xff\xda") + 400
        with pytest.raises(BadImage, match="Corrupt JPEG data"):
            decode(sound[:at] + bytes(300) + sound[at + 300 :])

    def test_no_flipped_bit_of_a_png_goes_unseen(self):
        sound = encoded(picture("P", 20, 16), "PNG", transparency=3)
        accepted = []
        for bit in range(8 * len(sound)):
            at = bit // 8
            try:
                decode(sound[:at] + bytes([sound[at] ^ 1 << bit % 8]) + sound[at + 1 :])
            except BadImage:
                continue
            accepted.append(bit)
        assert accepted == []

    def test_a_png_without_its_end_is_refused_and_junk_behind_it_is_not(self):
        sound = encoded(picture(), "PNG")
        for lost in (1, 2, 12, 40):
            with pytest.raises(BadImage, match="truncated"):
                decode(sound[:-lost])
        assert np.array_equal(decode(sound + b"junk"), decode(sound))

    def test_the_checksums_of_a_deflated_tiff_are_compared(self):
        sound = encoded(picture(), "TIFF", compression="tiff_adobe_deflate")
        with Image.open(io.BytesIO(sound)) as image:
            ends = [at + length for at, length in zip(image.tag_v2[273], image.tag_v2[279], strict=True)]
        decode(sound)
        for end in ends:
            with pytest.raises(BadImage, match="damaged or truncated image: .*incorrect data check"):
                decode(sound[: end - 1] + bytes([sound[end - 1] ^ 1]) + sound[end:])
            with pytest.raises(BadImage, match=r"damaged or truncated|truncated TIFF"):
                decode(sound[: end - 40] + bytes(40) + sound[end:])

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("WEBP", {}),
            ("WEBP", {"lossless": True}),
            ("GIF", {}),
            ("BMP", {}),
            ("PPM", {}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("TIFF", {"compression": "tiff_adobe_deflate"}),
            ("JPEG2000", {}),
            ("AVIF", {}),
        ],
    )
    @pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
    def test_half_a_photo_of_any_other_format_is_refused(self, kind, options, keep):
        if kind not in Image.SAVE:
            pytest.skip(f"this Pillow has no {kind}")
        sound = encoded(picture(), kind, **options)
        decode(sound)
        with pytest.raises(BadImage):
            decode(sound[: int(keep * len(sound))])

    @pytest.mark.skipif("AVIF" not in Image.SAVE, reason="this Pillow has no AVIF")
    def test_an_avif_with_a_zeroed_tail_is_refused(self):
        sound = encoded(picture(), "AVIF")
        with pytest.raises(BadImage, match="truncated AVIF"):
            decode(sound[:-200] + bytes(200))

    def test_an_intact_webp_may_end_in_zeros(self):
        sound = encoded(Image.new("RGB", (500, 500)), "WEBP", quality=100, method=0)
        assert sound.endswith(bytes(500))
        assert decode(sound).max() <= 1


class TestCost:
    def test_scans_of_a_jpeg_are_counted_before_it_is_decoded(self):
        assert decode(grey_progressive(MAX_SCANS)).shape == (64, 64, 3)
        with pytest.raises(BadImage, match=f"too many scans: the JPEG has more than the limit of {MAX_SCANS}"):
            decode(grey_progressive(MAX_SCANS + 1))

    def test_repeated_scans_of_a_sequential_jpeg_are_counted_too(self):
        assert decode(three_scans_again(1)).shape == (8, 8, 3)
        with pytest.raises(BadImage, match="too many scans"):
            decode(three_scans_again(MAX_SCANS))

    @pytest.mark.parametrize("options", [{}, {"progressive": True}])
    def test_scans_of_other_pictures_in_the_file_do_not_count(self, options):
        sound = encoded(picture(), "JPEG", **options)
        assert np.array_equal(decode(sound + MAX_SCANS * sound), decode(sound))

    def test_memory_is_bounded_before_it_is_used(self):
        # 34 bytes that say 9,000 x 9,000: the header of a lossless WebP holds width - 1 and height - 1 in 14 bits each.
        data = bytearray(encoded(Image.new("RGB", (2, 2)), "WEBP", lossless=True))
        assert data[20] == 0x2F
        alpha = int.from_bytes(data[21:25], "little") >> 28
        data[21:25] = (8999 | 8999 << 14 | alpha << 28).to_bytes(4, "little")
        with pytest.raises(BadImage, match="too much memory: decoding 9000 x 9000 pixels of WEBP"):
            decode(bytes(data))

    def test_a_small_tiff_of_a_huge_tile_is_refused(self):
        tags = [(256, 100), (257, 100), (258, 8), (259, 8), (262, 1), (277, 1), (322, 20_000), (323, 20_000)]
        tags += [(324, 8 + 2 + 12 * 10 + 4), (325, 4)]
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + zlib.compress(b"")
        with pytest.raises(BadImage, match="too much memory"):
            decode(data)

    def test_a_header_of_endless_pieces_is_given_up(self):
        photo = encoded(picture(), "JPEG")
        start = time.perf_counter()
        with pytest.raises(BadImage, match=f"too many parts: the file has more pieces than the limit of {MAX_READS}"):
            decode(photo[:2] + MAX_READS * segment(0xFE, b"") + photo[2:])
        assert time.perf_counter() - start < 20

    def test_a_png_of_endless_chunks_is_given_up(self):
        photo = encoded(picture("L"), "PNG")
        empty = struct.pack(">I", 0) + b"noTe" + struct.pack(">I", zlib.crc32(b"noTe"))
        with pytest.raises(BadImage, match="too many parts"):
            decode(photo[:33] + MAX_READS * empty + photo[33:])


class TestReading:
    def test_a_regular_file_or_a_link_to_one_is_read(self, tmp_path):
        (tmp_path / "a.jpg").write_bytes(b"content")
        (tmp_path / "b.jpg").symlink_to("a.jpg")
        assert read_photo(tmp_path / "a.jpg") == read_photo(str(tmp_path / "b.jpg")) == b"content"

    @pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
    def test_nothing_else_is_waited_for(self, kind, tmp_path):
        path = tmp_path / "photo.jpg"
        listener = socket.socket(socket.AF_UNIX)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            listener.bind(os.path.relpath(path))
        elif kind == "device":
            path = Path("/dev/zero")
        else:
            path.mkdir()
        reasons: list[str] = []

        def read() -> None:
            try:
                read_photo(path)
            except (BadImage, OSError) as error:
                reasons.append(str(error))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(20)
        listener.close()
        assert reasons == ["not a regular file"]

    def test_a_file_larger_than_the_limit_is_not_read(self, tmp_path):
        path = tmp_path / "sparse.jpg"
        with path.open("wb") as stream:
            stream.truncate(12 * 2**30)
        with pytest.raises(BadImage, match=f"too large a file: {12 * 2**30} bytes .* limit of {MAX_FILE_BYTES}"):
            read_photo(path)


def test_no_library_writes_to_stderr(tmp_path):
    lzw = encoded(picture(), "TIFF", compression="tiff_lzw")
    deflate = encoded(picture(), "TIFF", compression="tiff_adobe_deflate")
    photos = [lzw[:9000] + bytes(512) + lzw[9512:], deflate[:200] + b"\xff" * 8 + deflate[208:], lzw[:-200]]
    photos.append(encoded(picture(), "JPEG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff broken"))
    photos.append(encoded(picture("P"), "PNG", transparency=bytes(range(256))))
    for number, photo in enumerate(photos):
        (tmp_path / str(number)).write_bytes(photo)
    source = """
import sys
from pathlib import Path
from pipeline.errors import BadImage
from pipeline.features.backbone.decoding import decode
for name in sys.argv[1:]:
    try:
        decode(Path(name).read_bytes())
    except BadImage as error:
        print(error)
"""
    command = [sys.executable, "-W", "always", "-c", source, *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 3
