"""Photos under a URL, in a folder's place: a bucket lists them, a web server is asked for those the table names."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from pipeline.catalogue.findings import Finding
from pipeline.catalogue.reading.photos import Folder, Found, find, search
from pipeline.catalogue.reading.raw_rows import RawRows
from pipeline.errors import CatalogueError, printable
from pipeline.remote import (
    Place,
    RemotePhotos,
    Stamp,
    ask,
    clean,
    is_bucket,
    is_http,
    is_url,
    list_photos,
    local_path,
    place_of,
)


@dataclass
class RemoteFolder(Folder):
    """The photos under a URL.

    Attributes:
        place: The URL, in parts.
        stamps: The version of each photo, by its name in `files`.
        whole: The URLs with signatures, by the names without.
        refusals: Why a name is no photo, where a server said so.
    """

    place: Place = field(default_factory=lambda: Place("", ""))
    stamps: dict[str, Stamp] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)

    def paths(self, names: Sequence[str]) -> RemotePhotos:
        """The photos of these names, made on access."""
        return RemotePhotos(self.place, names, [self.stamps.get(name) for name in names], self.whole)

    def key_of(self, name: str) -> str | None:
        """What a name in the table is called in `files`; None for a URL that lies elsewhere or climbs."""
        if not is_url(name):
            return name
        scheme, _, rest = name.strip().partition("://")
        host, slash, path = rest.partition("/")
        url = f"{scheme.lower()}://{host.lower() if is_http(name) else host}{slash}{path}"
        prefix = str(self.place) if not self.place.host or str(self.place).endswith("/") else f"{self.place}/"
        steps = unquote(path.partition("?")[0]).replace("\\", "/").split("/")
        if not url.startswith(prefix) or ".." in steps:
            return None
        return url if is_http(url) else url[len(prefix) :]


def folder_at(images: str | Path) -> Folder:
    """The files under a folder, or the photos under a URL.

    Raises:
        CatalogueError: There is no such folder.
        OptionError, RemoteError: The URL cannot be used, or its bucket cannot be listed.
    """
    given = str(images)
    if is_url(given) and given[:7].lower() == "file://":
        images = local_path(given)
    elif is_url(given):
        place = place_of(given)
        stamps = list_photos(place) if is_bucket(given) else {}
        return RemoteFolder(str(place), dict.fromkeys(stamps, -1), place=place, stamps=stamps)
    if not Path(images).is_dir():
        raise CatalogueError(f"--images {images}: no such folder.")
    return search(Path(images))


def without_secrets(raw: RawRows, folder: Folder) -> None:
    """Take passwords and signatures out of the rows' names, and ask a web server for the photos that they name."""
    named = [clean(name) for name in raw.names]
    if isinstance(folder, RemoteFolder):
        folder.whole.update({new: old for new, old in zip(named, raw.names, strict=True) if new != old})
        if is_http(folder.place.home + "/"):
            _ask(folder, named)
    raw.names = named


def _ask(folder: RemoteFolder, names: Sequence[str]) -> None:
    keys = list(dict.fromkeys(key for name in names if (key := _askable(folder, name))))
    for key, said in zip(keys, ask(list(folder.paths(keys))), strict=True):
        if isinstance(said, str):
            folder.refusals[key] = said
        else:
            folder.files[key], folder.stamps[key] = -1, said


def _askable(folder: RemoteFolder, name: str) -> str | None:
    """The key of a name that may be asked for: no URL of another place, and no path that climbs."""
    if is_url(name):
        key = folder.key_of(name)
        if key is not None and name in folder.whole:
            folder.whole.setdefault(key, folder.whole[name])
        return key
    steps = name.replace("\\", "/").split("/")
    return None if not name.strip() or not folder.place.host or ".." in steps or not steps[0] else name


def find_remote(folder: Folder, name: str) -> Found:
    """The photo that a row's name means: a name under the URL, or a whole URL under it."""
    assert isinstance(folder, RemoteFolder)
    key = folder.key_of(name)
    if key is None:
        return Found(None, Finding("outside-images", printable(name), f"it does not lie under {folder.root}; dropped"))
    if is_url(name):
        normal = unicodedata.normalize("NFC", key)
        there = key if key in folder.files else folder.by_normal_form.get(normal)
        found = Found(there) if there is not None else Found(None, Finding("missing-photo", printable(name), ""))
    else:
        found = find(folder, name)
    if found.finding is None or found.finding.kind != "missing-photo":
        return found
    why = folder.refusals.get(key, f"there is no such photo under {folder.root}")
    return Found(None, replace(found.finding, detail=f"{why}; dropped"))
