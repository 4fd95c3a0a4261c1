"""CSV cells that no spreadsheet takes for a formula, and the way back: every CSV file of ours passes through here.

A text that a spreadsheet would run, such as `=1+1` or `-x.jpg`, is written with an apostrophe before it, which
spreadsheets take for "text follows"; one that already has apostrophes there gets one more. So every text comes back as
it was, and a text that nobody would run, such as `'80s`, `-5` or `-`, is written as it stands.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠].", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?%?")


def guarded(cell: Any) -> Any:
    """What is written for a cell: a text that a spreadsheet would run with an apostrophe before it, all else as it is.

    Args:
        cell: A text, or anything that `csv` writes, such as a number.
    """
    return f"'{cell}" if isinstance(cell, str) and _runs(cell) else cell


def plain(text: str) -> str:
    """The text that a cell stands for: `plain(guarded(text)) == text`, and a cell that was never guarded stays."""
    return text[1:] if text[:1] == "'" and _runs(text[1:]) else text


def _runs(text: str) -> bool:
    return _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None


class Lines:
    """A file whose lines end in a line feed, for writers that only quote the characters of the line end they are told.

    Told of a line feed alone, they would leave a carriage return in a text without quotes, and break the line there.
    """

    END = "\r\n"

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, line: str) -> int:
        """Write one line that ends in `END`."""
        return self.file.write(line.removesuffix(self.END) + "\n")


def write_rows(file: TextIO, rows: Iterable[Iterable[Any]]) -> None:
    """Write rows, the header among them, as CSV with guarded cells.

    Args:
        file: Opened with `newline=""`.
    """
    writer = csv.writer(Lines(file), lineterminator=Lines.END)
    writer.writerows([guarded(cell) for cell in row] for row in rows)


def read_dicts(file: TextIO) -> tuple[tuple[str, ...], Iterator[tuple[int, Mapping[str | None, Any]]]]:
    """The header of a CSV file, and (line number, row by column) of each row, with the texts that its cells stand for.

    A row with too few cells has None for those that lack, one with too many the rest under None, as `csv.DictReader`
    has it.

    Raises:
        csv.Error: The file is no CSV; the rows raise it too.
    """
    reader = csv.DictReader(file, strict=True)
    names: Sequence[str] = reader.fieldnames or ()
    reader.fieldnames = [plain(name) for name in names]

    def rows() -> Iterator[tuple[int, Mapping[str | None, Any]]]:
        for row in reader:
            cells = {name: plain(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
            yield reader.line_num, cells

    return tuple(plain(name) for name in names), rows()
