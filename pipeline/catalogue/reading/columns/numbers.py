"""Columns of numbers that a spreadsheet or a data frame wrote with a point: 1 and 1.0 are one value."""

from __future__ import annotations

import re

from pipeline.catalogue.cells import Cell
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.reading.raw_rows import RawRows

_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.][0-9]+)?")
_WHOLE = re.compile(r"([+-]?[0-9]+)[.]0+")


def plain_numbers(raw: RawRows) -> None:
    """Write `1.0` as `1` in every column of numbers alone, so that both are one value in whichever table they stand.

    A column with any other text keeps its spellings, and so do leading zeros: 06 is a code.
    """
    for attribute, column in raw.columns.items():
        used = [(cell, n) for cell, n in zip(column.table, column.counts().tolist(), strict=True) if cell and n]
        if not all(_NUMBER.fullmatch(value) for cell, _ in used for value in cell):
            continue
        odd = [(cell, rows) for cell, rows in used if _plain(cell) != cell]
        if odd:
            raw.columns[attribute] = column.map(_plain)
            example = next(value for value in odd[0][0] if plain_number(value) != value)
            rows = sum(rows for _, rows in odd)
            detail = f"{rows} row(s) hold numbers such as {example}, which is read as {plain_number(example)}"
            raw.findings.append(Finding("number-form", attribute, detail))


def plain_number(value: str) -> str:
    """A whole number without point and zeros; any other text as it is."""
    match = _WHOLE.fullmatch(value)
    return match[1] if match else value


def _plain(cell: Cell) -> Cell:
    return cell and tuple(dict.fromkeys(map(plain_number, cell)))
