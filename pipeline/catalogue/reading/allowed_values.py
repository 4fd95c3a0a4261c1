"""The values that each attribute may have, from a file, and a catalogue held against them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.catalogue.cells import Cell, Coded, coded, natural
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.reading.attributes import read_lists
from pipeline.catalogue.reading.columns.numbers import plain_number
from pipeline.catalogue.records import Catalogue
from pipeline.errors import CatalogueError

NONE = "none"
"""How these files write that an attribute has no value; wherever it stands, it is moved to the end."""


@dataclass(frozen=True)
class AllowedValues:
    """What values each attribute may have.

    Attributes:
        values: Per attribute, the values as the file lists them, `none` last where it is listed.
    """

    values: Mapping[str, tuple[str, ...]]

    @property
    def size(self) -> int:
        """Values of all attributes together, `none` included."""
        return sum(len(values) for values in self.values.values())

    def of(self, attribute: str) -> frozenset[str]:
        """What a cell of the attribute may hold; `none` is no value but the lack of one."""
        values = {value.strip() for value in self.values[attribute] if not _is_none(value)}
        return frozenset(values | set(map(plain_number, values)))


def read_allowed_values(path: Path) -> AllowedValues:
    """Allowed values from a JSON file {attribute: [value, ...]}.

    Raises:
        CatalogueError: The file cannot be read or has another shape.
    """
    lists = read_lists(path, "--allowed-values", '{"attribute": ["value", ...], ...}', (str, int, float))
    return AllowedValues(
        {attribute.strip(): tuple(sorted(values, key=_is_none)) for attribute, values in lists.items()}
    )


def hold_against(catalogue: Catalogue, allowed: AllowedValues, keep: bool) -> Catalogue:
    """The catalogue with a finding per value and attribute that is not allowed; they are dropped unless `keep`.

    A cell that loses all its values is unknown: the photo has a value, only not one that can be named. The category
    is held against the list only if the file has one for it.
    """
    done = "kept" if keep else "dropped"
    findings: list[Finding] = []
    cells: dict[str, Coded[Cell]] = {}
    for attribute in catalogue.attributes:
        column = coded(catalogue.cells[attribute])
        if attribute in allowed.values:
            held, photos = _held(column, allowed.of(attribute))
            cells[attribute] = column if keep else held
            for value in sorted(photos, key=natural):
                findings.append(
                    Finding("value-not-allowed", attribute, f"{value!r} on {photos[value]} photo(s); {done}")
                )
            continue
        if attribute == catalogue.category_attribute or keep:
            cells[attribute] = column
        if attribute != catalogue.category_attribute:
            carried = int((~column.where(()) & ~column.where(None)).sum())
            findings.append(Finding("attribute-not-allowed", attribute, f"{carried} photo(s) carry it; {done}"))
    if not cells:
        raise CatalogueError(
            f"The allowed values name none of the attributes {', '.join(catalogue.attributes)}; they name "
            f"{', '.join(list(allowed.values)[:20])}. Is it another catalogue's file? --outside keep keeps them all."
        )
    return replace(catalogue, attributes=tuple(cells), cells=cells, findings=(*catalogue.findings, *findings))


def _held(column: Coded[Cell], allowed: frozenset[str]) -> tuple[Coded[Cell], dict[str, int]]:
    """The column with allowed values only, and how many photos have each of the others."""
    table: dict[Cell, int] = {}
    place = np.zeros(len(column.table), np.int32)
    photos: dict[str, int] = {}
    for i, (cell, count) in enumerate(zip(column.table, column.counts().tolist(), strict=True)):
        inside = tuple(value for value in cell or () if value in allowed)
        place[i] = table.setdefault(inside or (None if cell else cell), len(table))
        for value in set(cell or ()).difference(allowed) if count else ():
            photos[value] = photos.get(value, 0) + count
    return Coded(place[column.codes], table), photos


def _is_none(value: str) -> bool:
    return value.strip().casefold() == NONE
