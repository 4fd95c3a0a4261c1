"""Rows of the data against the photos on disk: which rows are kept, and why the others are not."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.catalogue.cells import Cell
from pipeline.catalogue.findings import Finding, printable
from pipeline.catalogue.reading.photos import Folder, Found, find, is_photo
from pipeline.catalogue.reading.raw_rows import RawRows


@dataclass(frozen=True)
class Kept:
    """Rows whose photo is on disk, each photo once.

    rows : int64 (k,), positions in the raw rows.
    names : (k,), as written in the data; places : (k,), as they are called on disk.
    findings : one per dropped or oddly named row.
    """

    rows: npt.NDArray[np.int64]
    names: list[str]
    places: list[str]
    findings: list[Finding]


def keep_rows(raw: RawRows, folder: Folder) -> Kept:
    """Keep the first row of each photo on disk; marks the photos that rows name in `folder.files`."""
    rows = array("q")
    names, places = [], []
    findings: list[Finding] = []
    absent: dict[str, int] = {}
    for row, name in enumerate(raw.names):
        found = Found(name) if name in folder.files else find(folder, name)
        claimed, attribute = (absent, name) if found.name is None else (folder.files, found.name)
        first = claimed.get(attribute, -1)
        if first >= 0:
            findings.append(Finding("repeated", printable(name), _repeat(raw, row, first)))
            continue
        if found.finding is not None:
            findings.append(found.finding)
        if found.name is not None:
            rows.append(row)
            names.append(name)
            places.append(found.name)
        if name:
            claimed[attribute] = row
    return Kept(np.array(rows, np.int64), names, names if names == places else places, findings)


def _repeat(raw: RawRows, row: int, first: int) -> str:
    conflicts = [
        f"{attribute}: {_text(column[first])} kept, {_text(column[row])} dropped"
        for attribute, column in raw.columns.items()
        if column[first] != column[row]
    ]
    what = "; ".join(conflicts) if conflicts else "the labels agree"
    return f"line {raw.lines[row]} names the photo of line {raw.lines[first]}, which is kept; {what}"


def _text(cell: Cell) -> str:
    if cell is None:
        return "#N/A"
    return "+".join(cell) if cell else "none"


def no_photo(path: Path, raw: RawRows, folder: Folder) -> str:
    """Text of the error when not one row's photo is on disk."""
    photos = sorted(n for n in folder.files if is_photo(n))
    there = f"it holds {len(photos)} photos, such as {printable(photos[0])!r}" if photos else "it holds no photo at all"
    return (
        f"No photo found: {path} names {len(raw.names)} files, such as {printable(raw.names[0])!r}, "
        f"but none of them is in {folder.root}; {there}. Say where the photos are with --images."
    )
