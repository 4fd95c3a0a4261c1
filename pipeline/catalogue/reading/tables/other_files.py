"""Excel and Parquet files as tables of text."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from pipeline.catalogue.findings import Finding
from pipeline.catalogue.joined import joined
from pipeline.catalogue.reading.tables.table import Rows, Table, check_header
from pipeline.errors import CatalogueError
from pipeline.system import open_regular, parsed

_BATCH = 4096
MOST_BYTES = 2**30
"""Of a workbook or Parquet file, unpacked: a small file may stand for any number."""
MOST_CELLS = 2**28
"""Of a Parquet file, in which a run of equal cells takes no bytes."""
_INDEX = "__index_level_"
"""How pandas calls an index without a name in a Parquet file."""


def open_xlsx(path: Path) -> Table:
    """The first sheet of an Excel workbook.

    Raises:
        CatalogueError: openpyxl is not installed, or the file is no workbook with a header.
    """
    with _sheet(path) as sheet:
        header = tuple(_text(cell).strip() for cell in next(sheet.iter_rows(values_only=True), ()))
        sheets = sheet.parent.sheetnames
    while header and not header[-1]:
        header = header[:-1]
    findings = check_header(path, header)
    if len(sheets) > 1:
        detail = f"the sheet {sheets[0]!r} is read, the other {len(sheets) - 1} are not"
        findings = (Finding("other-sheets", path.name, detail), *findings)
    return Table(path, header, lambda: _sheet_rows(path, len(header)), findings)


def open_parquet(path: Path) -> Table:
    """A Parquet file; lists in its cells are several values.

    Raises:
        CatalogueError: The file is no Parquet file with columns.
    """
    import pyarrow as pa

    with _parquet(path) as file:
        schema = file.schema_arrow
    header = tuple("" if name.startswith(_INDEX) else name.strip() for name in schema.names)
    is_list = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    lists = frozenset(name for name, kind in zip(header, schema.types, strict=True) if any(t(kind) for t in is_list))
    return Table(path, header, lambda: _parquet_rows(path), check_header(path, header), lists)


@contextmanager
def _sheet(path: Path) -> Iterator[Any]:
    unreadable = (f"{path}: cannot be read as an Excel workbook (", ").")
    with parsed(CatalogueError, *unreadable), open_regular(path) as file, ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > MOST_BYTES:
        raise CatalogueError(
            f"{path}: unpacked it has {size} bytes, more than the {MOST_BYTES}. Save the table as CSV."
        )
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise CatalogueError(
            f"{path}: Excel files are read with openpyxl, which is not installed. Run: pip install openpyxl, or save "
            "the table as CSV."
        ) from None
    with parsed(CatalogueError, *unreadable), open_regular(path) as file:
        book = load_workbook(file, read_only=True, data_only=True)
        try:
            if not book.worksheets:
                raise CatalogueError(f"{path}: the workbook has no sheet with cells. Save the table as CSV.")
            yield book.worksheets[0]
        finally:
            book.close()


def _sheet_rows(path: Path, width: int) -> Rows:
    with _sheet(path) as sheet:
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            row = [_text(cell) for cell in cells]
            if number > 1 and any(row):
                row += [""] * (width - len(row))
                yield number, row if any(row[width:]) else row[:width]


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    with parsed(CatalogueError, f"{path}: cannot be read as a Parquet file (", ")."), open_regular(path) as file:
        parquet = ParquetFile(file)
        _check_size(path, parquet.metadata)
        yield parquet


def _check_size(path: Path, metadata: Any) -> None:
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    cells = metadata.num_rows * metadata.num_columns
    if size > MOST_BYTES or cells > MOST_CELLS:
        raise CatalogueError(
            f"{path}: unpacked it has {size} bytes and {cells} cells; at most {MOST_BYTES} and {MOST_CELLS} are read. "
            "Leave out columns that are no labels, or save the table as CSV."
        )


def _parquet_rows(path: Path) -> Rows:
    with _parquet(path) as file:
        number = 1
        for batch in file.iter_batches(_BATCH):
            for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                yield number, [_text(cell) for cell in cells]


def _text(cell: object) -> str:
    """What the cell of a CSV file would hold."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    return joined(_texts(cell)) if isinstance(cell, list) else str(cell)


def _texts(cells: Iterable[object]) -> list[str]:
    return [_text(cell) for cell in cells]
