"""Labels laid over a catalogue: later ones win, and what they change or contradict is a finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pipeline.catalogue.cells import Cell, Coded, cell_text, coded, several_values
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.joined import SEPARATOR, parts
from pipeline.catalogue.reading.columns.numbers import plain_number
from pipeline.catalogue.reading.corrections.label_studio import read_label_studio
from pipeline.catalogue.reading.corrections.said import Said, read_said
from pipeline.catalogue.reading.photos import find, search
from pipeline.catalogue.reading.raw_rows import hint, unknown_tokens
from pipeline.catalogue.records import Catalogue
from pipeline.errors import CatalogueError, counted, printable
from pipeline.options import DataOptions
from pipeline.system import wrong_text


def read_labels(paths: Sequence[Path]) -> tuple[tuple[Said, ...], tuple[Finding, ...]]:
    """The labels of several files, in the order in which they count, and a finding per file that is not all filled in.

    Raises:
        CatalogueError: A file is none, or says nothing at all.
    """
    said: list[Said] = []
    findings = []
    for path in paths:
        of_file, left = (read_label_studio if path.suffix.casefold() == ".json" else read_said)(path)
        if not of_file:
            raise CatalogueError(f"--labels {path}: it has no label yet ({counted(left, 'row')} without a value).")
        said += of_file
        if left:
            findings.append(Finding("labels-open", path.name, f"{left} without a value, {len(of_file)} with one"))
    for each in said:
        _check_texts(each)
    ordered = [each for last in (False, True) for each in said if each.last is last]
    return tuple(ordered), tuple(findings)


def _check_texts(said: Said) -> None:
    for name in ("photo", "attribute", "value", "by"):
        if wrong := wrong_text(getattr(said, name)):
            raise CatalogueError(f"--labels, {said.source}: the {name} {getattr(said, name)!r} holds {wrong}.")


def lay_over(catalogue: Catalogue, offered: Sequence[str], options: DataOptions) -> Catalogue:
    """The catalogue with the labels of `--labels`; photos that it lacks and its folder has become rows of it.

    Args:
        catalogue: As its data have it.
        offered: Every attribute of the data; labels of those that are not in use are passed over.
        options: Which files, and what means unknown.

    Raises:
        CatalogueError: A file cannot be read, not one of its photos is there, or an attribute is none of the data's.
    """
    if not options.labels:
        return catalogue
    said, findings = read_labels(options.labels)
    _check_attributes(said, (*offered, *catalogue.attributes, *_category(catalogue)))
    catalogue, rows, found = _with_photos(catalogue, said)
    used = [each for each in said if each.photo in rows]
    overlay = _Overlay(catalogue, unknown_tokens(options))
    for each in used:
        overlay.add(rows[each.photo], each)
    return replace(overlay.catalogue(), findings=(*catalogue.findings, *findings, *found, *overlay.findings))


def _category(catalogue: Catalogue) -> tuple[str, ...]:
    return () if catalogue.categories is None else (catalogue.category_attribute,)


def _check_attributes(said: Sequence[Said], known: Sequence[str]) -> None:
    for each in said:
        if each.attribute not in known:
            raise CatalogueError(
                f"--labels, {each.source}: there is no attribute {each.attribute!r} in this catalogue; is it the file "
                f"of another project?{hint(each.attribute, dict.fromkeys(known))}"
            )


def _with_photos(
    catalogue: Catalogue, said: Sequence[Said]
) -> tuple[Catalogue, Mapping[str, int], tuple[Finding, ...]]:
    """The catalogue, with the photos that only the labels name, and the row of each photo that they name.

    A name is compared as it is, then as a path under the images, then by its last part where only one photo has that.
    """
    rows = {name: row for row, name in enumerate(catalogue.filenames)}
    wanted = dict.fromkeys(each.photo for each in said)
    found = {name: rows[name] for name in wanted if name in rows}
    absent = [name for name in wanted if name not in rows]
    if not absent:
        return catalogue, found, ()
    folder = search(catalogue.images)
    places = {name: place for name in absent if (place := find(folder, name).name) is not None}
    by_path = {place: row for row, place in enumerate(catalogue.places)}
    fresh: dict[str, int] = {}
    for name, place in places.items():
        found[name] = by_path[place] if place in by_path else len(rows) + fresh.setdefault(place, len(fresh))
    bases = _by_base(catalogue)
    by_base = {name: row for name in absent if name not in places if (row := bases.get(_base(name), -1)) >= 0}
    lost = [name for name in absent if name not in places and name not in by_base]
    if len(lost) == len(wanted):
        raise CatalogueError(
            f"--labels: not one of the {counted(len(lost), 'photo')} is in the catalogue or in {catalogue.images} "
            f"(first: {printable(lost[0])!r})."
        )
    return catalogue.grown(list(fresh)), {**found, **by_base}, tuple(_photo_findings(list(fresh), by_base, lost))


def _by_base(catalogue: Catalogue) -> Mapping[str, int]:
    """Rows by the last part of their photo's name; -1 where several have the same."""
    rows: dict[str, int] = {}
    for row, name in enumerate(catalogue.filenames):
        rows[_base(name)] = -1 if _base(name) in rows else row
    return rows


