"""`labels`: what files of labels say, as one CSV file, and the catalogue with these labels as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.catalogue import UNKNOWN, Catalogue, Cell, Finding, read_catalogue
from pipeline.catalogue.joined import joined
from pipeline.catalogue.reading.corrections.overlay import read_labels
from pipeline.catalogue.reading.corrections.said import Said, write_said
from pipeline.errors import OptionError
from pipeline.options import DataOptions, LabelsOptions
from pipeline.spreadsheet import write_rows
from pipeline.system import whole_file

_NONE = "none"


@dataclass(frozen=True)
class LabelsReport:
    """What one `labels` call read and wrote.

    Attributes:
        said: How many labels there are.
        photos: Of how many photos.
        people: By whom, and how many of each.
        rows: Rows of the table; None where none was asked for.
        findings: What is odd about the labels, and of the catalogue that they are laid over.
    """

    said: int
    photos: int
    people: Mapping[str, int]
    rows: int | None
    findings: tuple[Finding, ...]


def merge_labels(data: DataOptions, options: LabelsOptions) -> LabelsReport:
    """Write who said what, and the catalogue with it where a table is asked for.

    Raises:
        OptionError: No file of labels is given.
        CatalogueError: One cannot be read, or does not fit the catalogue.
    """
    if not data.labels:
        raise OptionError("no labels given: name the files with --labels, such as a Label Studio export")
    said, findings = read_labels(data.labels)
    rows = None
    if data.data is not None:
        catalogue = read_catalogue(data)
        findings = catalogue.findings
        if options.table is not None:
            rows = _write_catalogue(options.table, catalogue)
    elif options.table is not None:
        rows = _write_alone(options.table, said)
    write_said(options.out, said)
    people: dict[str, int] = {}
    for each in said:
        people[each.by] = people.get(each.by, 0) + 1
    return LabelsReport(len(said), len({each.photo for each in said}), people, rows, findings)


def _write_catalogue(path: Path, catalogue: Catalogue) -> int:
    """The catalogue as a table of format B, where it came from one, else A."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        write_rows(file, _rows_b(catalogue) if catalogue.format == "B" else _rows_a(catalogue))
    return len(catalogue)


def _rows_a(catalogue: Catalogue) -> Iterator[Sequence[str]]:
    products = catalogue.groups if "product" not in catalogue.attributes else None
    yield ("filename", *(("product",) if products is not None else ()), *catalogue.attributes)
    for row, name in enumerate(catalogue.filenames):
        product = () if products is None else (products[row] or UNKNOWN,)
        yield (name, *product, *(_text(catalogue.cells[attribute][row]) for attribute in catalogue.attributes))


def _rows_b(catalogue: Catalogue) -> Iterator[Sequence[str]]:
    yield ("id", "filename", "category", "attributes")
    own = catalogue.category_attribute
    for row, name in enumerate(catalogue.filenames):
        category = None if catalogue.categories is None else catalogue.categories[row]
        cells = {each: catalogue.cells[each][row] for each in catalogue.attributes if each != own}
        stated = {each: [UNKNOWN] if cell is None else list(cell) for each, cell in cells.items() if cell != ()}
        yield (PurePosixPath(name).stem, name, category or UNKNOWN, str(stated))


def _write_alone(path: Path, said: Sequence[Said]) -> int:
    """A table of format A of the labels alone; the last one of each cell counts."""
    attributes = tuple(dict.fromkeys(each.attribute for each in said))
    photos: dict[str, dict[str, str]] = {}
    for each in said:
        photos.setdefault(each.photo, {})[each.attribute] = each.value
    rows = ([photo, *(cells.get(name, UNKNOWN) for name in attributes)] for photo, cells in photos.items())
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        write_rows(file, [("filename", *attributes), *rows])
    return len(photos)


def _text(cell: Cell) -> str:
    return UNKNOWN if cell is None else joined(cell) or _NONE
