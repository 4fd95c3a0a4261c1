"""The T-shirt notebook's matrix of indicators, which `--na negative` must equal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.catalogue.cells import UNKNOWN_TOKENS, natural
from pipeline.catalogue.reading.tables.opened import open_table
from pipeline.errors import CatalogueError


def dummies_view(csv: Path) -> pd.DataFrame:
    """Format A as the indicator columns of `get_dummies(drop_first=True)` with unknown imputed as -1.

    Indexed by file name (the first row of each), attributes in alphabetical order; per attribute the first category,
    -1, is dropped, which leaves one boolean column `<attribute>_<value>` per known value. Photos need not be on disk.

    Raises CatalogueError when the file is no CSV file with a column `filename`.
    """
    table = open_table(csv)
    position = table.column("filename")
    if position is None:
        raise CatalogueError(f"{csv}: there is no column 'filename'; its columns are: {', '.join(table.header)}.")
    rows: dict[str, list[str]] = {}
    for _, row in table.rows():
        rows.setdefault(row[position], [*row, *[""] * (len(table.header) - len(row))])
    frame = pd.DataFrame(index=pd.Index(list(rows), name=table.header[position]))
    for attribute in sorted(h for i, h in enumerate(table.header) if h and i != position):
        cells = [row[table.header.index(attribute)].strip() for row in rows.values()]
        texts = ["-1" if cell in UNKNOWN_TOKENS else cell for cell in cells]
        categories = ["-1", *sorted(set(texts) - {"-1"}, key=natural)]
        frame[attribute] = pd.Categorical(texts, categories=categories)
    return pd.get_dummies(frame, columns=list(frame.columns), drop_first=True)