def _base(name: str) -> str:
    return PurePosixPath(name).name.casefold()


def _photo_findings(fresh: Sequence[str], by_base: Mapping[str, int], lost: Sequence[str]) -> list[Finding]:
    findings = []
    if fresh:
        findings.append(Finding("labels-new-photo", "", f"{len(fresh)} photo(s), such as {printable(fresh[0])!r}"))
    if by_base:
        first = next(iter(by_base))
        detail = f"{len(by_base)} photo(s) of the labels were found by the last part of their names, such as "
        findings.append(Finding("found-by-base-name", "", f"{detail}{printable(first)!r}"))
    findings += [
        Finding("labels-without-photo", printable(name), "no such photo; its labels are left out") for name in lost
    ]
    return findings


@dataclass
class _Change:
    """What became of one cell: what the data say, and who said what since."""

    before: Cell
    now: Cell
    said: Said


class _Overlay:
    """Collects the labels of a catalogue's cells, in the order in which they count."""

    def __init__(self, catalogue: Catalogue, unknown: frozenset[str]) -> None:
        self._catalogue, self._unknown = catalogue, unknown
        self._columns = {name: coded(catalogue.cells[name]) for name in catalogue.attributes}
        if catalogue.categories is not None:
            self._columns.setdefault(catalogue.category_attribute, coded(catalogue.categories).map(_as_cell))
        self._values = {name: _Values(column) for name, column in self._columns.items()}
        self._changes: dict[tuple[str, int], _Change] = {}
        self._contradicted: list[Finding] = []

    def add(self, row: int, said: Said) -> None:
        """Take one label; that of an attribute which is not in use is passed over."""
        if said.attribute not in self._columns:
            return
        cell = self._values[said.attribute].cell(said.value, self._unknown)
        earlier = self._changes.get((said.attribute, row))
        if earlier is not None and earlier.now != cell:
            detail = (
                f"{said.attribute}: {_words(earlier.now, earlier.said)}, then {_words(cell, said)}; the last counts"
            )
            self._contradicted.append(Finding("labels-differ", self._catalogue.filenames[row], detail))
        before = self._columns[said.attribute][row] if earlier is None else earlier.before
        self._changes[said.attribute, row] = _Change(before, cell, said)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Contradictions among the labels, labels of the data that they replace, and how many they add."""
        corrected, filled, fresh, several = [], Counter[str](), Counter[tuple[str, str]](), Counter[str]()
        for (attribute, row), change in self._changes.items():
            photo = self._catalogue.filenames[row]
            if change.before is None and change.now is not None:
                filled[attribute] += 1
            elif change.before != change.now:
                detail = f"{attribute}: {cell_text(change.before)} -> {_words(change.now, change.said)}"
                corrected.append(Finding("relabelled", photo, detail))
            several[attribute] += len(change.now or ()) > 1
            fresh.update((attribute, v) for v in change.now or () if v not in self._values[attribute].known)
        new = [Finding("labels-new-value", name, f"{value!r} on {n} photo(s)") for (name, value), n in fresh.items()]
        added = [Finding("labelled", name, f"{count} photo(s)") for name, count in filled.items()]
        now = "has several values by the labels, and one at most in the data; --single and --multi say which is meant"
        wider = [
            Finding("labels-several", name, f"{count} photo(s) {now}")
            for name, count in several.items()
            if count and not self._values[name].several
        ]
        return (*self._contradicted, *corrected, *added, *new, *wider)

    def catalogue(self) -> Catalogue:
        """The catalogue with every label in its place."""
        columns = {name: self._column(name) for name in self._columns}
        catalogue = self._catalogue
        categories = catalogue.categories
        if categories is not None:
            categories = columns[catalogue.category_attribute].map(lambda cell: cell[0] if cell else None)
        return replace(catalogue, cells={name: columns[name] for name in catalogue.attributes}, categories=categories)

    def _column(self, name: str) -> Coded[Cell]:
        changes = {row: change.now for (attribute, row), change in self._changes.items() if attribute == name}
        if not changes:
            return self._columns[name]
        table = {cell: code for code, cell in enumerate(self._columns[name].table)}
        codes = self._columns[name].codes.copy()
        codes[list(changes)] = [table.setdefault(cell, len(table)) for cell in changes.values()]
        return Coded(codes, table)


class _Values:
    """What the texts of an attribute's labels mean, by the values that it has already."""

    def __init__(self, column: Coded[Cell]) -> None:
        self.known = {value for cell in column.table for value in cell or ()}
        self.several = any(len(cell or ()) > 1 for cell in column.table)

    def cell(self, text: str, unknown: frozenset[str]) -> Cell:
        """The cell of a text: a value the data have, as it stands; else one or several values, none or unknown."""
        if text in unknown:
            return None
        for one in (text, plain_number(text)):
            if one in self.known:
                return (one,)
        return several_values(parts(text, SEPARATOR), unknown)


def _as_cell(category: str | None) -> Cell:
    return None if category is None else (category,)


def _words(cell: Cell, said: Said) -> str:
    who = f"{said.by}, " if said.by else ""
    return f"{cell_text(cell)} ({who}{said.source})"
