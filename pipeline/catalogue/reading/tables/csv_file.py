"""A CSV file as a table, whatever its encoding, line ends or delimiter."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.catalogue.findings import Finding
from pipeline.catalogue.reading.tables.table import Rows, Table, check_header
from pipeline.errors import CatalogueError
from pipeline.spreadsheet import plain
from pipeline.system import open_regular, parsed

_CHUNK = 1 << 20
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NAMES = {"cp1252": "Windows-1252", "latin-1": "Latin-1"}
_DELIMITERS = ",;\t|"
_SAMPLED = 20
_STATED = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
"""The first line by which Excel learns of the delimiter."""


def open_csv(path: Path) -> Table:
    """Read the header of a CSV file.

    UTF-8 (with or without a byte order mark) and UTF-16 are recognised; anything else is read as Windows-1252, or
    Latin-1 where bytes have no meaning in that, and reported. The delimiter is the one of comma, semicolon, tab and bar
    by which most of the first rows have the header's width, and among equals the one with the most columns.

    Raises:
        CatalogueError: The file is unreadable, no regular file, empty, or names a column twice.
    """
    with parsed(CatalogueError, *_unreadable(path)):
        encoding = _encoding(path)
        with _open_text(path, encoding) as file:
            first = file.readline()
            stated = _STATED.fullmatch(first)
            sample = list(itertools.islice(file, _SAMPLED))
        if stated is None:
            sample = [first, *sample]
        layout = _Layout(encoding, stated[1] if stated else _delimiter(sample), int(stated is not None))
        with layout.opened(path) as reader:
            header = tuple(plain(h.strip()) for h in next(reader, []))
    findings = check_header(path, header)
    if encoding in _NAMES:
        detail = f"not valid UTF-8; read as {_NAMES[encoding]}, so check accented letters"
        findings = (Finding("encoding", path.name, detail), *findings)
    return Table(path, header, lambda: _rows(path, layout), findings)


@dataclass(frozen=True)
class _Layout:
    """How the text of a file is read.

    Attributes:
        skipped: Lines before the header.
    """

    encoding: str
    delimiter: str
    skipped: int

    @contextmanager
    def opened(self, path: Path) -> Iterator[Any]:
        """A strict `csv.reader` of the rows, header first."""
        with _open_text(path, self.encoding) as file:
            for _ in range(self.skipped):
                file.readline()
            yield csv.reader(file, delimiter=self.delimiter, strict=True)


def _rows(path: Path, layout: _Layout) -> Rows:
    """The rows below the header.

    A cell that was guarded against spreadsheets is what it stands for: predictions can be read as a catalogue.
    """
    with parsed(CatalogueError, *_unreadable(path)), layout.opened(path) as reader:
        try:
            next(reader, None)
            for row in reader:
                if row:
                    yield reader.line_num + layout.skipped, [plain(cell) for cell in row]
        except csv.Error as error:
            raise CatalogueError(
                f"{path}, line {reader.line_num + layout.skipped}: {error}. Is a quotation mark left open there? "
                "Every quoted cell must be closed, with quotation marks inside it doubled."
            ) from error
        except UnicodeError as error:
            raise CatalogueError(
                f"{path}, after line {reader.line_num + layout.skipped}: {error}. The file begins as {layout.encoding} "
                "and must be that to its end: was it cut off, or two files joined?"
            ) from error


def _unreadable(path: Path) -> tuple[str, str]:
    return f"{path}: cannot be read as a CSV file (", ")."


def _open_text(path: Path, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(open_regular(path), encoding=encoding, newline="")


def _encoding(path: Path) -> str:
    with open_regular(path) as file:
        start = file.read(8)
    if start.startswith(_UTF16):
        return "utf-16"
    for zeros, others, encoding in ((1, 0, "utf-16-le"), (0, 1, "utf-16-be")):
        if len(start) == 8 and not any(start[zeros::2]) and all(start[others::2]):
            return encoding  # letters of the header, without a byte order mark
    return next(name for name in ("utf-8-sig", "cp1252", "latin-1") if _decodes(path, name))


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with open_regular(path) as file:
        try:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _delimiter(lines: list[str]) -> str:
    def fit(delimiter: str) -> tuple[float, int]:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:
            return 0.0, 0
        columns = widths[0] if widths else 0
        return (sum(width == columns for width in widths) / len(widths), columns) if columns > 1 else (0.0, 0)

    return max(_DELIMITERS, key=fit)
