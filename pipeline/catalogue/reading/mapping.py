"""The mapping file: which values stand for which others. `vocabulary` suggests, the user fills in, readers apply it.

Columns (or, in YAML, the entries of a list): attribute, value, count, suggestion, note, replacement. Only `attribute`,
`value` and `replacement` are read. An empty replacement leaves the value as it is, #N/A (or another spelling of
unknown) makes it unknown, and the value itself says "right as it is". Older files call the first column `key`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline.catalogue.cells import Cell, Coded, coded, several_values, single_value
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.labels import UNKNOWN
from pipeline.catalogue.reading.raw_rows import hint, unknown_tokens
from pipeline.catalogue.reading.tables.opened import open_table
from pipeline.catalogue.records import Catalogue
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from pipeline.options.forms.yaml_file import parse_yaml
from pipeline.spreadsheet import write_rows
from pipeline.system import parsed, read_text, whole_file, wrong_text

T = TypeVar("T")

_READ = ("attribute", "value", "replacement")
_FORMER = {"attribute": "key"}
_YAML = (".yaml", ".yml")
_MOST_BYTES = 16 * 2**20  # of YAML, whose reader is slow; a CSV file may be as large as it likes


@dataclass(frozen=True)
class MappingLine:
    """One value of one attribute.

    Attributes:
        note: Why the suggestion is made.
        replacement: "" until the user fills it in.
    """

    attribute: str
    value: str
    count: int
    suggestion: str = ""
    note: str = ""
    replacement: str = ""

    @property
    def replaces(self) -> bool:
        """True when the value is to become another one."""
        return self.replacement not in ("", self.value)


def write_mapping(path: Path, lines: Iterable[MappingLine]) -> None:
    """Write a mapping file, by its ending as CSV or YAML; CatalogueError when it exists: it may have been edited."""
    require_mapping_name(path)
    names = [field.name for field in fields(MappingLine)]
    try:
        with whole_file(path, new=True) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            if path.suffix.lower() in _YAML:
                import yaml

                entries = [dict(zip(names, map(str, astuple(line)), strict=True)) for line in lines]
                yaml.safe_dump(entries, file, allow_unicode=True, sort_keys=False)
            else:
                write_rows(file, [names, *map(astuple, lines)])
    except FileExistsError:
        raise CatalogueError(f"--out {path} exists and may have been edited; name another file.") from None


def require_mapping_name(path: Path) -> None:
    """Raise CatalogueError unless the file's ending says CSV or YAML."""
    if path.suffix.lower() not in (".csv", *_YAML):
        raise CatalogueError(f"{path}: a mapping file ends in .csv, .yaml or .yml.")


def read_mapping(path: Path) -> tuple[MappingLine, ...]:
    """The lines of a mapping file, those without replacement included; every cell is text.

    Raises:
        CatalogueError: The file cannot be read, lacks a column, states two replacements for one value, or replaces a
            value by one that is itself replaced (a chain or a cycle).
    """
    require_mapping_name(path)
    records = _yaml_records(path) if path.suffix.lower() in _YAML else _csv_records(path)
    lines: dict[tuple[str, str], MappingLine] = {}
    for place, record in records:
        attribute, value, replacement = (record[name].strip() for name in _READ)
        if not attribute or not value:
            raise CatalogueError(f"--mapping {path}, {place}: attribute and value must not be empty.")
        for name in _READ:
            if wrong := wrong_text(record[name]):
                raise CatalogueError(f"--mapping {path}, {place}: the {name} {record[name]!r} holds {wrong}.")
        before = lines.get((attribute, value))
        if before is not None and before.replacement and replacement not in ("", before.replacement):
            raise CatalogueError(
                f"--mapping {path}, {place}: {attribute}={value} has two replacements, {before.replacement!r} and "
                f"{replacement!r}; keep one line."
            )
        kept = replacement or (before.replacement if before is not None else "")
        lines[attribute, value] = MappingLine(attribute, value, 0, replacement=kept)
    for line in lines.values():
        target = lines.get((line.attribute, line.replacement))
        if line.replaces and target is not None and target.replaces:
            cycle = target.replacement == line.value
            raise CatalogueError(
                f"--mapping {path}: {line.attribute}={line.value} becomes {line.replacement!r}, which itself becomes "
                f"{target.replacement!r}{': a cycle' if cycle else ''}; "
                f"{'decide for one of them' if cycle else 'write the last value in both lines'}."
            )
    return tuple(lines.values())


def _csv_records(path: Path) -> Iterable[tuple[str, Mapping[str, str]]]:
    table = open_table(path)
    columns = {name: table.column(name) for name in _READ}
    columns |= {name: table.column(old) for name, old in _FORMER.items() if columns[name] is None}
    lacking = [name for name, place in columns.items() if place is None]
    if lacking:
        raise CatalogueError(f"--mapping {path}: no column {', '.join(lacking)}; it has {', '.join(table.header)}.")
    for number, row in table.rows():
        if any(row):
            cells = [*row, *[""] * (len(table.header) - len(row))]
            yield f"line {number}", {name: cells[place] for name, place in columns.items() if place is not None}


