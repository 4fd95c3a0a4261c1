"""Format B: a category and a dict literal of multi-valued attributes per photo."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from pipeline.arrays import Bool
from pipeline.catalogue.cells import Cell, Coded, ColumnBuilder, several_values
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.labels import first_repeated
from pipeline.catalogue.reading.columns.products import product_columns
from pipeline.catalogue.reading.raw_rows import (
    RawRows,
    TextColumn,
    check_cells,
    choose_attributes,
    first_values,
    group_column,
    need_column,
    read_rows,
    unknown_tokens,
)
from pipeline.catalogue.reading.tables.table import Table
from pipeline.catalogue.records import CATEGORY
from pipeline.errors import CatalogueError, printable
from pipeline.options import DataOptions
from pipeline.system import parsed, read_text, wrong_text

B_COLUMNS = ("id", "filename", CATEGORY, "attributes")
"""The header of format B."""

MOST_ATTRIBUTES = 10_000
"""Attributes of the largest catalogue in format B, where each row may bring its own; real ones have some dozens."""

MOST_CHARACTERS = 20_000
"""Longest attributes cell that is parsed; the longest real ones have a few hundred characters."""

_MOST_BYTES = 64 * 2**20
"""Largest JSON file of names and values that is read."""


class _BadCellError(ValueError):
    """A cell is no dict literal of attribute -> values."""


def read_b(table: Table, options: DataOptions, group: str | None) -> RawRows:
    """Format B: the columns `filename`, `category` and `attributes` (attribute -> list of values).

    The category is an attribute of its own, named `category`. An attribute that a row does not carry is () on that row:
    known to have no value, provided that it applies to the category, which is for the schema to say. Where the category
    is unknown, absent attributes are unknown too. A cell that is no dict literal leaves all its attributes unknown and
    is reported.
    """
    need = "format B needs the columns id, filename, category and attributes"
    name, category, attributes = (need_column(table, c, need) for c in B_COLUMNS[1:])
    unknown = unknown_tokens(options)
    raw = RawRows()
    fixed = [TextColumn(category, unknown)]
    if (grouping := group_column(table, group)) is not None:
        fixed.append(TextColumn(grouping, unknown))
    candidates = {each: TextColumn(at, unknown) for each, at in product_columns(table.header, group).items()}
    sparse = _SparseColumns()
    parse = lru_cache(maxsize=1 << 16)(lambda text: parse_attributes(text, unknown))
    for cells in read_rows(table, raw, lambda row: row[name], [*fixed, *candidates.values()]):
        _check_attributes(table.path, raw.lines[-1], sparse.count)
        try:
            sparse.add(parse(cells[attributes]))
        except _BadCellError as error:
            sparse.add(None)
            detail = f"line {raw.lines[-1]}: {error}; every attribute but the category is unknown"
            raw.findings.append(Finding("bad-attributes", printable(cells[name]), detail))
    check_cells(table.path, len(raw.lines), sparse.count)
    categories = fixed[0].finish()
    columns = {CATEGORY: categories, **sparse.finish(categories)}
    raw.offered = tuple(columns)
    raw.columns = {attribute: columns[attribute] for attribute in choose_attributes(options.attributes, tuple(columns))}
    raw.categories, raw.category_attribute = first_values(categories), CATEGORY
    raw.groups = first_values(fixed[1].finish()) if grouping is not None else None
    raw.products = {each: first_values(column.finish()) for each, column in candidates.items()}
    return raw


def _check_attributes(path: Path, line: int, count: int) -> None:
    if count > MOST_ATTRIBUTES:
        raise CatalogueError(
            f"{path}, before line {line}: there are {count} attributes; expected at most {MOST_ATTRIBUTES}. "
            "Are values written where the attributes' names belong?"
        )


def parse_attributes(text: str, unknown: frozenset[str]) -> Mapping[str, Cell]:
    """The attributes and cells of one attributes cell; an empty cell carries no attribute.

    Raises a ValueError that says what is wrong with the text.
    """
    if len(text) > MOST_CHARACTERS:
        raise _BadCellError(
            f"the attributes have {len(text)} characters, more than the {MOST_CHARACTERS} that are parsed"
        )
    if not text.strip():
        return {}
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        data = ast.literal_eval(tree)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise _BadCellError(f"the attributes are no dict literal: {_short(text)}") from None
    if not isinstance(data, dict) or not all(isinstance(attribute, str) for attribute in data):
        raise _BadCellError(f"the attributes are no dict from attribute to values: {_short(text)}")
    written = [key.value for key in getattr(tree, "keys", ()) if isinstance(key, ast.Constant)]
    names = [name.strip() for name in written if isinstance(name, str)]
    if (twice := first_repeated(names)) is not None:
        raise _BadCellError(f"the attribute {_short(twice)} is there twice")
    return {
        attribute.strip(): several_values(_as_texts(attribute, values), unknown)
        for attribute, values in data.items()
        if attribute.strip()
    }


def _as_texts(attribute: str, values: object) -> list[str]:
    """The values of one attribute as texts, "" for None."""
    if wrong := wrong_text(attribute):
        raise _BadCellError(f"the attribute {_short(attribute)} holds {wrong}")
    many = list(values) if isinstance(values, list | tuple | set) else [values]
    odd = [type(v).__name__ for v in many if v is not None and not isinstance(v, str | int | float)]
    if odd:
        raise _BadCellError(f"the values of {attribute!r} are no list of texts: there is a {odd[0]} among them")
    try:
        texts = ["" if v is None else str(v) for v in many]
    except ValueError:
        # Written in hexadecimal, a number may have more digits than may be written as decimals.
        raise _BadCellError(f"a number of {attribute!r} has too many digits to be a value") from None
    for text in texts:
        if wrong := wrong_text(text):
            raise _BadCellError(f"the value {_short(text)} of {attribute!r} holds {wrong}")
    return texts


def _short(text: str) -> str:
    return repr(printable(text if len(text) <= 60 else text[:57] + "..."))


class _SparseColumns:
    """Columns of attributes that most rows do not carry."""

    def __init__(self) -> None:
        self._columns: dict[str, ColumnBuilder[Cell]] = {}
        self._broken: list[int] = []
        self._rows = 0

    def add(self, cells: Mapping[str, Cell] | None) -> None:
        """The next row; None for one that could not be read."""
        if cells is None:
            self._broken.append(self._rows)
        else:
            for attribute, cell in cells.items():
                if attribute != CATEGORY:
                    self._columns.setdefault(attribute, ColumnBuilder(())).put(self._rows, cell)
        self._rows += 1

    @property
    def count(self) -> int:
        """How many attributes there are so far."""
        return len(self._columns)

    def finish(self, categories: Coded[Cell]) -> dict[str, Coded[Cell]]:
        """Every column, with () where an attribute is absent and None where that says nothing."""
        no_category = categories.where(None)
        return {attribute: self._finish(builder, no_category) for attribute, builder in self._columns.items()}

    def _finish(self, builder: ColumnBuilder[Cell], no_category: Bool) -> Coded[Cell]:
        column = builder.finish(self._rows)
        silent = no_category & column.where(())
        silent[self._broken] = True
        return column.replace(silent, None)


def read_category_attributes(path: Path) -> dict[str, tuple[str, ...]]:
    """The attributes that apply to each category, from a JSON file {category: [attribute, ...]}.

    Raises:
        CatalogueError: The file cannot be read or has another shape.
    """
    lists = read_lists(path, "--category-attributes", '{"category": ["attribute", ...], ...}')
    return {category.strip(): attributes for category, attributes in lists.items()}


def read_lists(path: Path, option: str, shape: str, kinds: tuple[type, ...] = (str,)) -> dict[str, tuple[str, ...]]:
    """A JSON file of lists by name, their items of these kinds, as texts; `option` and `shape` are for the errors.

    Raises:
        CatalogueError: The file cannot be read, has another shape, or names something twice.
    """
    with parsed(CatalogueError, f"{option} {path}: cannot be read as JSON (", ")."):
        data = json.loads(read_text(path, _MOST_BYTES), object_pairs_hook=_once)
    shaped = isinstance(data, dict) and all(
        isinstance(texts, list) and all(isinstance(text, kinds) for text in texts) for texts in data.values()
    )
    if not shaped:
        raise CatalogueError(f"{option} {path}: expected {shape}.")
    lists = {name: tuple(map(str, texts)) for name, texts in data.items()}
    for name, texts in lists.items():
        for text in (name, *texts):
            if wrong := wrong_text(text):
                raise CatalogueError(f"{option} {path}: {_short(text)}, under {_short(name)}, holds {wrong}.")
    return lists


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """The object of these fields; the name of one, blanks around it aside, must not come twice."""
    names: dict[str, str] = {}
    for name, _ in pairs:
        if name.strip() in names:
            raise ValueError(f"{name!r} is there twice; keep one of them")
        names[name.strip()] = name
    return dict(pairs)
