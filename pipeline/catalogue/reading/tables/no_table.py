"""Files that are no table, recognised by how they begin, so that nobody is told of odd column names in a photo."""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import CatalogueError
from pipeline.system import open_regular

_LOOKED_AT = 1024
_DIRECTORY = 2**16
"""Bytes at the end of an archive that name what is in it."""

_PHOTO = "a photo"
_TABLE = "a table of labels (CSV, .xlsx or .parquet), or a folder with a sub-folder of photos per class"
_BEGINNINGS: Mapping[bytes, str] = {
    b"\xff\xd8\xff": _PHOTO,
    b"\x89PNG\r\n": _PHOTO,
    b"GIF8": _PHOTO,
    b"II*\0": _PHOTO,
    b"MM\0*": _PHOTO,
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b\x08": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!\x1a": "a RAR archive",
    b"PAR1": "a Parquet file",
    b"\xd0\xcf\x11\xe0": "an Office file of before 2007",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3\0": "an SQLite database",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
}
_CONTROLS = bytes({*range(32)} - {*b"\t\n\v\f\r\x1a\x1b"})
"""Characters that no table in an 8-bit writing holds."""


def refuse_no_table(path: Path, own: str = "") -> None:
    """Say what a file is, if it is certainly no CSV file, and what to give instead.

    Args:
        path: The file; one that cannot be opened is for its reader to report.
        own: What the file may be, because its ending says so, in the words of `_BEGINNINGS`.

    Raises:
        CatalogueError: It is something else.
    """
    try:
        with open_regular(path) as file:
            start = file.read(_LOOKED_AT)
            file.seek(-min(path.stat().st_size, _DIRECTORY), os.SEEK_END)
            end = file.read(_DIRECTORY)
    except OSError:
        return
    what = _what(start)
    if what and what != own:
        if what == "a ZIP archive" and b"xl/workbook" in end:
            what = "an Excel workbook"
        raise CatalogueError(f"{path} is {what}. {_instead(what, path)}")


def _what(start: bytes) -> str:
    folded = start.lstrip().lower()
    for beginning, what in _BEGINNINGS.items():
        if start.startswith(beginning) or (beginning[:1] == b"<" and folded.startswith(beginning)):
            return what
    if start[4:8] == b"ftyp" or (start[:4] == b"RIFF" and start[8:12] == b"WEBP"):
        return _PHOTO
    if b"\0" in start[:8] or start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ""  # UTF-16, in which letters have such bytes
    controls = len(start) - len(start.translate(None, _CONTROLS))
    return "no text" if 20 * controls > len(start) else ""


def _instead(what: str, path: Path) -> str:
    renamed = {"an Excel workbook": ".xlsx", "a Parquet file": ".parquet"}
    if what in renamed:
        return f"Give it that ending: {path.with_suffix(renamed[what]).name}."
    if what == _PHOTO:
        return f"--data takes {_TABLE}; --images says where the photos are, and predict takes photos themselves."
    if what == "an Office file of before 2007":
        return "Save the table as .xlsx or CSV."
    return f"--data takes {_TABLE}{'; unpack it first' if what.endswith('archive') else ''}."
