"""The photos that could be labelled: those of a catalogue, or others, with what is known of them already."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.catalogue import Catalogue, Cell, Finding, coded, read_catalogue
from pipeline.catalogue.reading.photos import PhotoPaths
from pipeline.catalogue.reading.raw_rows import hint
from pipeline.catalogue.reading.remote import RemoteFolder, folder_at, found_in
from pipeline.catalogue.reading.tables.opened import open_table
from pipeline.errors import CatalogueError, OptionError
from pipeline.model.photos import find_photos
from pipeline.options import DataOptions, NextOptions, grouping
from pipeline.remote import RemotePhoto, RemotePhotos, Stamp, ask, clean, is_url, local_path, place_of

Photo = Path | RemotePhoto

_TABLES = (".csv", ".tsv", ".xlsx", ".parquet")


def pool_photos(given: Sequence[str | Path], images: str | Path | None = None) -> list[Photo]:
    """The photos that a pool stands for, each once.

    Args:
        given: Photos, folders, patterns and URLs, or tables with a column photo or filename.
        images: The folder that names in a table are relative to, beside the table's own; of a URL, alone.

    Raises:
        OptionError: There is no such photo.
        CatalogueError: A table has no such column.
        RemoteError: A bucket or host cannot be used.
    """
    here = [_on_this_machine(each) for each in given]
    tables = [path for path in here if Path(path).suffix.casefold() in _TABLES]
    others = [path for path in here if path not in tables]
    found: list[Photo] = []
    if others:
        found += [each if isinstance(each, RemotePhoto) else Path(each) for each in find_photos(others)[1]]
    for table in tables:
        found += _of_table(table, None if images is None else _on_this_machine(images))
    return _with_versions(list({str(photo): photo for photo in found}.values()))


def _on_this_machine(given: str | Path) -> str | Path:
    """What is given as a path, unless it is a URL of another machine."""
    text = str(given)
    if text[:7].lower() == "file://":
        return local_path(text)
    return text if is_url(text) else Path(given)


def _with_versions(photos: Sequence[Photo]) -> list[Photo]:
    """The photos, with the versions of those that nobody listed, so that none is read to learn which vectors it has."""
    bare = [photo for photo in photos if isinstance(photo, RemotePhoto) and photo.stamp is None]
    stamps = {photo.name: said for photo, said in zip(bare, ask(bare), strict=True) if isinstance(said, Stamp)}
    # One that its server refuses stays: whoever reads it gets to know why, and says so.
    return [
        RemotePhoto(photo.url, photo.name, stamps.get(photo.name, photo.stamp))
        if isinstance(photo, RemotePhoto)
        else photo
        for photo in photos
    ]


def _of_table(path: str | Path, images: str | Path | None) -> Sequence[Photo]:
    if isinstance(path, str):
        raise OptionError(f"--pool {clean(path)}: a table is read from this machine alone; copy it here")
    table = open_table(path)
    places = [place for name in ("photo", "filename") if (place := table.column(name)) is not None]
    if not places:
        raise CatalogueError(f"--pool {path}: no column photo or filename; it has {', '.join(table.header)}.")
    rows = [row for _, row in table.rows() if len(row) > places[0]]
    names = list(filter(None, dict.fromkeys(row[places[0]].strip() for row in rows)))
    if not names:
        raise OptionError(f"--pool {path}: it names no photo")
    return _below_url(path, names, images) if isinstance(images, str) else _in_folders(path, names, images)


def _below_url(path: Path, names: Sequence[str], images: str) -> Sequence[Photo]:
    folder = folder_at(images)
    found = []
    for name, each in zip(names, found_in(folder, names), strict=True):
        if each.name is None:
            raise OptionError(f"--pool {path}: no such photo, {clean(name)!r} under {folder.root}")
        found.append(each.name)
    return folder.paths(found)


def _in_folders(path: Path, names: Sequence[str], images: Path | None) -> list[Path]:
    folders = [*([images] if images else []), path.parent / "images", path.parent]
    found = []
    for name in names:
        hit = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if hit is None:
            advice = "; URLs in a table need --images with the URL that they lie below" if is_url(name) else ""
            raise OptionError(f"--pool {path}: no such photo, {clean(name)!r} in {folders[0]}{advice}")
        found.append(hit)
    return found


def read_pool(data: DataOptions, options: NextOptions, wanted: Sequence[str]) -> Catalogue:
    """The photos to choose from, with what is known of each; a photo that only the pool names is not known at all.

    Args:
        data: The catalogue; without one every photo of the pool is to be labelled.
        options: The pool, and what a product is.
        wanted: Attributes that are read whatever they look like.

    Raises:
        CatalogueError, OptionError: There are no such data or photos, or some are files and some are not.
        RemoteError: A bucket or host cannot be used.
    """
    if data.data is None:
        if not options.pool:
            raise OptionError("no photos to choose from: give --data, or --pool with a folder of photos")
        return _without_data(pool_photos(options.pool, data.images), data)
    catalogue = read_catalogue(data, grouping(options.group_column, options.group_regex), wanted)
    if not options.pool:
        return catalogue
    names, paths, outside = _named(catalogue.images, pool_photos(options.pool, catalogue.images))
    places = catalogue.places_of(paths)
    row_of = {place: row for row, place in enumerate(catalogue.places)}
    fresh = [i for i, place in enumerate(places) if place not in row_of]
    grown = catalogue.grown([names[i] for i in fresh], paths.take(fresh))
    row_of |= {places[i]: len(catalogue) + at for at, i in enumerate(fresh)}
    taken = grown.take(np.array([row_of[place] for place in places], np.intp))
    return replace(taken, findings=(*taken.findings, *_outside_findings(catalogue, outside)))


def _without_data(photos: Sequence[Photo], data: DataOptions) -> Catalogue:
    home = None if data.images is None else _on_this_machine(data.images)
    names, paths, _ = _named(home, photos)
    cells: dict[str, Sequence[Cell]] = {name: coded([None] * len(photos)) for name in data.attributes}
    root = paths.root if isinstance(paths, PhotoPaths) else str(paths.root)
    return Catalogue(root, names, paths, data.attributes, cells)


def _named(
    images: str | Path | None, photos: Sequence[Photo]
) -> tuple[list[str], PhotoPaths | RemotePhotos, Sequence[str]]:
    """What photos are called where `images` is the place of the others, the photos, and which lie outside of it."""
    there = [photo for photo in photos if isinstance(photo, RemotePhoto)]
    here = [photo for photo in photos if isinstance(photo, Path)]
    home_here = images if isinstance(images, Path) else next(iter(here), None)
    home_there = images if isinstance(images, str) else next(iter(there), None)
    _require_one_place(home_here, home_there)
    if there:
        return _named_by_url(None if images is None else str(images), there)
    folder = Path(images or os.path.commonpath([photo.parent for photo in here]))
    inside, outside = _below(folder, here)
    return [*inside, *outside], PhotoPaths(folder, [*inside, *outside]), outside


def _require_one_place(here: Path | None, there: str | RemotePhoto | None) -> None:
    if here is not None and there is not None:
        raise OptionError(
            f"photos are chosen among those of one place, and {here} is on this machine, {clean(str(there))} is not: "
            "give --pool and --images files and folders alone, or URLs alone"
        )


def _named_by_url(images: str | None, photos: Sequence[RemotePhoto]) -> tuple[list[str], RemotePhotos, Sequence[str]]:
    """As a table of `images` would name them; by whole URLs where there is none, or where they lie elsewhere."""
    root = place_of(images or photos[0].place.home)
    below = [None if images is None else RemoteFolder(images, place=root).key_of(photo.name) for photo in photos]
    names = [name or photo.name for name, photo in zip(below, photos, strict=True)]
    whole = {name: photo.url for name, photo in zip(names, photos, strict=True) if photo.url != photo.name}
    paths = RemotePhotos(root, names, [photo.stamp for photo in photos], whole)
    return names, paths, [] if images is None else [n for n, key in zip(names, below, strict=True) if key is None]


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
