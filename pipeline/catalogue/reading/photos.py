"""Which file on disk a row's file name means, without ever leaving the images folder."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import overload

from pipeline.catalogue.findings import Finding
from pipeline.errors import printable
from pipeline.remote import RemotePhoto

_SUFFIXES = "jpg jpeg jpe jfif png webp bmp gif tif tiff avif heic heif hif jp2 ppm pgm"

IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split(" "))
"""Endings of file names that are taken for photos when a folder is searched."""

_JUNK = frozenset({"thumbs.db", ".ds_store", "desktop.ini", "ehthumbs.db"})
_MOST_LISTED = 50
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class PhotoPaths(Sequence[Path]):
    """Paths made on access from the folder and the names in it."""

    __slots__ = ("names", "root")

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root = root
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> PhotoPaths: ...
    def __getitem__(self, index: int | slice) -> Path | PhotoPaths:
        if isinstance(index, slice):
            return PhotoPaths(self.root, self.names[index])
        return self.root / self.names[index]

    def take(self, places: Sequence[int]) -> PhotoPaths:
        """The paths at these positions."""
        return PhotoPaths(self.root, [self.names[i] for i in places])


@dataclass
class Folder:
    """The files under the images folder, as found by one search.

    Attributes:
        root: The folder; a text where it is a URL.
        files: Relative name with forward slashes -> first row that names it, -1 for none yet.
        outside: Names of links that lead out of the folder.
    """

    root: Path | str
    files: dict[str, int] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    @cached_property
    def real(self) -> str:
        """The folder with every link resolved."""
        return os.path.realpath(self.root)

    @cached_property
    def by_normal_form(self) -> dict[str, str]:
        """NFC form -> name on disk, for the names that are not plain ASCII."""
        return {unicodedata.normalize("NFC", n): n for n in sorted(self.files, reverse=True) if not n.isascii()}

    def paths(self, names: Sequence[str]) -> Sequence[Path | RemotePhoto]:
        """The photos of these names, made on access."""
        return PhotoPaths(Path(self.root), names)

    def holds(self, path: str) -> bool:
        """True when the path, links resolved, is inside the folder."""
        real = os.path.realpath(path)
        return real.startswith(self.real.rstrip(os.sep) + os.sep)


@dataclass(frozen=True, slots=True)
class Found:
    """Where a row's photo is: `name` under the folder, or None; `finding` says what was odd or wrong."""

    name: str | None
    finding: Finding | None = None


def search(root: Path) -> Folder:
    """List every file under the folder. Linked folders are reported and not entered, so a loop of links ends."""
    folder = Folder(root)
    stack = [""]
    while stack:
        prefix = stack.pop()
        try:
            entries = os.scandir(root / prefix)
        except OSError as error:
            folder.findings.append(Finding("unreadable-folder", printable(prefix), f"not searched: {error.strerror}"))
            continue
        with entries:
            stack.extend(_enter(folder, prefix, entries))
    return folder


def _enter(folder: Folder, prefix: str, entries: Iterator[os.DirEntry[str]]) -> list[str]:
    deeper = []
    for entry in entries:
        name = prefix + entry.name
        if entry.is_symlink():
            _link(folder, name, entry.path)
        elif entry.is_dir():
            deeper.append(name + "/")
        elif entry.is_file():
            folder.files[name] = -1
    return deeper


def _link(folder: Folder, name: str, path: str) -> None:
    if os.path.isdir(path):  # noqa: PTH112 - a Path per directory entry would double the time of the search
        outside = "" if folder.holds(path) else ", which is outside the images folder"
        folder.findings.append(Finding("linked-folder", printable(name), f"a link to a folder{outside}; not searched"))
    elif os.path.isfile(path):  # noqa: PTH113
        if folder.holds(path):
            folder.files[name] = -1
        else:
            folder.outside.add(name)


def find(folder: Folder, name: str) -> Found:
    """The file that a row's file name means.

    In this order: the exact name; the same path written otherwise (`./`, `//`, backslashes, blanks around it);
    the same name in another Unicode normal form; a path through a linked folder that stays inside.
    Absolute paths, and paths or links that leave the folder, are refused.
    """
    if name in folder.files:
        return Found(name)
    if not name.strip() or "\0" in name:
        return Found(None, Finding("no-name", printable(name), "the row has no usable file name; dropped"))
    tidy = posixpath.normpath(name.strip().replace("\\", "/"))
    if tidy.startswith(("/", "../")) or tidy == ".." or _DRIVE.match(name.strip()):
        why = "the path climbs out of" if tidy.startswith("..") else "an absolute path, not one inside"
        return _refuse(name, f"{why} {folder.root}; dropped")
    if name in folder.outside or tidy in folder.outside:
        return _refuse(name, f"a link that leads out of {folder.root}; dropped")
    for other in (posixpath.normpath(name), tidy):
        if other in folder.files:
            return Found(other, Finding("path-form", printable(name), f"the photo was found as {printable(other)!r}"))
    twin = folder.by_normal_form.get(unicodedata.normalize("NFC", tidy))
    if twin is not None:
        return Found(twin, Finding("unicode-form", name, "the name on disk is written in another Unicode normal form"))
    return _through_links(folder, name, tidy)


def _through_links(folder: Folder, name: str, tidy: str) -> Found:
    path = os.path.join(folder.root, tidy)  # noqa: PTH118
    if isinstance(folder.root, Path) and os.path.isfile(path):  # noqa: PTH113
        if folder.holds(path):
            return Found(tidy)
        return _refuse(name, f"a link that leads out of {folder.root}; dropped")
    return Found(None, Finding("missing-photo", printable(name), "no such file in the images folder; dropped"))


def _refuse(name: str, why: str) -> Found:
    return Found(None, Finding("outside-images", printable(name), why))


def is_photo(name: str) -> bool:
    """True when a file name ends like a photo's; files that Windows and macOS leave behind never do."""
    base = posixpath.basename(name).casefold()
    return posixpath.splitext(base)[1] in IMAGE_SUFFIXES and base not in _JUNK and not base.startswith("._")


def leftovers(folder: Folder, ignore: frozenset[str] = frozenset()) -> list[Finding]:
    """Findings for the files that no row names: each non-image (the first 50), and the number of photos."""
    free = [n for n, row in folder.files.items() if row < 0 and n not in ignore]
    junk = sorted(n for n in free if not is_photo(n))
    findings = [Finding("not-an-image", printable(n), "not a photo; skipped") for n in junk[:_MOST_LISTED]]
    if len(junk) > _MOST_LISTED:
        findings.append(
            Finding("not-an-image", "", f"{len(junk) - _MOST_LISTED} more files that are no photos; skipped")
        )
    if unnamed := len(free) - len(junk):
        example = printable(min(n for n in free if is_photo(n)))
        detail = f"{unnamed} photo(s) on disk that no row names, such as {example!r}"
        findings.append(Finding("not-in-catalogue", "", detail))
    return findings
