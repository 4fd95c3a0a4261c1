"""The tables of a run folder: labels and probabilities as Parquet, the rest as CSV, checked when they are read."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.arrays import Bool, Float, Float32, Positions, Texts, UInt8
from pipeline.catalogue.labels import LabelSchema, column_name, first_repeated
from pipeline.errors import RunError, counted
from pipeline.system import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, str]
Labels = Sequence[tuple[str, str]]

_SHOWN = 80
"""Characters of a name that a message shows: one in a damaged file may have thousands."""

ROUNDING = 1e-6
"""How far outside 0 to 1 a probability may lie: float32 sums round."""


@dataclass(frozen=True)
class Rows:
    """The photos of a run, as split.csv has them, and the part of each.

    photos (n,) and parts (n,), in one order.
    """

    photos: tuple[str, ...]
    parts: Texts

    def of(self, part: str) -> Positions:
        """Positions of the rows of one part."""
        return np.flatnonzero(self.parts == part)


def write_table(path: Path, table: pa.Table, **how: object) -> None:
    """Write a table as Parquet, whole or not at all; `how` is given to the writer."""
    import pyarrow.parquet as pq

    with whole_file(path) as partial:
        pq.write_table(table, partial, **how)


def read_truth(path: Path, labels: Labels, photos: Sequence[str]) -> tuple[UInt8, Bool]:
    """labels.parquet: Y (n, L) uint8 and mask (n, L) bool, rows in the order of `photos`.

    Raises:
        RunError: other columns than the photo and one per label, other photos, one of them twice, or a label that is
            none of 0, 1 and null.
    """
    with _parquet(path, ("photo",), labels, "") as (table, names):
        have = _texts(path, table, "photo")
        at = _positions(have, photos, path, "split.csv")
        if len(have) != len(photos):
            stranger = next(iter(set(have) - set(photos)))
            raise RunError(
                f"{path} has {counted(len(have), 'photo')}, split.csv {len(photos)}: {stranger} is not there"
            )
        Y = np.zeros((len(photos), len(labels)), np.uint8)
        mask = np.zeros((len(photos), len(labels)), np.bool_)
        for j, name in enumerate(names):
            mask[:, j], Y[:, j] = (cells[at] for cells in _labels(path, table, name))
    return Y, mask


def read_probabilities(path: Path, schema: LabelSchema, rows: Rows, part: str) -> Float32:
    """P (rows of the part, L) from a table of predictions.

    Raises:
        RunError: other columns than photo, part and one per label, a photo twice or in another part than split.csv
            says, a photo of `part` without its row, or a probability that is none.
    """
    with _parquet(path, ("photo", "part"), schema.labels, "p:") as (table, names):
        have = _texts(path, table, "photo")
        _check_parts(path, have, _texts(path, table, "part"), rows)
        at = _positions(have, [rows.photos[i] for i in rows.of(part)], path, part)
        P = np.empty((len(at), len(names)), np.float32)
        for j, name in enumerate(names):
            P[:, j] = _shares(path, table, name)[at]
    return P


def read_rows(path: Path, needed: Sequence[str] = ()) -> list[Row]:
    """A CSV file with these columns, each line with as many cells as the header; RunError names the line that is not.

    An absent file has no rows.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            header = tuple(reader.fieldnames or ())
            lacking = [name for name in needed if name not in header]
            if lacking or first_repeated(header) is not None:
                raise RunError(f"{path} needs the columns {', '.join(needed) or 'of its header'}, each once")
            rows = list(_whole_lines(reader, path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read as CSV: {error}") from error
    return rows


def _whole_lines(reader: csv.DictReader[str], path: Path) -> Iterator[Row]:
    for row in reader:
        if None in row or None in row.values():
            raise RunError(f"{path}, line {reader.line_num}: expected {counted(len(reader.fieldnames or ()), 'cell')}")
        yield row


@contextmanager
def _parquet(path: Path, fixed: tuple[str, ...], labels: Labels, prefix: str) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """The table, and the names of its columns in the order of the labels; whatever is no Parquet is a RunError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = _columns(path, file.schema_arrow.names, fixed, labels, prefix)
            table = file.read([*fixed, *names])
        yield table, names
    except RunError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise RunError(f"{path} cannot be read as Parquet: {error}") from error


def _columns(path: Path, there: Sequence[str], fixed: tuple[str, ...], labels: Labels, prefix: str) -> tuple[str, ...]:
    """The label columns of a table, which must hold these and the fixed ones and nothing else.

    Files written before `=` in attributes was escaped have the plain `<attribute>=<value>`.
    """
    names = tuple(prefix + column_name(attribute, value) for attribute, value in labels)
    plain = tuple(f"{prefix}{attribute}={value}" for attribute, value in labels)
    for columns in (names, plain):
        if sorted(there) == sorted((*fixed, *columns)):
            return columns
    absent = [name for name in (*fixed, *names) if name not in there]
    missing, stranger = next(iter(absent), "")[:_SHOWN], _odd_one(there, (*fixed, *names))[:_SHOWN]
    odd = f"no column {missing!r}" if absent else f"the column {stranger!r} too many"
    raise RunError(
        f"{path} has {odd} ({counted(len(there), 'column')}, {len(fixed) + len(names)} expected); it does not belong to"
        " this run.json"
    )


def _odd_one(there: Sequence[str], wanted: Sequence[str]) -> str:
    return next((name for name in there if name not in set(wanted)), first_repeated(there) or "")


def _texts(path: Path, table: Any, name: str) -> list[str]:
    """A column of texts without gaps; the column of photos names each once."""
    texts: list[str] = table.column(name).to_pylist()
    if not all(isinstance(each, str) for each in texts):
        raise RunError(f"{path}: the column {name!r} holds something other than texts")
    if name == "photo" and (twice := first_repeated(texts)) is not None:
        raise RunError(f"{path} has two rows of the photo {twice}; each photo has one")
    return texts


def _labels(path: Path, table: Any, name: str) -> tuple[Bool, UInt8]:
    """(known, label) of a column of 0, 1 and null."""
    from pyarrow import types

    kinds = (types.is_integer, types.is_boolean, types.is_null)
    column = _cells(path, table, name, "integers 0, 1 or null", kinds)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    cells = np.zeros(len(known), np.int64)
    if known.any():
        cells[known] = column.drop_null().to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero((cells != 0) & (cells != 1))
    if len(wrong):
        photo = table.column("photo")[int(wrong[0])].as_py()
        raise RunError(f"{path}: {name!r} of {photo} is {cells[wrong[0]]}; a label is 0, 1 or null")
    return known, cells.astype(np.uint8)


def _shares(path: Path, table: Any, name: str) -> Float:
    """A column of probabilities."""
    from pyarrow import types

    column = _cells(path, table, name, "floating-point numbers", (types.is_floating,))
    cells: Float = column.to_numpy(zero_copy_only=False)
    if not np.isfinite(cells).all():
        raise RunError(f"{path} holds probabilities that are not numbers; the fit diverged: fit {path.stem} again")
    wrong = np.flatnonzero((cells < -ROUNDING) | (cells > 1 + ROUNDING))
    if len(wrong):
        photo = table.column("photo")[int(wrong[0])].as_py()
        raise RunError(f"{path}: {name!r} of {photo} is {cells[wrong[0]]:g}; a probability lies between 0 and 1")
    return cells


def _cells(path: Path, table: Any, name: str, expected: str, kinds: Sequence[Callable[[Any], bool]]) -> Any:
    """One column as one array.

    Args:
        expected: What it should hold, in words.
        kinds: The same as questions to its type, of which one must say yes.
    """
    column = table.column(name).combine_chunks()
    if not any(is_kind(column.type) for is_kind in kinds):
        raise RunError(f"{path}: the column {name!r} holds {column.type}; expected {expected}")
    return column


def _check_parts(path: Path, photos: Sequence[str], parts: Sequence[str], rows: Rows) -> None:
    """Each photo must be one of the run's, in the part that split.csv gives it."""
    part_of: Mapping[str, str] = dict(zip(rows.photos, rows.parts.tolist(), strict=True))
    for photo, part in zip(photos, parts, strict=True):
        if part_of.get(photo) != part:
            said = f"in part {part_of[photo]}" if photo in part_of else "not"
            raise RunError(f"{path} has {photo} in part {part!r}, which is {said} in split.csv")


def _positions(have: Sequence[str], want: Sequence[str], path: Path, part: str) -> Positions:
    where = {photo: i for i, photo in enumerate(have)}
    lost = [photo for photo in want if photo not in where]
    if lost:
        raise RunError(
            f"{path} has no row for {len(lost)} of the {counted(len(want), 'photo')} of {part} (first: {lost[0]})"
        )
    return np.fromiter((where[photo] for photo in want), np.intp, len(want))
