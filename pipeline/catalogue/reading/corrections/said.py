"""One label that somebody gave, and the plain CSV file of such labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.catalogue.reading.tables.opened import open_table
from pipeline.errors import CatalogueError
from pipeline.spreadsheet import write_rows
from pipeline.system import whole_file

COLUMNS = ("photo", "attribute", "value", "by", "at")
"""What every file of labels has; `by` and `at` may lack, and other columns are for people."""

_FORMER = {"photo": "filename", "attribute": "key"}


@dataclass(frozen=True)
class Said:
    """What one person said of one attribute of one photo.

    Attributes:
        photo: Its name, as the catalogue has it or as the label tool showed it.
        value: As it stands in a cell: `none` for no value, #N/A for unknown, several values joined by `|`.
        by: Who said it, "" where that is not known.
        at: When, as the file has it.
        source: The file and the place in it.
        last: Whether it counts whatever comes after it, as a label tool's ground truth does.
    """

    photo: str
    attribute: str
    value: str
    by: str = ""
    at: str = ""
    source: str = ""
    last: bool = False


def read_said(path: Path) -> tuple[tuple[Said, ...], int]:
    """The labels of a CSV file, and how many of its lines have no value yet.

    Raises:
        CatalogueError: It is no table, or lacks a column.
    """
    table = open_table(path)
    columns = {name: table.column(name) for name in COLUMNS}
    columns |= {name: table.column(old) for name, old in _FORMER.items() if columns[name] is None}
    if lacking := [name for name in COLUMNS[:3] if columns[name] is None]:
        raise CatalogueError(
            f"--labels {path}: no column {', '.join(lacking)}; it has {', '.join(table.header)}. Expected a row per "
            "photo and attribute, as `next` writes them; a catalogue is given as --data"
        )
    said, left = [], 0
    for number, row in table.rows():
        cells = [*row, *[""] * (len(table.header) - len(row))]
        texts = {name: cells[place].strip() for name, place in columns.items() if place is not None}
        if texts["value"] and texts["photo"] and texts["attribute"]:
            source = f"{path.name} line {number}"
            photo, attribute, value, by, at = (texts.get(name, "") for name in COLUMNS)
            said.append(Said(photo, attribute, value, by, at, source))
        left += not texts["value"]
    return tuple(said), left


def write_said(path: Path, said: Iterable[Said]) -> None:
    """Write labels as a CSV file that `read_said` reads, whole or not at all."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        header = (*COLUMNS, "source")
        write_rows(file, [header, *([getattr(each, name) for name in header] for each in said)])