def _yaml_records(path: Path) -> Iterable[tuple[str, Mapping[str, str]]]:
    with parsed(CatalogueError, f"--mapping {path}: cannot be read as YAML (", ")."):
        # A value 06 or no stays what was written.
        entries = parse_yaml(read_text(path, _MOST_BYTES), text_only=True)
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        if isinstance(entry, dict):
            entry = {**{name: entry[old] for name, old in _FORMER.items() if old in entry}, **entry}
        if not isinstance(entry, dict) or not all(isinstance(entry.get(name, ""), str) for name in _READ):
            raise CatalogueError(
                f"--mapping {path}, entry {number}: expected attribute, value and replacement as text."
            )
        yield f"entry {number}", {name: entry.get(name, "") for name in _READ}


def apply_mapping(catalogue: Catalogue, offered: Sequence[str], options: DataOptions) -> Catalogue:
    """The catalogue with the values that the mapping file replaces, and a finding per replaced value.

    Args:
        offered: Every attribute of the data; lines of attributes that are not in use are passed over.

    Raises:
        CatalogueError: For a file that `read_mapping` refuses, an attribute that the data has not, or a replacement
            that is neither a value of its attribute in the data nor a `value` of the file.
    """
    if options.mapping is None:
        return catalogue
    lines = read_mapping(options.mapping)
    there = set(offered)
    values_of = {attribute: _values(catalogue.cells[attribute]) for attribute in catalogue.attributes}
    if catalogue.categories is not None:
        values_of[catalogue.category_attribute] = {c for c in coded(catalogue.categories).table if c is not None}
    for line in lines:
        if line.attribute not in there and line.attribute not in values_of:
            near = hint(line.attribute, offered)
            raise CatalogueError(
                f"--mapping {options.mapping}: there is no attribute {line.attribute!r} in this catalogue.{near}"
            )
        values_of.get(line.attribute, set()).add(line.value)
    unknown = unknown_tokens(options)
    renames: dict[str, dict[str, str]] = {}
    for line in lines:
        if line.replaces and line.attribute in values_of:
            _check_target(line, values_of[line.attribute], unknown, options.mapping)
            renames.setdefault(line.attribute, {})[line.value] = line.replacement
    cells, findings = dict(catalogue.cells), []
    for attribute in (attribute for attribute in catalogue.attributes if attribute in renames):
        column = coded(catalogue.cells[attribute])
        findings += _report(attribute, column, renames[attribute], unknown)
        several = attribute != catalogue.category_attribute and (
            catalogue.format == "B" or any(cell is not None and len(cell) != 1 for cell in column.table)
        )
        cells[attribute] = _recoded(
            column, [_renamed(cell, renames[attribute], unknown, several) for cell in column.table]
        )
    categories = catalogue.categories
    if categories is not None and catalogue.category_attribute in renames:
        held = coded(categories)
        mapped = (
            _renamed((c,), renames[catalogue.category_attribute], unknown, False) if c is not None else None
            for c in held.table
        )
        categories = _recoded(held, [cell[0] if cell else None for cell in mapped])
    return replace(catalogue, cells=cells, categories=categories, findings=(*catalogue.findings, *findings))


def _check_target(line: MappingLine, values: set[str], unknown: frozenset[str], path: Path) -> None:
    if line.replacement in values or line.replacement in unknown:
        return
    raise CatalogueError(
        f"--mapping {path}: {line.attribute}={line.value} becomes {line.replacement!r}, which is no value of "
        f"{line.attribute!r} in the data. For a new value add a line with it as value and as replacement."
        f"{hint(line.replacement, values - {line.value})}"
    )


def _renamed(cell: Cell, renames: Mapping[str, str], unknown: frozenset[str], several: bool) -> Cell:
    if not cell or not any(value in renames for value in cell):
        return cell
    texts = [renames.get(value, value) for value in cell]
    return several_values(texts, unknown) if several else single_value(texts[0], unknown)


def _recoded(column: Coded[T], entries: Sequence[T]) -> Coded[T]:
    """The column with its distinct entries replaced; those that became equal get one code."""
    table: dict[T, int] = {}
    codes = np.array([table.setdefault(entry, len(table)) for entry in entries], np.int32)
    return Coded(codes[column.codes], table)


def _report(attribute: str, column: Coded[Any], renames: Mapping[str, str], unknown: frozenset[str]) -> list[Finding]:
    """A finding per replaced value, with the number of photos; one for all those that no photo has."""
    photos = dict.fromkeys(renames, 0)
    for cell, count in zip(column.table, column.counts().tolist(), strict=True):
        for value in cell or ():
            if value in photos:
                photos[value] += count
    findings = [
        Finding("mapped", attribute, f"{value!r} -> {UNKNOWN if to in unknown else repr(to)}: {photos[value]} photo(s)")
        for value, to in renames.items()
        if photos[value]
    ]
    unused = [value for value in renames if not photos[value]]
    if unused:
        findings.append(Finding("mapping-unused", attribute, f"{len(unused)} replaced value(s), such as {unused[0]!r}"))
    return findings


def _values(column: Sequence[Cell]) -> set[str]:
    return {value for cell in coded(column).table for value in cell or ()}
