"""The label schema: which attributes there are, which values each has, and how cells become targets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.arrays import Bool, UInt8
from pipeline.catalogue.cells import Cell, coded
from pipeline.errors import CatalogueError
from pipeline.shapes import flag, mapping, optional, record, sequence, text
from pipeline.system import parsed

UNKNOWN = "#N/A"
"""How an unknown cell is written, and the name of the extra value under `--na class`."""

_SCHEMA = record(
    {"keys": sequence(text), "values": sequence(sequence(text)), "single": sequence(flag)},
    {"gate": optional(mapping(sequence(text))), "category_key": optional(text)},
)
_ESCAPED = {"=": "%3D", "%": "%25"}
_TO_ESCAPE = re.compile(r"=|%(?=3D|25)")
_TO_RESTORE = re.compile(r"%(?:3D|25)")


def column_name(attribute: str, value: str) -> str:
    """The name of a label's column in every file: `<attribute>=<value>`.

    In the attribute `=` is written `%3D`, and the `%` of what would read as such an escape `%25`, so that no two labels
    share a name. `split_column` inverts it.
    """
    return f"{_TO_ESCAPE.sub(lambda match: _ESCAPED[match[0]], attribute)}={value}"


def split_column(name: str) -> tuple[str, str]:
    """The attribute and the value that a column's name stands for; ("", name) for a name of no label."""
    attribute, equals, value = name.partition("=")
    if not equals:
        return "", name
    return _TO_RESTORE.sub(lambda match: {"%3D": "=", "%25": "%"}[match[0]], attribute), value


