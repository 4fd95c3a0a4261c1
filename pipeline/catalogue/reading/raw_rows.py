"""What every CSV reader shares: raw rows, regular rows of cells, names of attributes and columns."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipeline.catalogue.cells import UNKNOWN_TOKENS, Cell, Coded, single_value
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.reading.photos import Folder
from pipeline.catalogue.reading.tables.table import Table, position
from pipeline.errors import CatalogueError, nearest
from pipeline.options import DataOptions
from pipeline.system import wrong_text

NONE = "none"
"""The word for "do not", where leaving the option out means "find out"."""

MOST_CELLS = 2**28
"""Rows times attributes of the largest catalogue: each cell takes four bytes, and as many again while it is read."""


def check_cells(path: Path, rows: int, columns: int) -> None:
    """CatalogueError for more cells than are held in memory, which a small file with many attributes may ask for."""
    if rows * columns > MOST_CELLS:
        raise CatalogueError(
            f"{path}: {rows} rows of {columns} attributes are more than the {MOST_CELLS} cells that are held in "
            "memory. Name the attributes to read with --attributes, or read the rows in parts."
        )


class SeveralPhotos(Protocol):
    """What says which photos a row has, where it may have several."""

    def add(self, row: list[str]) -> None:
        """Take what it needs from the next row."""
        ...

    def photos(self, raw: RawRows, folder: Folder) -> list[tuple[str, ...]]:
        """The names of each row's photos; what is odd about them becomes a finding of `raw`."""
        ...

    def product(self, name: str) -> str:
        """What the product of a row is called, of which `name` stands for the row."""
        ...


@dataclass
class RawRows:
    """Rows as the data states them, before any look at the photos.

    Attributes:
        names: (n,) file names, repeats included.
        lines: (n,) their line numbers in the file.
        columns: Per attribute, (n,) cells.
        offered: Every attribute of the data, those that are not in use included.
        categories, groups: (n,) or None.
        category_attribute: The attribute that holds the category, if there is one.
        lists: Attributes whose cells are lists in the file; as text they are joined.
        several: What says which photos a row has, where it may have several and is not yet one row per photo.
        owners: (n,) what the product is called whose row was spread over its photos; None where rows have one photo.
        products: Columns that may name products, where nobody said which does; (n,) each.
    """

    names: list[str] = field(default_factory=list)
    lines: array[int] = field(default_factory=lambda: array("q"))
    columns: dict[str, Coded[Cell]] = field(default_factory=dict)
    offered: tuple[str, ...] = ()
    categories: Coded[str | None] | None = None
    category_attribute: str | None = None
    groups: Coded[str | None] | None = None
    products: dict[str, Coded[str | None]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    lists: frozenset[str] = frozenset()
    several: SeveralPhotos | None = None
    owners: Coded[str | None] | None = None


class WrongTextError(ValueError):
    """A cell holds what no value can; the text says what."""


class TextColumn:
    """Builds the column of an attribute with at most one value; each distinct text is looked at once."""

    def __init__(self, position: int, unknown: frozenset[str]) -> None:
        self.position = position
        self._unknown = unknown
        self._codes = array("i")
        self._seen: dict[str, int] = {}
        self._table: dict[Cell, int] = {}

    def add(self, row: list[str]) -> None:
        """Append the cell of this row; WrongTextError for a text that is no value."""
        text = row[self.position]
        code = self._seen.get(text)
        if code is None:
            if wrong := wrong_text(text):
                raise WrongTextError(wrong)
            cell = single_value(text, self._unknown)
            code = self._seen[text] = self._table.setdefault(cell, len(self._table))
        self._codes.append(code)

    def finish(self) -> Coded[Cell]:
        """The column so far."""
        return Coded.of(self._codes, self._table)


def first_values(column: Coded[Cell]) -> Coded[str | None]:
    """A single-valued column as plain text, None for unknown."""
    return Coded(column.codes, (cell[0] if cell else None for cell in column.table))


def read_rows(
    table: Table, raw: RawRows, name: Callable[[list[str]], str], columns: Sequence[TextColumn]
) -> Iterator[list[str]]:
    """Fill names, lines and columns from the table, giving out each row for whatever else a format reads.

    A row with more cells than the header is dropped, for its labels may stand in the wrong columns;
    in a row with fewer the missing cells are empty, so unknown. Both are reported.

    Raises:
        CatalogueError: A cell of these columns is no text that can be written; with its line.
    """
    width = len(table.header)
    for line, row in table.rows():
        check_cells(table.path, len(raw.lines), len(columns))
        if len(row) != width:
            if any(row[width:]):
                detail = f"line {line} has {len(row)} cells, the header {width}; dropped"
                raw.findings.append(Finding("ragged-row", "", detail))
                continue
            if len(row) < width:
                detail = f"line {line} has {len(row)} cells, the header {width}; the missing ones are unknown"
                raw.findings.append(Finding("ragged-row", "", detail))
                row = [*row, *[""] * (width - len(row))]
        raw.names.append(name(row))
        raw.lines.append(line)
        for column in columns:
            try:
                column.add(row)
            except WrongTextError as error:
                place = f"{table.path}, line {line}, column {table.header[column.position]!r}"
                raise CatalogueError(f"{place}: the cell holds {error}; remove it there.") from None
        yield row


def unknown_tokens(options: DataOptions) -> frozenset[str]:
    """Every spelling of an unknown label."""
    return UNKNOWN_TOKENS | {t.strip() for t in options.unknown}


def need_column(table: Table, name: str, why: str) -> int:
    """Position of a column, or a CatalogueError with the nearest column."""
    position = table.column(name)
    if position is None:
        there = hint(name, filter(None, table.header))
        raise CatalogueError(f"{table.path}: there is no column {name!r}, but {why}.{there}")
    return position


def group_column(table: Table, name: str | None) -> int | None:
    """Position of the column that `--group-column` names, None when it names none, or says "none"."""
    return None if name is None or name == NONE else need_column(table, name, "--group-column asks for it")


def choose_attributes(wanted: Sequence[str], offered: Sequence[str], extra: Sequence[str] = ()) -> tuple[str, ...]:
    """The attributes to read: those of `--attributes` in its order, else all on offer (`extra` only when asked for)."""
    if not wanted:
        return tuple(offered)
    there = (*offered, *extra)
    chosen = []
    for attribute in wanted:
        place = position(there, attribute)
        if place is None:
            near = hint(attribute, [*offered, *extra])
            raise CatalogueError(f"--attributes: there is no attribute {attribute!r} in this catalogue.{near}")
        chosen.append(there[place])
    return tuple(dict.fromkeys(chosen))


def hint(name: str, known: Iterable[str]) -> str:
    """A hint with the closest known name, and what there is."""
    names = list(known)
    near = nearest(name, names)
    guess = f" Did you mean {near!r}?" if near else ""
    return f"{guess} There are: {', '.join(names[:60])}{', ...' if len(names) > 60 else ''}."
