"""A CSV file as a header and rows of text, whatever its encoding, line ends or delimiter."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.catalogue.findings import Finding
from pipeline.errors import CatalogueError
from pipeline.spreadsheet import plain
from pipeline.system import open_regular, parsed, wrong_text

_CHUNK = 1 << 20
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Table:
    """A CSV file whose header is read and whose rows are read on demand.

    Attributes:
        header: Column names, stripped; "" for a column without a name.
        findings: What was odd about the file itself.
    """

    path: Path
    header: tuple[str, ...]
    encoding: str
    delimiter: str
    findings: tuple[Finding, ...]

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """(line number, cells as text) of each row after the header; blank lines are skipped.

        A cell that was guarded against spreadsheets is what it stands for: predictions can be read as a catalogue.
        """
        with parsed(CatalogueError, *_unreadable(self.path)), _open_text(self.path, self.encoding) as file:
            reader = csv.reader(file, delimiter=self.delimiter, strict=True)
            try:
                next(reader, None)
                for row in reader:
                    if row:
                        yield reader.line_num, [plain(cell) for cell in row]
            except csv.Error as error:
                raise CatalogueError(
                    f"{self.path}, line {reader.line_num}: {error}. Is a quotation mark left open there? "
                    "Every quoted cell must be closed, with quotation marks inside it doubled."
                ) from error
            except UnicodeError as error:
                raise CatalogueError(
                    f"{self.path}, after line {reader.line_num}: {error}. The file begins as {self.encoding} and must "
                    "be that to its end: was it cut off, or two files joined?"
                ) from error

    def column(self, name: str) -> int | None:
        """Position of the column, compared without regard to case; None if there is none."""
        names = [h.casefold() for h in self.header]
        return names.index(name.casefold()) if name.casefold() in names else None


def open_table(path: Path) -> Table:
    """Read the header of a CSV file.

    UTF-8 (with or without a byte order mark) and UTF-16 are recognised; anything else is read as Latin-1 and reported.
    The delimiter is the comma, or else the semicolon or tab if the header has no comma.

    Raises:
        CatalogueError: The file is missing, unreadable, no regular file, empty, or names a column twice.
    """
    findings: list[Finding] = []
    if not path.exists():
        raise CatalogueError(f"{path}: no such file. --data takes a CSV file or a folder.")
    with parsed(CatalogueError, *_unreadable(path)):
        encoding = _encoding(path)
        with _open_text(path, encoding) as file:
            first = file.readline()
            file.seek(0)
            delimiter = _delimiter(first)
            header = tuple(plain(h.strip()) for h in next(csv.reader(file, delimiter=delimiter), []))
    _check_header(path, header)
    if encoding == "latin-1":
        findings.append(Finding("encoding", path.name, "not valid UTF-8; read as Latin-1, so check accented letters"))
    if "" in header:
        detail = f"{header.count('')} column(s) without a name are left out"
        findings.append(Finding("unnamed-column", path.name, detail))
    return Table(path, header, encoding, delimiter, tuple(findings))


def _check_header(path: Path, header: tuple[str, ...]) -> None:
    if not any(header):
        raise CatalogueError(f"{path}: the first line is empty; a line with the column names was expected.")
    for number, name in enumerate(header, 1):
        if wrong := wrong_text(name):
            raise CatalogueError(
                f"{path}, line 1, column {number}: {wrong} in the name. Is it UTF-16 without a byte order mark? "
                "Save it as UTF-8."
            )
    folded = Counter(h.casefold() for h in header if h)
    twice = sorted(name for name, times in folded.items() if times > 1)
    if twice:
        raise CatalogueError(f"{path}: the header names a column twice: {', '.join(twice)}. Rename one of them.")


def _unreadable(path: Path) -> tuple[str, str]:
    return f"{path}: cannot be read as a CSV file (", ")."


def _open_text(path: Path, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(open_regular(path), encoding=encoding, newline="")


def _encoding(path: Path) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_regular(path) as file:
        chunk = file.read(_CHUNK)
        if chunk.startswith(_UTF16):
            return "utf-16"
        try:
            while chunk:
                decoder.decode(chunk)
                chunk = file.read(_CHUNK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8-sig"


def _delimiter(header: str) -> str:
    if "," in header:
        return ","
    return max(";\t", key=header.count) if any(d in header for d in ";\t") else ","