@dataclass(frozen=True)
class LabelSchema:
    """Attributes, their values and how they are decided; columns of one attribute are contiguous.

    Attributes:
        attributes: Names in catalogue order.
        values: Per attribute, its values in a stable order (no UNKNOWN unless `--na class` added it, last).
        single: Per attribute, True when a photo has at most one value.
        gate: Category -> attributes that apply to it, or None when every attribute applies to every photo. category_key
            : the attribute whose value is the category the gate looks up, or None.
    """

    attributes: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    single: tuple[bool, ...]
    gate: Mapping[str, tuple[str, ...]] | None = None
    category_attribute: str | None = None

    @cached_property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """All (attribute, value) pairs in column order; length L."""
        return tuple((attribute, v) for attribute, vs in zip(self.attributes, self.values, strict=True) for v in vs)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Per attribute, its columns."""
        ends = np.cumsum([0, *(len(v) for v in self.values)])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(ends))

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns in files, by `column_name`."""
        return tuple(column_name(attribute, value) for attribute, value in self.labels)

    @property
    def size(self) -> int:
        """L, the number of columns."""
        return len(self.labels)

    def only(self, attributes: Sequence[str]) -> LabelSchema:
        """The schema of some of its attributes, in their order; without a gate where the category is not among them."""
        at = [self.attributes.index(attribute) for attribute in attributes]
        gated = self.gate is not None and self.category_attribute in attributes
        return LabelSchema(
            attributes=tuple(attributes),
            values=tuple(self.values[i] for i in at),
            single=tuple(self.single[i] for i in at),
            gate={c: tuple(a for a in of if a in attributes) for c, of in (self.gate or {}).items()} if gated else None,
            category_attribute=self.category_attribute if self.category_attribute in attributes else None,
        )

    def encode(
        self, cells: Mapping[str, Sequence[Cell]], categories: Sequence[str | None] | None = None
    ) -> tuple[UInt8, Bool]:
        """Targets of the catalogue's cells.

        Returns (Y, mask), both (n, L): Y multi-hot uint8; mask True where the truth is known. An unknown cell masks its
        whole attribute; so does an attribute that does not apply to the category, and an absent attribute of a category
        that the gate does not list. A value outside the schema leaves its cell known and all-zero (it was never seen in
        training).
        """
        n = len(next(iter(cells.values()))) if cells else 0
        Y = np.zeros((n, self.size), np.uint8)
        mask = np.zeros((n, self.size), np.bool_)
        applies, unlisted = self.applies(categories, n), self._unlisted(categories, n)
        for i, (attribute, values, columns) in enumerate(zip(self.attributes, self.values, self.slices, strict=True)):
            # Each distinct cell is encoded once and then dealt to its rows.
            column = coded(cells[attribute])
            hot = np.zeros((len(column.table), len(values)), np.uint8)
            place = {value: j for j, value in enumerate(values)}
            for code, cell in enumerate(column.table):
                hot[code, [place[value] for value in cell or () if value in place]] = 1
            is_known = np.array([cell is not None for cell in column.table], np.bool_)
            if n and values:
                Y[:, columns] = hot[column.codes]
            empty = np.array([cell == () for cell in column.table], np.bool_)
            mask[:, columns] = (is_known[column.codes] & applies[:, i] & ~(unlisted & empty[column.codes]))[:, None]
        return Y, mask

    def _unlisted(self, categories: Sequence[str | None] | None, n: int) -> Bool:
        """(n,): photos whose category the gate does not list, so that an absent attribute says nothing about them."""
        if self.gate is None or categories is None:
            return np.zeros(n, np.bool_)
        gate = self.gate
        return np.fromiter((category is not None and category not in gate for category in categories), bool, n)

    def applies(self, categories: Sequence[str | None] | None, n: int) -> Bool:
        """(n, K): whether each attribute applies to each photo's category; True where gate or category is not known."""
        result = np.ones((n, len(self.attributes)), np.bool_)
        if self.gate is None or categories is None:
            return result
        column = coded(categories)
        applying = np.ones((len(column.table), len(self.attributes)), np.bool_)
        place = {attribute: i for i, attribute in enumerate(self.attributes)}
        for code, category in enumerate(column.table):
            if category is not None and category in self.gate:
                applying[code] = False
                applying[code, [place[each] for each in self.gate[category] if each in place]] = True
        if self.category_attribute in place:
            applying[:, place[self.category_attribute]] = True
        return applying[column.codes]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; `from_json` inverts it."""
        return {
            "keys": list(self.attributes),
            "values": [list(v) for v in self.values],
            "single": list(self.single),
            "gate": None if self.gate is None else {c: list(k) for c, k in self.gate.items()},
            "category_key": self.category_attribute,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabelSchema:
        """The schema that `to_json` wrote.

        Raises:
            CatalogueError: The fields are of other kinds; whether they fit together, `wrong_labels` says.
        """
        with parsed(CatalogueError, "the label schema cannot be read (", ")"):
            _SCHEMA(data, "")
        gate = data.get("gate")
        return cls(
            attributes=tuple(data["keys"]),
            values=tuple(tuple(v) for v in data["values"]),
            single=tuple(bool(s) for s in data["single"]),
            gate=None if gate is None else {c: tuple(k) for c, k in gate.items()},
            category_attribute=data.get("category_key"),
        )


def wrong_labels(schema: LabelSchema) -> str:
    """What makes a schema from a file unusable, whose fields have the right types; "" when nothing does."""
    attributes, values = schema.attributes, schema.values
    if not len(attributes) == len(values) == len(schema.single):
        return f"{len(attributes)} attributes, {len(values)} lists of values, {len(schema.single)} entries in 'single'"
    if (twice := first_repeated(attributes)) is not None:
        return f"the attribute {twice!r} is there twice"
    for attribute, listed in zip(attributes, values, strict=True):
        if not listed:
            return f"attribute {attribute!r} has no values"
        if (twice := first_repeated(listed)) is not None:
            return f"attribute {attribute!r} has the value {twice!r} twice"
    return ""


def first_repeated(names: Sequence[str]) -> str | None:
    """The first name that an earlier one equals, None when all differ."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
