"""Columns of cells as small integer codes, so that millions of rows cost bytes and not objects."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Int64, Positions

Cell = tuple[str, ...] | None
"""The values of one attribute on one photo: None is unknown, () is known to have no value."""

UNKNOWN_TOKENS = frozenset({"", "#N/A", "N/A", "NA", "nan"})
"""Spellings of an unknown label, beside those of `--unknown`."""

T = TypeVar("T")
U = TypeVar("U")


class Coded(Sequence[T], Generic[T]):
    """A read-only column that stores each distinct entry once.

    Attributes:
        codes: int32 (n,), positions in `table`.
        table: The distinct entries.
    """

    __slots__ = ("codes", "table")

    def __init__(self, codes: npt.NDArray[np.int32], table: Iterable[T]) -> None:
        self.codes = codes
        self.table: tuple[T, ...] = tuple(table)

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Coded[T]: ...
    def __getitem__(self, index: int | slice) -> T | Coded[T]:
        if isinstance(index, slice):
            return Coded(self.codes[index], self.table)
        return self.table[int(self.codes[index])]

    def __iter__(self) -> Iterator[T]:
        return map(self.table.__getitem__, self.codes.tolist())

    def __eq__(self, other: object) -> bool:
        same_length = isinstance(other, Sequence) and len(self) == len(other)
        return same_length and all(a == b for a, b in zip(self, other, strict=True))  # type: ignore[call-overload]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Coded({len(self)} rows, {len(self.table)} distinct)"

    @classmethod
    def of(cls, codes: array[int], table: Iterable[T]) -> Coded[T]:
        """A column from an array of C ints, which is copied."""
        return cls(np.array(codes, np.int32), table)

    def where(self, entry: T) -> Bool:
        """bool (n,): rows with this entry."""
        hits = [i for i, e in enumerate(self.table) if e == entry]
        return np.isin(self.codes, hits) if hits else np.zeros(len(self.codes), np.bool_)

    def replace(self, rows: Bool, entry: T) -> Coded[T]:
        """The column with one entry in all of these rows."""
        if not rows.any():
            return self
        table = self.table if entry in self.table else (*self.table, entry)
        return Coded(np.where(rows, np.int32(table.index(entry)), self.codes), table)

    def take(self, rows: npt.NDArray[Any]) -> Coded[T]:
        """The column of these rows (indices or a mask)."""
        return Coded(self.codes[rows], self.table)

    def compact(self) -> Coded[T]:
        """The same column with only the entries in use, in order of first appearance."""
        used, first, inverse = np.unique(self.codes, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        return Coded(rank[inverse.reshape(-1)], (self.table[used[i]] for i in order))

    def map(self, of: Callable[[T], U]) -> Coded[U]:
        """The column with another entry for each; `of` is called once per distinct entry."""
        table: dict[U, int] = {}
        place = np.array([table.setdefault(of(entry), len(table)) for entry in self.table], np.int32)
        return Coded(place[self.codes], table)

    def counts(self) -> Int64:
        """int64 (len(table),): rows per distinct entry."""
        return np.bincount(self.codes, minlength=len(self.table))


def coded(entries: Sequence[T]) -> Coded[T]:
    """Any sequence of hashable entries as a coded column."""
    if isinstance(entries, Coded):
        return entries
    table: dict[T, int] = {}
    codes = np.fromiter((table.setdefault(e, len(table)) for e in entries), np.int32, len(entries))
    return Coded(codes, table)


class ColumnBuilder(Generic[T]):
    """Builds a coded column row by row; rows that are never put hold the default."""

    def __init__(self, default: T) -> None:
        self._codes = array("i")
        self._table: dict[T, int] = {default: 0}

    def put(self, row: int, entry: T) -> None:
        """Set a row; rows come in ascending order."""
        self._fill(row)
        self._codes.append(self._table.setdefault(entry, len(self._table)))

    def finish(self, rows: int) -> Coded[T]:
        """The column of that many rows."""
        self._fill(rows)
        return Coded.of(self._codes, self._table)

    def _fill(self, rows: int) -> None:
        if len(self._codes) < rows:
            self._codes.frombytes(bytes(self._codes.itemsize * (rows - len(self._codes))))


def natural(text: str) -> tuple[Any, ...]:
    """Sort attribute that orders numbers inside text by size: "2" before "10", "a2" before "a10"."""
    parts = re.split(r"([0-9]+)", text)
    return (tuple(_size(p) if i % 2 else (1, 0, p.casefold()) for i, p in enumerate(parts) if p), text)


def _size(digits: str) -> tuple[int, int, str]:
    """Orders numbers by size. They stay text: thousands of digits are no int, and too slow to become one."""
    significant = digits.lstrip("0")
    return 0, len(significant), significant


def single_value(text: str, unknown: frozenset[str]) -> Cell:
    """One cell of a column that holds at most one value: the stripped text, or None for an unknown token."""
    value = text.strip()
    return None if value in unknown else (value,)


def several_values(values: Iterable[object], unknown: frozenset[str]) -> Cell:
    """One cell from a list of values.

    Unknown tokens and `none` are dropped, the rest is stripped, made distinct and sorted.
    Nothing but unknown tokens is unknown (None); nothing but `none`, or nothing at all, is () - known to have no value.
    """
    texts = ["" if v is None else str(v).strip() for v in values]
    stated = [t for t in texts if t not in unknown]
    if texts and not stated:
        return None
    return tuple(sorted({t for t in stated if t.casefold() != "none"}, key=natural))


def cell_text(cell: Cell) -> str:
    """A cell in the words of a finding."""
    return "#N/A" if cell is None else "+".join(cell) or "none"


def differences(
    columns: Mapping[str, Coded[Cell]], first: Positions, second: Positions
) -> dict[int, list[tuple[str, Cell, Cell]]]:
    """Where rows differ: per pair of rows (first[i], second[i]) that do, (attribute, cell of each) in column order.

    Each column is compared as a whole, so that many pairs and many attributes do not cost their product in objects.
    """
    by_row: dict[int, list[tuple[str, Cell, Cell]]] = {}
    for name, column in columns.items():
        for i in np.flatnonzero(column.codes[first] != column.codes[second]).tolist():
            one, other = column[int(first[i])], column[int(second[i])]
            if one != other:
                by_row.setdefault(i, []).append((name, one, other))
    return by_row
