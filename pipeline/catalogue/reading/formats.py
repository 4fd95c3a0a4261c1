"""One reader per CSV format; all give the same raw rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.catalogue.reading.attributes import B_COLUMNS, read_b
from pipeline.catalogue.reading.columns.numbers import plain_numbers
from pipeline.catalogue.reading.columns.products import product_columns
from pipeline.catalogue.reading.columns.several import check_separator, split_columns
from pipeline.catalogue.reading.naming.image_names import ImageNames, column_names, pattern_names
from pipeline.catalogue.reading.raw_rows import (
    RawRows,
    TextColumn,
    choose_attributes,
    first_values,
    group_column,
    need_column,
    read_rows,
    unknown_tokens,
)
from pipeline.catalogue.reading.tables.table import Table
from pipeline.catalogue.records import CATEGORY
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions

Reader = Callable[[Table, DataOptions, str | None], RawRows]


def read_a(table: Table, options: DataOptions, group: str | None) -> RawRows:
    """Format A: a `filename` column; every other column is an attribute; a cell may hold several values."""
    position = need_column(table, "filename", "format A needs it")
    return _read_wide(table, options, group, ImageNames(lambda row: row[position], frozenset({position})))


def read_products(table: Table, options: DataOptions, group: str | None) -> RawRows:
    """Any CSV whose file names are a column (`--image-column`) or made of columns (`--image-name "{id}.jpg"`).

    Several columns, or a pattern with `*`, give a row several photos.
    Every other column is an attribute; a cell may hold several values.
    """
    if options.image_column and options.image_name:
        raise CatalogueError("--image-column and --image-name both say where a row's photo is; give only one of them.")
    if options.image_column:
        return _read_wide(table, options, group, column_names(table, options))
    if options.image_name:
        return _read_wide(table, options, group, pattern_names(table, options.image_name))
    raise CatalogueError('Format products needs --image-column COLUMN or --image-name PATTERN, such as "{id}.jpg".')


READERS: Mapping[str, Reader] = {"B": read_b, "A": read_a, "products": read_products}
"""Readers of CSV formats by name, the most specific first."""


def choose_format(table: Table, options: DataOptions) -> str:
    """The format of a CSV file, by its header: B, else A, else products."""
    if options.format in READERS:
        return options.format
    if all(table.column(c) is not None for c in B_COLUMNS):
        return "B"
    if table.column("filename") is not None:
        return "A"
    if options.image_name or options.image_column:
        return "products"
    raise CatalogueError(
        f"{table.path}: no column says which photo a row is about. "
        f"Its columns are: {', '.join(filter(None, table.header))}. "
        "Expected a column 'filename'; otherwise name the column with --image-column COLUMN, "
        'or say how a file name is made with --image-name, such as --image-name "{id}.jpg" or "{sku}/*".'
    )


def _read_wide(table: Table, options: DataOptions, group: str | None, names: ImageNames) -> RawRows:
    check_separator(options.separator)
    grouping = group_column(table, group)
    reserved = names.columns | ({grouping} if grouping is not None else set())
    offered = [h for i, h in enumerate(table.header) if h and i not in reserved]
    attributes = choose_attributes(
        options.attributes, offered, extra=[table.header[i] for i in sorted(reserved) if table.header[i]]
    )
    if not attributes:
        raise CatalogueError(
            f"{table.path}: no column is left for an attribute; its columns are: {', '.join(table.header)}."
        )
    unknown = unknown_tokens(options)
    place = {name: i for i, name in reversed(list(enumerate(table.header)))}
    columns = [TextColumn(place[attribute], unknown) for attribute in attributes]
    groups = [] if grouping is None else [TextColumn(grouping, unknown)]
    candidates = {name: TextColumn(at, unknown) for name, at in product_columns(table.header, group).items()}
    raw = RawRows(offered=tuple(offered), lists=table.lists, several=names.several)
    categories = _categories(table, options, raw)
    for row in read_rows(table, raw, names.of, [*columns, *groups, *candidates.values(), *categories]):
        if names.several is not None:
            names.several.add(row)
    raw.columns = {attribute: column.finish() for attribute, column in zip(attributes, columns, strict=True)}
    split_columns(raw, options)
    plain_numbers(raw)
    if categories:
        column = raw.columns.get(raw.category_attribute or "")
        raw.categories = first_values(categories[0].finish() if column is None else column)
    raw.groups = first_values(groups[0].finish()) if groups else None
    raw.products = {name: first_values(column.finish()) for name, column in candidates.items()}
    return raw


def _categories(table: Table, options: DataOptions, raw: RawRows) -> list[TextColumn]:
    """The column of the category, where an option asks for categories; `raw` learns its name."""
    if options.category_column is None and options.category_attributes is None:
        return []
    if options.category_column is None and table.column(CATEGORY) is None:
        raise CatalogueError(
            f"{table.path}: --category-attributes needs a column with the category of each photo, and there is no "
            f"column {CATEGORY!r}. Name the one that holds it with --category-column; there are: "
            f"{', '.join(filter(None, table.header))}."
        )
    position = need_column(table, options.category_column or CATEGORY, "--category-column asks for it")
    raw.category_attribute = table.header[position]
    return [TextColumn(position, unknown_tokens(options))]
