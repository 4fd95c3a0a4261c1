"""Rows that have several photos, made one row per photo."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np

from pipeline.catalogue.cells import coded
from pipeline.catalogue.reading.photos import Folder
from pipeline.catalogue.reading.raw_rows import RawRows, check_cells


def spread(raw: RawRows, path: Path, folder: Folder) -> None:
    """Make each photo a row of its own, with the labels of its row and the name of its row's product.

    A row without any photo stays one: a later look at the folder finds that there is none, and says so. One that lost
    all of its photos to doubt is left out; the finding of each photo names its line.

    Args:
        raw: Rows as the table at `path` states them; changed in place.
        folder: The files that there are.

    Raises:
        CatalogueError: More cells come out than are held in memory, or each photo is claimed by several rows.
    """
    if raw.several is None:
        return
    several, raw.several = raw.several, None
    photos = several.photos(raw, folder)
    rows = np.repeat(np.arange(len(photos)), [len(names) for names in photos])
    check_cells(path, len(rows), len(raw.columns))
    owners = [several.product(name) or None for name in raw.names]
    raw.owners = coded(owners).take(rows)
    raw.names = [name for names in photos for name in names]
    raw.lines = array("q", np.array(raw.lines, np.int64)[rows].tobytes())
    raw.columns = {name: column.take(rows) for name, column in raw.columns.items()}
    raw.products = {name: column.take(rows) for name, column in raw.products.items()}
    raw.categories = None if raw.categories is None else raw.categories.take(rows)
    raw.groups = None if raw.groups is None else raw.groups.take(rows)
