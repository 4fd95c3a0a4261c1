"""A table as its header and rows of text, whatever file it comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.catalogue.findings import Finding
from pipeline.errors import CatalogueError
from pipeline.system import wrong_text

Rows = Iterator[tuple[int, list[str]]]


@dataclass(frozen=True)
class Table:
    """A file whose header is read and whose rows are read on demand.

    Attributes:
        header: Column names, stripped; "" for a column without a name.
        rows: Gives (line number, cells as text) of each row after the header; blank lines are skipped.
        findings: What was odd about the file itself.
        lists: Columns whose cells are lists in the file; as text they are joined (`catalogue.joined`).
    """

    path: Path
    header: tuple[str, ...]
    rows: Callable[[], Rows]
    findings: tuple[Finding, ...] = ()
    lists: frozenset[str] = frozenset()

    def column(self, name: str) -> int | None:
        """Position of the column, None if there is none; capitals do not count, nor blanks, `_` and `-` if need be."""
        return position(self.header, name)


def position(names: tuple[str, ...], name: str) -> int | None:
    """Where a name stands among names: as it is, else without regard to capitals, else to letters and digits alone."""
    for folded in (str, str.casefold, _letters):
        places = [i for i, each in enumerate(names) if each and folded(each) == folded(name)]
        if len(places) == 1 and folded(name):
            return places[0]
    return None


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def check_header(path: Path, header: tuple[str, ...]) -> tuple[Finding, ...]:
    """A finding if columns have no name.

    Raises:
        CatalogueError: There is no name, a name twice, or one that cannot be written.
    """
    if not any(header):
        raise CatalogueError(f"{path}: the first line is empty; a line with the column names was expected.")
    for number, name in enumerate(header, 1):
        if wrong := wrong_text(name):
            raise CatalogueError(
                f"{path}, line 1, column {number}: {wrong} in the name. Is it UTF-16 without a byte order mark? "
                "Save it as UTF-8."
            )
    folded = Counter(h.casefold() for h in header if h)
    twice = sorted(name for name, times in folded.items() if times > 1)
    if twice:
        raise CatalogueError(f"{path}: the header names a column twice: {', '.join(twice)}. Rename one of them.")
    if "" not in header:
        return ()
    return (Finding("unnamed-column", path.name, f"{header.count('')} column(s) without a name are left out"),)
