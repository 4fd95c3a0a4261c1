"""Columns of a table that no head can learn anything from: identifiers, addresses, prices, texts, dates."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.catalogue.cells import Cell, Coded
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.joined import NUMBER
from pipeline.errors import CatalogueError

FEW = 20
"""Up to so many values, whatever they are, may be those of an attribute."""

MANY = 100
"""More values than this are an identifier's if they are half as many as the photos."""

_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://|www\.)\S+", re.IGNORECASE)
_DATE = re.compile(r"(?:[0-9]{4}([-/.])[0-9]{1,2}\1[0-9]{1,2}|[0-9]{1,2}([-/.])[0-9]{1,2}\2[0-9]{4})(?:[T ].*)?")
_CURRENCY = re.compile(r"[$€£¥₹]|\b(?:USD|EUR|GBP|INR|JPY|CHF|Rs\.?)(?=[\s0-9]|\Z)")
_IDENTIFIES = frozenset(["id", "sku", "ean", "gtin", "upc", "isbn", "asin", "mpn", "uuid", "guid", "barcode"])
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^\W\d_A-Za-z]+")


def words(name: str) -> tuple[str, ...]:
    """The words of a column's name, in small letters: `styleId`, `Style ID` and `style_id` have the same."""
    return tuple(word.casefold() for word in _WORDS.findall(name))


def leave_out(
    columns: Mapping[str, Coded[Cell]], wanted: Collection[str]
) -> tuple[dict[str, Coded[Cell]], list[Finding]]:
    """The columns that are attributes, and a finding per other one with the reason.

    Args:
        columns: What each photo has in every column.
        wanted: Columns that are attributes because somebody said so.

    Raises:
        CatalogueError: None is left.
    """
    doubtful = {name: column for name, column in columns.items() if name not in wanted}
    reasons = {name: why for name, column in doubtful.items() if (why := _why(_Values.of(name, column)))}
    kept = {name: column for name, column in columns.items() if name not in reasons}
    if columns and not kept:
        what = "; ".join(f"{name}: {why}" for name, why in reasons.items())
        raise CatalogueError(f"No column looks like an attribute ({what}). Name those you mean with --attributes.")
    return kept, [
        Finding("no-attribute", name, f"{why}; left out unless --attributes names it") for name, why in reasons.items()
    ]


@dataclass(frozen=True)
class _Values:
    """The values of one column, and on how many photos one is known."""

    name: str
    distinct: tuple[str, ...]
    photos: int

    @classmethod
    def of(cls, name: str, column: Coded[Cell]) -> _Values:
        rows = column.counts().tolist()
        used = [(cell, count) for cell, count in zip(column.table, rows, strict=True) if cell and count]
        return cls(name, tuple({value: None for cell, _ in used for value in cell}), sum(count for _, count in used))

    def mostly(self, test: Callable[[str], object]) -> bool:
        others, most = 0, 0.05 * len(self.distinct)
        for value in self.distinct:
            others += not test(value)
            if others > most:
                return False
        return True

    @property
    def on_few_photos(self) -> bool:
        return 4 * len(self.distinct) > self.photos

    @cached_property
    def numbers(self) -> list[str]:
        """The values without currencies; none unless all are numbers."""
        bare = []
        for value in self.distinct:
            bare.append(_CURRENCY.sub("", value).strip())
            if not NUMBER.fullmatch(bare[-1]):
                return []
        return bare


def _why(values: _Values) -> str:
    if not values.distinct:
        return ""
    if values.mostly(_ADDRESS.fullmatch):
        return "addresses of pages or files"
    if values.mostly(_DATE.fullmatch):
        return "dates"
    count = f"{len(values.distinct)} values on {values.photos} photos"
    if len(values.distinct) > FEW:
        length = float(np.mean([len(value) for value in values.distinct]))
        if values.numbers and _measures(values):
            return f"prices or other numbers, {count}"
        if (length >= 30 and values.on_few_photos) or length >= 80:
            return f"free text, {count}"
    return f"an identifier or a name, {count}" if _identifies(values) else ""


def _measures(values: _Values) -> bool:
    """True unless the numbers are codes or sizes: whole or half ones with few gaps."""
    if any(_CURRENCY.search(value) for value in values.distinct):
        return True
    try:
        halves = 2 * np.array([float(number.replace(",", ".")) for number in values.numbers])
    except ValueError:
        return True  # several commas or points: thousands
    if not np.isfinite(halves).all() or (halves % 1).any():
        return True
    return bool(len(halves) > MANY and 2 * len(halves) < np.ptp(halves) / (1 if (halves % 2).any() else 2))


def _identifies(values: _Values) -> bool:
    count, photos = len(values.distinct), values.photos
    if photos < FEW:
        return False
    named = bool(_IDENTIFIES & set(words(values.name)))
    return (
        10 * count >= 9 * photos
        or (2 * count > photos and count > MANY)
        or (named and count > FEW and values.on_few_photos)
    )
