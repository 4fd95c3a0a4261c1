"""Which photos a row is about: the one that a column or a pattern names, or several of them."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.catalogue.findings import Finding
from pipeline.catalogue.reading.columns.numbers import plain_number
from pipeline.catalogue.reading.naming.shelf import ANY, Shelf, shown
from pipeline.catalogue.reading.photos import Folder
from pipeline.catalogue.reading.raw_rows import RawRows, SeveralPhotos, need_column, unknown_tokens
from pipeline.catalogue.reading.tables.table import Table
from pipeline.catalogue.splits import product_name
from pipeline.errors import CatalogueError, printable
from pipeline.options import DataOptions
from pipeline.system import wrong_text


@dataclass(frozen=True)
class ImageNames:
    """How the names of a row's photos are made.

    Attributes:
        of: The name of a row's only photo; what stands for the row, where it may have several.
        columns: Positions of the columns that say so, which are no attributes.
        several: Collects what says which photos a row has, where it may have several.
    """

    of: Callable[[list[str]], str]
    columns: frozenset[int]
    several: SeveralPhotos | None = None


def column_names(table: Table, options: DataOptions) -> ImageNames:
    """Photos named by the columns of `--image-column`; an empty cell of several names none."""
    columns = options.image_column
    whole = ",".join(columns)  # the name of one column may hold a comma
    if any(table.column(name) is None for name in columns) and table.column(whole) is not None:
        columns = (whole,)
    at = [need_column(table, name, "--image-column asks for it") for name in columns]
    if len(at) == 1:
        return ImageNames(lambda row: row[at[0]], frozenset(at))
    several = _Columns(at, unknown_tokens(options))
    return ImageNames(several.first, frozenset(at), several)


def pattern_names(table: Table, pattern: str) -> ImageNames:
    """Photos named by a pattern such as `{id}.jpg`, or matched by one such as `{id}/*`."""
    pieces = _pieces(table, pattern)
    columns = frozenset(position for _, position in pieces if position is not None)
    if not columns:
        raise CatalogueError(f'--image-name {pattern!r} names no column. Expected something like "{{id}}.jpg".')
    if not any("*" in literal for literal, _ in pieces):
        return ImageNames(lambda row: _filled(pieces, _values(row, columns)), columns)
    several = _Pattern([(literal.replace("*", ANY), position) for literal, position in pieces], columns)
    return ImageNames(several.first, columns, several)


_Pieces = list[tuple[str, int | None]]


def _pieces(table: Table, pattern: str) -> _Pieces:
    """A pattern as literals, each with the column behind it; only plain `{column}` fields are understood."""
    pieces: _Pieces = []
    if wrong := wrong_text(pattern):
        raise CatalogueError(f"--image-name {pattern!r} holds {wrong}; no file name can be made with it.")
    try:
        for literal, name, spec, conversion in string.Formatter().parse(pattern):
            if spec or conversion:
                raise ValueError("only plain {column} fields are understood")
            position = None if name is None else need_column(table, name, f"--image-name {pattern!r} asks for it")
            pieces.append((literal, position))
    except CatalogueError:
        raise
    except ValueError as error:
        raise CatalogueError(f'--image-name {pattern!r}: {error}. Expected something like "{{id}}.jpg".') from error
    return pieces


def _values(row: list[str], columns: frozenset[int]) -> dict[int, str]:
    """The values that a pattern takes from a row; none if one of them is missing."""
    values = {position: row[position].strip() for position in columns}
    return values if all(values.values()) else {}


def _filled(pieces: _Pieces, values: Mapping[int, str]) -> str:
    if not values:
        return ""
    return "".join(literal + ("" if position is None else values[position]) for literal, position in pieces)


class _Columns:
    """Rows whose photos are named by several columns."""

    def __init__(self, columns: Sequence[int], unknown: frozenset[str]) -> None:
        self._columns = columns
        self._unknown = unknown
        self._rows: list[tuple[str, ...]] = []

    def first(self, row: list[str]) -> str:
        return self._names(row)[0]

    def add(self, row: list[str]) -> None:
        self._rows.append(self._names(row))

    def photos(self, raw: RawRows, folder: Folder) -> list[tuple[str, ...]]:
        return self._rows

    def product(self, name: str) -> str:
        return product_name(name)

    def _names(self, row: list[str]) -> tuple[str, ...]:
        cells = [row[position] for position in self._columns]
        return tuple(dict.fromkeys(cell for cell in cells if cell.strip() not in self._unknown)) or ("",)


class _Pattern:
    """Rows whose photos are those that match a pattern."""

    def __init__(self, pieces: _Pieces, columns: frozenset[int]) -> None:
        self._pieces = pieces
        self._columns = columns
        self._rows: list[Mapping[int, str]] = []

    def first(self, row: list[str]) -> str:
        return shown(self._filled(self._usable(row)))

    def add(self, row: list[str]) -> None:
        self._rows.append(self._usable(row))

    def photos(self, raw: RawRows, folder: Folder) -> list[tuple[str, ...]]:
        """Per row the photos that match, else what was looked for; a number with a point (7.0) may be meant as 7."""
        shelf = Shelf(folder)
        patterns = [self._filled(values) for values in self._rows]
        found = [shelf.matching(pattern) for pattern in patterns]
        if not any(found):
            plain = [{at: plain_number(value) for at, value in values.items()} for values in self._rows]
            patterns = [self._filled(values) for values in plain]
            found = [shelf.matching(pattern) for pattern in patterns]
        doubtful = _doubtful(raw, folder, patterns, found)
        return [
            tuple(name for name in names if name not in doubtful) if names else (shown(pattern),)
            for pattern, names in zip(patterns, found, strict=True)
        ]

    def product(self, name: str) -> str:
        return name

    def _filled(self, values: Mapping[int, str]) -> str:
        return _filled(self._pieces, values)

    def _usable(self, row: list[str]) -> Mapping[int, str]:
        values = _values(row, self._columns)
        return {} if any(ANY in value for value in values.values()) else values


def _doubtful(raw: RawRows, folder: Folder, patterns: list[str], found: list[tuple[str, ...]]) -> set[str]:
    """The photos that match the patterns of several rows, each with a finding."""
    owners: dict[str, dict[str, int]] = {}
    for row, (pattern, names) in enumerate(zip(patterns, found, strict=True)):
        for name in names:
            owners.setdefault(name, {}).setdefault(pattern, row)
    doubtful = {name: rows for name, rows in owners.items() if len(rows) > 1}
    for name in sorted(doubtful):
        folder.files[name] = min(doubtful[name].values())
        raw.findings.append(Finding("matches-several", printable(name), _doubt(raw, doubtful[name])))
    if doubtful and len(doubtful) == len(owners):
        name = min(doubtful)
        raise CatalogueError(
            f"Every photo that --image-name finds in {folder.root} matches several rows: {printable(name)!r} "
            f'{_doubt(raw, doubtful[name])}. Give a narrower pattern, such as "{{sku}}_*.jpg" for "{{sku}}*.jpg".'
        )
    return set(doubtful)


def _doubt(raw: RawRows, rows: Mapping[str, int]) -> str:
    first, second = list(rows.items())[:2]
    patterns = " and ".join(f"{printable(shown(each))!r} (line {raw.lines[row]})" for each, row in (first, second))
    more = f" and {len(rows) - 2} more" if len(rows) > 2 else ""
    return f"matches {patterns}{more}; whose photo it is is not certain, so it is dropped"
