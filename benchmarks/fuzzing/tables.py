"""The reader of tables that are no CSV files: Parquet and Excel workbooks."""

from __future__ import annotations

import datetime
import decimal
import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.fuzzing.mutations import by_bytes, put
from benchmarks.fuzzing.plain import PHOTOS, used
from benchmarks.fuzzing.reader import Mutation, Reader
from pipeline.catalogue.reading.read import read_catalogue
from pipeline.options import DataOptions
from tests.mutations import STRANGE

_NAMES = ("neck", "sleeve", "size", "colour", "sku", "é", "=1+1")
_ODD_NAMES = ("FileName", "neck", "", " ", "x" * 5_000, "a\0b", "__index_level_0__", "Neck ")
_XML = (
    *(b"<row/>", b"<c/>", b'<c r="XFD1048576"><v>1</v></c>', b"<v>1e999</v>", b"&#0;", b"&x;", b"<!-- x", b"</row>"),
    *(b' r="A0"', b' r="99999999999"', b' t="s"', b' t="d"', b' t="e"', b' s="9999"', b"<v>99</v>", b"<f>1/0</f>"),
    *(b'<dimension ref="A1:XFD1048576"/>', b'<!DOCTYPE a [<!ENTITY x "y">]>', b"9" * 5_000, b"\xff\xfe", b"]]>"),
)


def parquet(columns: dict[str, list[Any]], **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, **options)
    return stream.getvalue()


def workbook(rows: list[list[Any]]) -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    for row in rows:
        book.worksheets[0].append(row)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def _lists(rng: random.Random, rows: int) -> list[Any]:
    return [rng.choice([None, [], ["a"], ["a", None, "b|c"]]) for _ in range(rows)]


def _decimals(rng: random.Random, rows: int) -> list[Any]:
    return [decimal.Decimal(rng.randrange(10**6)) / 1000 for _ in range(rows)]


_COLUMNS: tuple[Callable[[random.Random, int], list[Any]], ...] = (
    _lists,
    _decimals,
    lambda rng, rows: [rng.choice([None, "a", "", "é" * 300, "a\0b", "#N/A"]) for _ in range(rows)],
    lambda rng, rows: [rng.choice([None, 1, -(2**62)]) for _ in range(rows)],
    lambda rng, rows: [rng.choice([None, float("nan"), float("inf"), 1e308, 7.0]) for _ in range(rows)],
    lambda rng, rows: [rng.choice([b"\xff\xfe", b"", None]) for _ in range(rows)],
    lambda rng, rows: [{"x": rng.random(), "y": {"z": None}} for _ in range(rows)],
    lambda rng, rows: [[[rng.random()], None] for _ in range(rows)],
    lambda rng, rows: [datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)][: rows % 3] + [None] * (rows - 2),
    lambda rng, rows: [datetime.timedelta(days=rng.randrange(9_999)) for _ in range(rows)],
    lambda rng, rows: [None] * rows,
    lambda rng, rows: [datetime.time(1, 2, 3)] * rows,
)


def by_parts(data: bytes, rng: random.Random) -> bytes:
    """One part of a workbook changed in its text, lost, doubled or very long, in an archive that is sound."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
    except Exception as error:
        raise ValueError("no archive any more") from error
    name = rng.choice(sorted(parts))
    change = rng.choice(("text", "text", "text", "bytes", "lose", "long", "rename"))
    if change == "lose":
        del parts[name]
    elif change == "rename":
        parts[rng.choice(("../" + name, "x" * 200, name.upper()))] = parts.pop(name)
    elif change == "long":
        parts[name] += rng.choice((b" ", b"<row/>", b"\0")) * rng.choice((1_000, 200_000))
    elif change == "bytes":
        parts[name] = by_bytes(parts[name], rng)
    else:
        at = rng.choice([i for i, byte in enumerate(parts[name]) if byte in b"<>\"'= "] or [0])
        parts[name] = parts[name][:at] + rng.choice(_XML) + parts[name][at + rng.choice((0, 1, 8)) :]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, content in parts.items():
            archive.writestr(each, content)
    return stream.getvalue()


class TablesReader(Reader):
    """A catalogue as Parquet or as an Excel workbook."""

    name = "tables"
    seconds = 10.0

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        rows = [["filename", "neck", "sleeve"], ["a.jpg", "round", 1], ["b.jpg", None, 2.5], ["c.jpg", "v", True]]
        columns = {"filename": list(PHOTOS), "neck": ["round", None, "v"], "sleeve": [["1"], ["1", "2"], None]}
        self.samples = {
            "table.xlsx": workbook(rows),
            "table.parquet": parquet(columns),
            "plain.parquet": parquet(columns, compression="none", use_dictionary=False),
        }
        for photo in PHOTOS:
            put(home / "images" / photo, b"x")

    def mutations(self, sample: str) -> tuple[Mutation, ...]:
        return (by_parts,) if sample.endswith(".xlsx") else ()

    def made(self, sample: str, rng: random.Random) -> bytes | None:
        if sample.endswith(".xlsx"):
            return self._workbook(rng) if rng.random() < 0.2 else None
        rows = rng.choice((0, 3, 3, 3, 40, 40))
        columns: dict[str, list[Any]] = {"filename": [rng.choice((*PHOTOS, "x.jpg")) for _ in range(rows)]}
        try:
            for _ in range(rng.choice((1, 2, 4))):
                columns[_column(rng)] = rng.choice(_COLUMNS)(rng, rows)
            return parquet(columns, compression=rng.choice(("none", "snappy", "gzip", "zstd")))
        except (pa.ArrowException, ValueError):
            return None  # columns of several lengths, or of two types

    def read(self, sample: str, data: bytes) -> str:
        path = self.home / sample
        put(path, data)
        used(read_catalogue(DataOptions(data=path)))
        return ""

    def _workbook(self, rng: random.Random) -> bytes:
        values = [each for each in STRANGE if isinstance(each, str | int | float | bool) and _fits(each)]
        values += [datetime.date(1900, 1, 1), datetime.datetime(9999, 12, 31, 1), datetime.time(1), "=1/0", "#N/A"]
        header = ["filename", *rng.sample(_NAMES, 3), *([_column(rng)] if rng.random() < 0.2 else [])]
        rows = [[rng.choice(PHOTOS), *(rng.choice(values) for _ in range(rng.randrange(5)))] for _ in range(5)]
        return workbook([list(filter(_fits, header)), *rows])


def _column(rng: random.Random) -> str:
    return rng.choice(_NAMES if rng.random() < 0.9 else _ODD_NAMES)


def _fits(value: str | int | float | bool) -> bool:
    """Whether openpyxl writes it."""
    if isinstance(value, str):
        return value.isprintable() and len(value) < 30_000
    return abs(value) < 10**300
