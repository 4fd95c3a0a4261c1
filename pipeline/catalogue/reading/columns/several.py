"""Columns of texts as columns of values: cells with several values are split, and it is said."""

from __future__ import annotations

from functools import partial

from pipeline.catalogue.cells import Cell, Coded, several_values
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.joined import SEPARATOR, has_escapes, holding, parts, separator_of
from pipeline.catalogue.reading.raw_rows import NONE, RawRows, unknown_tokens
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions


def check_separator(given: str | None) -> None:
    """CatalogueError for a separator that separates nothing."""
    if given is not None and (not given.strip() or "\\" in given):
        raise CatalogueError(
            f'--separator is {given!r}; expected what stands between the values of a cell, such as "|" or ", ", '
            "or none for one value per cell."
        )


def split_columns(raw: RawRows, options: DataOptions) -> None:
    """Split the cells of every column that holds several values, except those that are to be single-valued.

    In a column with several values `none` is no value, as in format B.
    """
    unknown = unknown_tokens(options)
    for attribute, column in raw.columns.items():
        if attribute == raw.category_attribute:
            continue
        separator = SEPARATOR if attribute in raw.lists else _separator(attribute, column, options)
        raw.findings += _said(attribute, column, separator, options)
        if separator is not None:
            raw.columns[attribute] = column.map(partial(_split, separator, unknown))
        elif options.separator is None and has_escapes(texts_of(column)):
            raw.columns[attribute] = column.map(lambda cell: cell and (parts(cell[0], SEPARATOR)[0],))


def texts_of(column: Coded[Cell]) -> dict[str, int]:
    """The known texts of a column with at most one value per cell, and how many rows have each."""
    return {cell[0]: rows for cell, rows in zip(column.table, column.counts().tolist(), strict=True) if cell and rows}


def _separator(attribute: str, column: Coded[Cell], options: DataOptions) -> str | None:
    if attribute in options.single or (options.separator or "").casefold() == NONE:
        return None
    texts = texts_of(column)
    if options.separator is None:
        return separator_of(texts)
    given = options.separator.strip()
    return given if any(given in text for text in texts) else None


def _split(separator: str, unknown: frozenset[str], cell: Cell) -> Cell:
    return cell and several_values(parts(cell[0], separator), unknown)


def _said(attribute: str, column: Coded[Cell], separator: str | None, options: DataOptions) -> list[Finding]:
    texts = texts_of(column)
    if separator is not None:
        rows = holding(texts, separator)
        off = "" if options.separator else "; --separator none takes each cell as one value"
        detail = f"{rows} row(s) hold several values, separated by {separator!r}{off}"
        return [Finding("several-values", attribute, detail)] if rows else []
    rows = holding(texts, SEPARATOR)
    if options.separator is not None or attribute in options.single or not rows:
        return []
    example = next(text for text in texts if SEPARATOR in text and len(parts(text, SEPARATOR)) > 1)
    detail = f"{rows} row(s), such as {example!r}, are taken as one value each; --separator '|' splits them"
    return [Finding("one-value", attribute, detail)]
