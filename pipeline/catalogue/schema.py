"""The label schema of a catalogue's rows, and what those rows leave open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.catalogue.cells import UNKNOWN_TOKENS, Cell, Coded, coded, natural
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.labels import LabelSchema
from pipeline.catalogue.reading.attributes import CATEGORY
from pipeline.catalogue.reading.raw_rows import nearest
from pipeline.catalogue.reading.table import open_table
from pipeline.catalogue.records import Catalogue
from pipeline.errors import CatalogueError

if TYPE_CHECKING:
    import pandas as pd


def infer_schema(
    catalogue: Catalogue,
    rows: npt.NDArray[Any] | None = None,
    single: Mapping[str, bool] | None = None,
    gate: Mapping[str, tuple[str, ...]] | None = None,
) -> LabelSchema:
    """Keys and values of the given rows (all by default); give it only rows that fitting may see.

    Values are sorted naturally. A key is single-valued when no cell has more than one value; `single` overrides
    that by key name. Keys without a known value are left out (see `empty_keys`). For a catalogue with categories the
    gate is the one given, else the catalogue's own, else learnt: a key applies to a category if some row carries it.

    Raises CatalogueError when no key has a known value, or an override names no key or contradicts the cells.
    """
    seen = catalogue if rows is None else catalogue.take(rows)
    in_use = {key: _cells_in_use(seen, key) for key in catalogue.keys}
    values = {
        key: tuple(sorted({v for cell in cells if cell for v in cell}, key=natural)) for key, cells in in_use.items()
    }
    keys = tuple(key for key in catalogue.keys if values[key])
    if not keys:
        raise CatalogueError(
            f"No key has a single known value in these {len(seen)} photos (keys: {', '.join(catalogue.keys)})."
        )
    override = dict(single or {})
    for key in override:
        if key not in catalogue.keys:
            raise CatalogueError(f"There is no key {key!r}.{nearest(key, catalogue.keys)}")
        if override[key] and any(cell and len(cell) > 1 for cell in in_use[key]):
            raise CatalogueError(f"Key {key!r} cannot be single-valued: some photo has several values for it.")
    return LabelSchema(
        keys=keys,
        values=tuple(values[key] for key in keys),
        single=tuple(override.get(key, all(not cell or len(cell) == 1 for cell in in_use[key])) for key in keys),
        gate=_gate(seen, keys, gate if gate is not None else catalogue.category_keys),
        category_key=CATEGORY if catalogue.categories is not None and CATEGORY in keys else None,
    )


def empty_keys(catalogue: Catalogue, schema: LabelSchema) -> tuple[Finding, ...]:
    """A finding per key that the schema left out because no given row has a known value of it."""
    return tuple(
        Finding("empty-key", key, "no photo that fitting may see has a known value; left out")
        for key in catalogue.keys
        if key not in schema.keys
    )


def never_in_train(
    catalogue: Catalogue, schema: LabelSchema, rows: npt.NDArray[Any] | None = None
) -> tuple[Finding, ...]:
    """A finding per value that these rows (all by default) have and the schema does not: no head can predict it."""
    seen = catalogue if rows is None else catalogue.take(rows)
    found = []
    for key, known in zip(schema.keys, schema.values, strict=True):
        column = coded(seen.cells[key])
        photos: dict[str, int] = {}
        for cell, count in zip(column.table, column.counts(), strict=True):
            for value in cell or ():
                if count and value not in known:
                    photos[value] = photos.get(value, 0) + int(count)
        for value in sorted(photos, key=natural):
            detail = f"{key}={value}: {photos[value]} photo(s), none that fitting may see; it cannot be predicted"
            found.append(Finding("never-in-train", key, detail))
    return tuple(found)


def same_content(catalogue: Catalogue, ids: npt.NDArray[np.bytes_]) -> tuple[Finding, ...]:
    """Findings for photos with identical bytes: their number, and each pair whose labels differ.

    ids : S32 (n,), content ids; all-zero ids (photos that could not be read) are not compared.
    """
    order = np.argsort(ids, kind="stable")
    order = order[ids[order] != b""]
    same = np.flatnonzero(ids[order][1:] == ids[order][:-1]) + 1
    if not len(same):
        return ()
    columns = {key: coded(catalogue.cells[key]) for key in catalogue.keys}
    conflicts = []
    first = order[0]
    starts = set(same.tolist())
    for i, row in enumerate(order):
        if i not in starts:
            first = row
            continue
        differ = [f"{k}: {_text(c[first])} and {_text(c[row])}" for k, c in columns.items() if c[first] != c[row]]
        if differ:
            detail = f"same bytes as {catalogue.filenames[first]}, other labels; {'; '.join(differ)}; both kept"
            conflicts.append(Finding("content-conflict", catalogue.filenames[row], detail))
    return (Finding("same-content", "", f"{len(same)} photo(s) repeat the bytes of another; all kept"), *conflicts)


def dummies_view(csv: Path) -> pd.DataFrame:
    """Format A as the indicator columns of `get_dummies(drop_first=True)` with unknown imputed as -1.

    Indexed by file name (the first row of each), keys in alphabetical order; per key the first category, -1, is
    dropped, which leaves one boolean column `<key>_<value>` per known value. Photos need not be on disk.

    Raises CatalogueError when the file is no CSV file with a column `filename`.
    """
    import pandas as pd

    table = open_table(csv)
    position = table.column("filename")
    if position is None:
        raise CatalogueError(f"{csv}: there is no column 'filename'; its columns are: {', '.join(table.header)}.")
    rows: dict[str, list[str]] = {}
    for _, row in table.rows():
        rows.setdefault(row[position], [*row, *[""] * (len(table.header) - len(row))])
    frame = pd.DataFrame(index=pd.Index(list(rows), name=table.header[position]))
    for key in sorted(h for i, h in enumerate(table.header) if h and i != position):
        cells = [row[table.header.index(key)].strip() for row in rows.values()]
        texts = ["-1" if cell in UNKNOWN_TOKENS else cell for cell in cells]
        categories = ["-1", *sorted(set(texts) - {"-1"}, key=natural)]
        frame[key] = pd.Categorical(texts, categories=categories)
    return pd.get_dummies(frame, columns=list(frame.columns), drop_first=True)


def _cells_in_use(catalogue: Catalogue, key: str) -> list[Cell]:
    column: Coded[Cell] = coded(catalogue.cells[key])
    return [cell for cell, count in zip(column.table, column.counts(), strict=True) if count]


def _gate(
    catalogue: Catalogue, keys: tuple[str, ...], given: Mapping[str, tuple[str, ...]] | None
) -> Mapping[str, tuple[str, ...]] | None:
    if given is not None:
        return {category: tuple(key for key in keys if key in applying) for category, applying in given.items()}
    if catalogue.categories is None:
        return None
    categories = coded(catalogue.categories).compact()
    carried = {}
    for key in keys:
        column = coded(catalogue.cells[key])
        codes = categories.codes[~column.where(None) & ~column.where(())]
        carried[key] = np.bincount(codes, minlength=len(categories.table)) > 0
    return {
        category: tuple(key for key in keys if key != CATEGORY and carried[key][code])
        for code, category in sorted(enumerate(categories.table), key=lambda pair: natural(pair[1] or ""))
        if category is not None
    }


def _text(cell: Cell) -> str:
    return "#N/A" if cell is None else "+".join(cell) or "none"
