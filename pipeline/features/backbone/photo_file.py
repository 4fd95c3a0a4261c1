"""The file of a photo before it is decoded: only regular files are read, and what the format can prove is checked.

A decoder shows what it can of a damaged file. Half a picture, or one with other pixels, must never become a vector, so
what a file says about itself is compared first: checksums, end marks, the number of passes over the picture.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import BadImage, TooCostly
from pipeline.features.backbone.heif import is_heif
from pipeline.features.backbone.limits import MAX_DECODED_BYTES, MAX_FILE_BYTES, MAX_READS, MAX_SCANS
from pipeline.system import NotRegular, open_regular

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_AVIF, _ZEROS = (b"ftypavif", b"ftypavis"), 64
_START_OF_SCAN, _END_OF_IMAGE, _SEQUENTIAL = 0xDA, 0xD9, (0xC0, 0xC1, 0xC9)
_COMPRESSION, _DEFLATED, _STEP = 259, (8, 32946), 2**20
_STRIPS = ((273, 279), (324, 325))  # offsets and lengths of strips, of tiles
# Markers that end coded data: neither a stuffed byte (00), nor a restart (D0 to D7), nor a fill byte (FF).
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")


def read_photo(path: str | os.PathLike[str] | Callable[[], bytes]) -> bytes:
    """The bytes of a photo, read once.

    Args:
        path: A regular file, or a link to one; a pipe, a device or a folder is refused without waiting for it. A photo
            that lies elsewhere gives its bytes when it is called.

    Raises:
        BadImage: it is no regular file, or a larger one than `MAX_FILE_BYTES`; the text is the reason. What is called
            may raise it for reasons of its own.
        OSError: the file cannot be read.
    """
    if callable(path):
        data = path()
        check_length(len(data))
        return data
    try:
        file = open_regular(Path(path))
    except NotRegular as error:
        raise BadImage(str(error)) from None
    with file:
        check_length(os.fstat(file.fileno()).st_size)
        return file.read()


def check_length(size: int) -> None:
    """Refuse a photo of more bytes than are held in memory.

    Raises:
        TooCostly: the file, or what was given in its place, is larger than `MAX_FILE_BYTES`.
    """
    if size > MAX_FILE_BYTES:
        raise TooCostly(f"too large a file: {size} bytes are more than the limit of {MAX_FILE_BYTES}")


def check_file(data: bytes) -> None:
    """Compare what the bytes of a photo say about themselves, as far as their format does.

    Raises:
        BadImage: a checksum is wrong, the end is missing, or the file asks for more work than the limits allow.
    """
    if data.startswith(_PNG):
        _check_png(data)
    elif data.startswith(_JPEG) and _scans(data) > MAX_SCANS:
        raise TooCostly(f"too many scans: the JPEG has more than the limit of {MAX_SCANS}")
    # Coded AV1 and HEVC end in a bit that is set. Lossy and lossless WebP may well end in thousands of zeros.
    elif (data[4:12] in _AVIF or is_heif(data)) and not data[-_ZEROS:].strip(b"\0"):
        raise BadImage(f"truncated {'HEIC' if is_heif(data) else 'AVIF'}: it ends in zeros")


def check_deflated_tiff(data: bytes, tags: Mapping[int, Any]) -> None:
    """Compare the checksum at the end of each deflated strip or tile; the decoder stops as soon as it has the pixels.

    Args:
        data: The bytes of the photo.
        tags: The directory of its first page, by tag number.

    Raises:
        BadImage: a strip has no end, or all of them are larger than any picture within the limits.
        zlib.error: a strip is damaged.
    """
    if tags.get(_COMPRESSION) not in _DEFLATED:
        return
    left = MAX_DECODED_BYTES
    for offsets, lengths in _STRIPS:
        for at, length in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False):
            stream, piece = zlib.decompressobj(), data[at : at + length]
            while piece and not stream.eof:
                left -= len(stream.decompress(piece, _STEP))
                piece = stream.unconsumed_tail
                if left < 0:
                    raise TooCostly(f"too much memory: its strips have more than {MAX_DECODED_BYTES} bytes")
            if not stream.eof:
                raise BadImage("truncated TIFF: a strip has no end")


def _check_png(data: bytes) -> None:
    view, at = memoryview(data), len(_PNG)
    for _ in range(MAX_READS):
        end = at + 12 + int.from_bytes(view[at : at + 4])
        if at + 12 > len(data) or end > len(data):
            raise BadImage("truncated PNG: its end is missing")
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise BadImage(f"damaged PNG: the checksum of the chunk at byte {at} does not fit its content")
        if data[at + 4 : at + 8] == b"IEND":
            return
        at = end
    raise TooCostly(f"too many parts: the PNG has more chunks than the limit of {MAX_READS}")


def _scans(data: bytes) -> int:
    """At least as many scans as the decoder makes of a JPEG, unless both are within the limit."""
    scans = components = 0
    at = 2
    while scans <= MAX_SCANS and (match := _MARKER.search(data, at)):
        marker, at = match[1][0], match.end()
        if marker == _END_OF_IMAGE:
            break
        if marker in _SEQUENTIAL:
            components = data[at + 7] if at + 7 < len(data) else 0
        if marker == _START_OF_SCAN:
            scans += 1
            # Most JPEGs show all components in their one scan, and the decoder refuses a second one. Of the others it
            # is faster to count the bytes than to follow the markers, and never gives less.
            if scans == 1 and (bytes([components]) == data[at + 2 : at + 3] or data.count(b"\xff\xda") <= MAX_SCANS):
                break
        at += int.from_bytes(data[at : at + 2])
    return scans


def open_bytes(data: bytes) -> io.BytesIO:
    """A stream over the bytes of a photo that can be read `MAX_READS` times; the next reading raises `BadImage`.

    Some headers are loops of as many steps as they like, in formats whose readers are written in Python.
    """
    # A piece has at least one byte.
    return _BoundedStream(data) if len(data) > MAX_READS else io.BytesIO(data)


class _BoundedStream(io.BytesIO):
    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise TooCostly(f"too many parts: the file has more pieces than the limit of {MAX_READS}")
        return super().read(size)
