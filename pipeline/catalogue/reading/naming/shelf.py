"""The photos of a folder on a shelf: those that match a pattern are found without looking at all the others."""

from __future__ import annotations

import posixpath
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.catalogue.reading.photos import Folder, is_photo
from pipeline.errors import CatalogueError, printable

MOST_COMPARED = 10**8
"""Comparisons of a file name with a pattern, which take about a minute; most patterns need a few per row."""

ANY = "\0"
"""Stands for `*` in a pattern that is filled in, whose values may hold a `*` of their own; no file name has it."""


def shown(filled: str) -> str:
    """A pattern that is filled in, as it is written."""
    return filled.replace(ANY, "*")


@dataclass
class Shelf:
    """The photos of a folder, found by how a part of their path begins or ends.

    Attributes:
        most: Comparisons that are made in all before there is an error.
    """

    folder: Folder
    most: int = MOST_COMPARED
    _by_part: dict[tuple[int, int, bool], list[tuple[str, str]]] = field(default_factory=dict)
    _photos: dict[int, list[tuple[list[str], str]]] = field(default_factory=dict)
    _compared: int = 0

    def __post_init__(self) -> None:
        for name in filter(is_photo, self.folder.files):
            if printable(name) != name:
                continue  # bytes that are no text, which no table of ours could name
            parts = unicodedata.normalize("NFC", name).split("/")
            self._photos.setdefault(len(parts), []).append((parts, name))

    def matching(self, filled: str) -> tuple[str, ...]:
        """The photos that match, sorted. What stands for `*` may be any characters but a slash."""
        if not filled:
            return ()
        parts = posixpath.normpath(unicodedata.normalize("NFC", filled.replace("\\", "/"))).split("/")
        ways = [self._range(parts, at, turned) for at in range(len(parts)) for turned in (False, True)]
        near = min(ways, key=len)
        self._compared += len(near)
        if self._compared > self.most:
            raise CatalogueError(
                f"--image-name: with {shown(filled)!r} and others like it, over {self.most} file names would have "
                "to be compared. Let a column stand where a folder's or file's name begins or ends."
            )
        return tuple(sorted(name for name in near.names() if _fits(name, parts)))

    def _range(self, parts: list[str], at: int, turned: bool) -> _Range:
        """The photos of which one part of the path begins (turned: ends) as the pattern's does."""
        key = (len(parts), at, turned)
        if key not in self._by_part:
            photos = self._photos.get(len(parts), [])
            self._by_part[key] = sorted((each[at][::-1] if turned else each[at], name) for each, name in photos)
        shelf = self._by_part[key]
        begin = (parts[at][::-1] if turned else parts[at]).partition(ANY)[0]
        return _Range(shelf, bisect_left(shelf, (begin,)), bisect_left(shelf, (begin + "\U0010ffff",)))


@dataclass(frozen=True)
class _Range:
    """A stretch of a sorted shelf, which is not copied before it is known to be the shortest."""

    shelf: Sequence[tuple[str, str]]
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    def names(self) -> Iterator[str]:
        return (name for _, name in self.shelf[self.first : self.end])


def _fits(name: str, parts: list[str]) -> bool:
    own = unicodedata.normalize("NFC", name).split("/")
    return all(_part_fits(part, pattern) for part, pattern in zip(own, parts, strict=True))


def _part_fits(part: str, pattern: str) -> bool:
    first, *others = pattern.split(ANY)
    if not others:
        return part == first
    if not part.startswith(first):
        return False
    at = len(first)
    for literal in others[:-1]:
        at = part.find(literal, at)
        if at < 0:
            return False
        at += len(literal)
    return part.endswith(others[-1]) and at <= len(part) - len(others[-1])
