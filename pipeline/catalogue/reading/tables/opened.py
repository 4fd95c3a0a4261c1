"""The table of a file, by its ending."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.catalogue.reading.tables.csv_file import open_csv
from pipeline.catalogue.reading.tables.no_table import refuse_no_table
from pipeline.catalogue.reading.tables.other_files import open_parquet, open_xlsx
from pipeline.catalogue.reading.tables.table import Table
from pipeline.errors import CatalogueError

_OPENERS: Mapping[str, Callable[[Path], Table]] = {
    ".xlsx": open_xlsx,
    ".xlsm": open_xlsx,
    ".parquet": open_parquet,
    ".pq": open_parquet,
}
_KINDS = {ending: "a ZIP archive" if opener is open_xlsx else "a Parquet file" for ending, opener in _OPENERS.items()}
OTHER_TABLES = frozenset({".tsv", *_OPENERS})
"""Endings of tables beside .csv that are looked for in a folder."""


def open_table(path: Path) -> Table:
    """Read the header of a table: Excel or Parquet by its ending, anything else is taken for CSV.

    Raises:
        CatalogueError: The file is missing, unreadable, no regular file, no table (a photo, say), empty, or names
            a column twice.
    """
    if not path.exists():
        raise CatalogueError(f"{path}: no such file. --data takes a CSV file or a folder.")
    ending = path.suffix.casefold()
    if ending == ".xls":
        raise CatalogueError(f"{path}: the Excel format of before 2007 is not read; save it as .xlsx or CSV.")
    refuse_no_table(path, _KINDS.get(ending, ""))
    return _OPENERS.get(ending, open_csv)(path)
