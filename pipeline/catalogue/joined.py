"""Several values in one cell: how they are joined, split again, and how a separator is recognised.

A backslash before the separator makes it part of a value. Backslashes elsewhere are what they are, except at the end of
a value, where they are doubled: `C:\\x` is written as it stands, `a|b` as `a\\|b`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

SEPARATOR = "|"
"""Between the values of one cell in every table that is written."""

DETECTED = (SEPARATOR, ";", ",")
"""Separators that are recognised; any other is for `--separator`."""

NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]+)*|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?")
"""A number in plain writing; commas may stand for the decimal point or between thousands."""


def escaped(value: str, separator: str = SEPARATOR) -> str:
    """The value as one part of a cell."""
    return _borders(separator).sub(_escape, value)


def joined(values: Iterable[object], separator: str = SEPARATOR) -> str:
    """The cell of these values; `parts` inverts it for values without blanks around them."""
    return separator.join(escaped(str(value), separator) for value in values)


def parts(text: str, separator: str) -> list[str]:
    """The values of a cell, stripped; a separator behind a backslash does not separate."""
    pieces = iter(_borders(separator).split(text))
    values = [next(pieces)]
    for slashes, border, plain in zip(pieces, pieces, pieces, strict=True):
        values[-1] += "\\" * (len(slashes) // 2)
        if len(slashes) % 2:
            values[-1] += border or "\\"  # at the end it escapes nothing
        elif border:
            values.append("")
        values[-1] += plain
    return [value.strip() for value in values]


def separator_of(texts: Mapping[str, int]) -> str | None:
    """The separator of a column, where most cells with several parts consist of values that occur elsewhere too.

    Elsewhere is alone in a cell or in another combination. A column of numbers has none: its commas are decimal.

    Args:
        texts: Known texts of the column, and how many rows have each.
    """
    if all(NUMBER.fullmatch(text) for text in texts):
        return None
    return next((separator for separator in DETECTED if _separates(separator, texts)), None)


def holding(texts: Mapping[str, int], separator: str) -> int:
    """How many rows have several parts by this separator."""
    return sum(rows for text, rows in texts.items() if separator in text and len(parts(text, separator)) > 1)


def has_escapes(texts: Iterable[str]) -> bool:
    """True for a column in which every SEPARATOR is escaped, as it is written for attributes with one value."""
    holders = [text for text in texts if SEPARATOR in text]
    return bool(holders) and all(len(parts(text, SEPARATOR)) == 1 for text in holders)


def _separates(separator: str, texts: Mapping[str, int]) -> bool:
    holders = [text for text in texts if separator in text]
    if not holders:
        return False
    several: dict[str, set[str]] = {}
    uses = Counter(text for text in texts if separator not in text)
    for text in holders:
        values = set(parts(text, separator))
        uses.update(values)
        if len(values) > 1:
            several[text] = values
    known = sum(texts[text] for text, values in several.items() if all(v and uses[v] > 1 for v in values))
    return 2 * known > sum(texts[text] for text in several)


def _escape(match: re.Match[str]) -> str:
    return match[1] * 2 + (f"\\{match[2]}" if match[2] else "")


@lru_cache(maxsize=16)
def _borders(separator: str) -> re.Pattern[str]:
    """Where a value may end, with the backslashes before it."""
    return re.compile(rf"(\\*)({re.escape(separator)}|\Z)")
