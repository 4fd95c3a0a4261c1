"""Rows of the data against the photos on disk: which rows are kept, and why the others are not."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.arrays import Int64
from pipeline.catalogue.cells import cell_text, differences
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.reading.by_base_name import ambiguous
from pipeline.catalogue.reading.photos import Folder, Found, find, is_photo
from pipeline.catalogue.reading.raw_rows import RawRows
from pipeline.catalogue.reading.remote import RemoteFolder, find_remote
from pipeline.errors import printable
from pipeline.remote import home_of, is_url


@dataclass(frozen=True)
class Kept:
    """Rows whose photo is on disk, each photo once.

    Attributes:
        rows: int64 (k,), positions in the raw rows.
        names: (k,), as written in the data.
        places: (k,), as they are called on disk.
        findings: One per dropped or oddly named row.
    """

    rows: Int64
    names: list[str]
    places: list[str]
    findings: list[Finding]


class _Repeat(NamedTuple):
    """A row that names the photo of an earlier one: the place of its finding, its row, and the row that is kept."""

    finding: int
    row: int
    kept: int


def keep_rows(raw: RawRows, folder: Folder) -> Kept:
    """Keep the first row of each photo on disk; marks the photos that rows name in `folder.files`."""
    rows = array("q")
    look = find_remote if isinstance(folder, RemoteFolder) else find
    names, places = [], []
    findings: list[Finding] = []
    repeats: list[_Repeat] = []
    absent: dict[str, int] = {}
    for row, name in enumerate(raw.names):
        photo = Found(name) if name in folder.files else look(folder, name)
        claimed, attribute = (absent, name) if photo.name is None else (folder.files, photo.name)
        first = claimed.get(attribute, -1)
        if first >= 0:
            repeats.append(_Repeat(len(findings), row, first))
            findings.append(Finding("repeated", printable(name), ""))
            continue
        if photo.finding is not None:
            findings.append(photo.finding)
        if photo.name is not None:
            rows.append(row)
            names.append(name)
            places.append(photo.name)
        if name:
            claimed[attribute] = row
    _tell_repeats(raw, findings, repeats)
    return Kept(np.array(rows, np.int64), names, names if names == places else places, findings)


def _tell_repeats(raw: RawRows, findings: list[Finding], repeats: list[_Repeat]) -> None:
    """Say in the findings of repeated rows what differs from the row that is kept."""
    rows = np.array([repeat.row for repeat in repeats], np.intp)
    kept = np.array([repeat.kept for repeat in repeats], np.intp)
    differ = differences(raw.columns, kept, rows)
    for i, repeat in enumerate(repeats):
        conflicts = [
            f"{name}: {cell_text(one)} kept, {cell_text(other)} dropped" for name, one, other in differ.get(i, ())
        ]
        what = "; ".join(conflicts) if conflicts else "the labels agree"
        detail = f"line {raw.lines[repeat.row]} names the photo of line {raw.lines[repeat.kept]}, which is kept; {what}"
        findings[repeat.finding] = replace(findings[repeat.finding], detail=detail)


def no_photo(path: Path, raw: RawRows, folder: Folder) -> str:
    """Text of the error when not one row's photo is on disk."""
    if isinstance(folder, RemoteFolder) and folder.refusals:
        name, why = next(iter(folder.refusals.items()))
        return f"No photo found: {path} names {len(raw.names)} files, and none can be had: {printable(name)!r}: {why}."
    photos = sorted(n for n in folder.files if is_photo(n))
    if photos and (twice := ambiguous(raw, folder)):
        return (
            f"No photo found: {path} names {len(raw.names)} files, such as {printable(raw.names[0])!r}. For {twice} of "
            f"them {folder.root} holds several photos of that base name in different folders, so none is certain. Name "
            "the photos with their folders, or give one of these as --images."
        )
    there = f"it holds {len(photos)} photos, such as {printable(photos[0])!r}" if photos else "it holds no photo at all"
    url = raw.names[0] if isinstance(folder.root, Path) and is_url(raw.names[0]) else ""
    advice = f", or have them read from there with --images {home_of(url)}/" if url else ""
    return (
        f"No photo found: {path} names {len(raw.names)} files, such as {printable(raw.names[0])!r}, "
        f"but none of them is in {folder.root}, neither as written nor by its base name; {there}. "
        f"Say where the photos are with --images{advice}."
    )
