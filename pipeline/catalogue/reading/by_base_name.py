"""Photos found by the last part of their names, for tables in which not one name is a file as it is written."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from urllib.parse import unquote

from pipeline.catalogue.findings import Finding
from pipeline.catalogue.reading.photos import Folder, is_photo
from pipeline.catalogue.reading.raw_rows import RawRows
from pipeline.errors import printable

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_FLOAT = re.compile(r"([0-9]+)[.]0+((?:[.][A-Za-z0-9]+)?)")


def rename_by_base(raw: RawRows, folder: Folder) -> bool:
    """Give rows the names of the photos that are certainly meant; True if there are any.

    The last part of a path or an address is compared, capitals aside, with whatever ending of a photo or none, and a
    number that was written with a point (`15970.0`) as a whole one. A name that several photos have is not certain.
    """
    photos = _by_base(folder)
    names = [_only(photos, name) for name in raw.names]
    hits = [i for i, name in enumerate(names) if name is not None]
    if not hits:
        return False
    first = hits[0]
    detail = (
        f"no name is a file in {folder.root} as it is written; by base name {len(hits)} of {len(names)} row(s) name a "
        f"photo there, such as {printable(raw.names[first])!r} the photo {printable(names[first] or '')!r}"
    )
    raw.findings.append(Finding("found-by-base-name", "", detail))
    raw.names = [new if new is not None else old for new, old in zip(names, raw.names, strict=True)]
    return True


def ambiguous(raw: RawRows, folder: Folder) -> int:
    """How many rows have a base name that several photos share."""
    photos = _by_base(folder)
    return sum(any(len(photos.get(base, ())) > 1 for base in _bases(name)) for name in raw.names)


def _by_base(folder: Folder) -> dict[str, list[str]]:
    """Photos by base name and by base name without ending, in small letters; a whole name is an ending's rival."""
    photos: dict[str, list[str]] = {}
    for name in filter(is_photo, folder.files):
        base = posixpath.basename(name).casefold()
        for key in (base, posixpath.splitext(base)[0]):
            photos.setdefault(key, []).append(name)
    return photos


def _only(photos: dict[str, list[str]], name: str) -> str | None:
    for base in _bases(name):
        if base in photos:
            return photos[base][0] if len(photos[base]) == 1 else None
    return None


def _bases(name: str) -> Iterator[str]:
    """Base names that a row may mean, in small letters, the most literal first."""
    path = name.strip().replace("\\", "/")
    if _ADDRESS.match(path):
        path = unquote(re.split(r"[?#]", path, maxsplit=1)[0])
    base = posixpath.basename(path).casefold()
    if base:
        yield base
        if match := _FLOAT.fullmatch(base):
            base = match[1] + match[2]
            yield base
        if is_photo(base):
            yield posixpath.splitext(base)[0]
