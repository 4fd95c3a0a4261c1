"""The photos that could be labelled: those of a catalogue, or others, with what is known of them already."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.catalogue import Catalogue, Cell, Finding, coded, read_catalogue
from pipeline.catalogue.reading.raw_rows import hint
from pipeline.catalogue.reading.tables.opened import open_table
from pipeline.errors import CatalogueError, OptionError
from pipeline.model.photos import find_photos
from pipeline.options import DataOptions, NextOptions, grouping

_TABLES = (".csv", ".tsv", ".xlsx", ".parquet")


def pool_photos(given: Sequence[Path], images: Path | None = None) -> list[Path]:
    """The files that a pool stands for, each once.

    Args:
        given: Photos, folders, patterns, or tables with a column photo or filename.
        images: The folder that names in a table are relative to, beside the table's own.

    Raises:
        OptionError: There is no such photo.
        CatalogueError: A table has no such column.
    """
    tables = [path for path in given if path.suffix.casefold() in _TABLES]
    others = [path for path in given if path not in tables]
    found = [Path(path) for path in find_photos(others)[1]] if others else []
    for table in tables:
        found += _of_table(table, images)
    return list(dict.fromkeys(found))


def _of_table(path: Path, images: Path | None) -> list[Path]:
    table = open_table(path)
    places = [place for name in ("photo", "filename") if (place := table.column(name)) is not None]
    if not places:
        raise CatalogueError(f"--pool {path}: no column photo or filename; it has {', '.join(table.header)}.")
    names = dict.fromkeys(row[places[0]].strip() for _, row in table.rows() if len(row) > places[0])
    folders = [*([images] if images else []), path.parent / "images", path.parent]
    found = []
    for name in filter(None, names):
        hit = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if hit is None:
            raise OptionError(f"--pool {path}: no such photo, {name!r} in {folders[0]}")
        found.append(hit)
    if not found:
        raise OptionError(f"--pool {path}: it names no photo")
    return found


def read_pool(data: DataOptions, options: NextOptions, wanted: Sequence[str]) -> Catalogue:
    """The photos to choose from, with what is known of each; a photo that only the pool names is not known at all.

    Args:
        data: The catalogue; without one every photo of the pool is to be labelled.
        options: The pool, and what a product is.
        wanted: Attributes that are read whatever they look like.

    Raises:
        CatalogueError, OptionError: There are no such data or photos.
    """
    if data.data is None:
        if not options.pool:
            raise OptionError("no photos to choose from: give --data, or --pool with a folder of photos")
        return _without_data(pool_photos(options.pool, data.images), data)
    catalogue = read_catalogue(data, grouping(options.group_column, options.group_regex), wanted)
    if not options.pool:
        return catalogue
    inside, outside = _below(catalogue.images, pool_photos(options.pool, catalogue.images))
    row_of = {place: row for row, place in enumerate(catalogue.places)}
    fresh = [place for place in [*inside, *outside] if place not in row_of]
    grown = catalogue.grown(fresh)
    row_of |= {place: len(catalogue) + i for i, place in enumerate(fresh)}
    rows = np.array([row_of[place] for place in [*inside, *outside]], np.intp)
    taken = grown.take(rows)
    return replace(taken, findings=(*taken.findings, *_outside_findings(catalogue, outside)))


def _without_data(photos: Sequence[Path], data: DataOptions) -> Catalogue:
    folder = data.images or Path(os.path.commonpath([photo.parent for photo in photos]))
    inside, outside = _below(folder, photos)
    nothing: dict[str, Sequence[Cell]] = {name: coded([None] * len(photos)) for name in data.attributes}
    empty = Catalogue(folder, [], [], data.attributes, {name: coded([]) for name in data.attributes})
    return replace(empty.grown([*inside, *outside]), cells=nothing)


def _below(folder: Path, photos: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Names of photos below the folder, and whole paths of the others."""
    home = folder.resolve()
    inside, outside = [], []
    for photo in photos:
        where = photo.parent.resolve() / photo.name
        if where.is_relative_to(home):
            inside.append(where.relative_to(home).as_posix())
        else:
            outside.append(where.as_posix())
    return inside, outside


def _outside_findings(catalogue: Catalogue, outside: Sequence[str]) -> list[Finding]:
    if not outside:
        return []
    detail = f"{len(outside)} photo(s), such as {outside[0]!r}, are not below {catalogue.images}"
    return [Finding("pool-outside", "", detail)]


def asked_attributes(data: DataOptions, known: Sequence[str], of: str) -> tuple[str, ...]:
    """The attributes that are asked about: all that are known, or those of `--attributes`.

    Args:
        data: Its attributes.
        known: All there are.
        of: What knows them, in the words of an error.

    Raises:
        OptionError: One is not known.
    """
    for name in data.attributes:
        if name not in known:
            raise OptionError(f"{of} does not know the attribute {name!r}.{hint(name, known)}")
    return data.attributes or tuple(known)
