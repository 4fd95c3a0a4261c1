"""The label schema of a catalogue's rows, and what those rows leave open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Ids
from pipeline.catalogue.cells import Cell, Coded, cell_text, coded, differences, natural
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.labels import LabelSchema, column_name
from pipeline.catalogue.reading.raw_rows import hint
from pipeline.catalogue.records import Catalogue
from pipeline.errors import CatalogueError, OptionError

if TYPE_CHECKING:
    pass


def infer_schema(
    catalogue: Catalogue,
    rows: npt.NDArray[Any] | None = None,
    single: Mapping[str, bool] | None = None,
    gate: Mapping[str, tuple[str, ...]] | None = None,
) -> LabelSchema:
    """Attributes and values of the given rows (all by default); give it only rows that fitting may see.

    Values are sorted naturally. An attribute is single-valued when no cell has more than one value; `single` overrides
    that by attribute name. Attributes without a known value are left out (see `empty_keys`). For a catalogue with
    categories the gate is the one given, else the catalogue's own, else learnt: an attribute applies to a category if
    some row carries it.

    Raises:
        CatalogueError: No attribute has a known value, or an override names no attribute or contradicts the cells.
    """
    selected = catalogue if rows is None else catalogue.take(rows)
    in_use = {attribute: _cells_in_use(selected, attribute) for attribute in catalogue.attributes}
    values = {
        attribute: tuple(sorted({v for cell in cells if cell for v in cell}, key=natural))
        for attribute, cells in in_use.items()
    }
    attributes = tuple(attribute for attribute in catalogue.attributes if values[attribute])
    if not attributes:
        raise CatalogueError(
            f"No attribute has a single known value in these {len(selected)} photos "
            f"(attributes: {', '.join(catalogue.attributes)})."
        )
    override = dict(single or {})
    for attribute in override:
        if attribute not in catalogue.attributes:
            raise CatalogueError(f"There is no attribute {attribute!r}.{hint(attribute, catalogue.attributes)}")
        if override[attribute] and any(cell and len(cell) > 1 for cell in in_use[attribute]):
            raise CatalogueError(
                f"Attribute {attribute!r} cannot be single-valued: some photo has several values for it."
            )
    return LabelSchema(
        attributes=attributes,
        values=tuple(values[attribute] for attribute in attributes),
        single=tuple(
            override.get(attribute, all(not cell or len(cell) == 1 for cell in in_use[attribute]))
            for attribute in attributes
        ),
        gate=_gate(selected, attributes, gate if gate is not None else catalogue.category_attributes),
        category_attribute=catalogue.category_attribute
        if catalogue.categories is not None and catalogue.category_attribute in attributes
        else None,
    )


def single_or_multi(single: Sequence[str], multi: Sequence[str]) -> dict[str, bool]:
    """Which attributes were said to be single-valued, and which not, as `infer_schema` takes it.

    Raises:
        OptionError: One was said to be both.
    """
    both = [attribute for attribute in single if attribute in multi]
    if both:
        raise OptionError(f"--single and --multi both name {', '.join(both)}; leave it in one of them")
    return dict.fromkeys(single, True) | dict.fromkeys(multi, False)


def empty_attributes(catalogue: Catalogue, schema: LabelSchema) -> tuple[Finding, ...]:
    """A finding per attribute that the schema left out because no given row has a known value of it."""
    kept = set(schema.attributes)
    return tuple(
        Finding("empty-key", attribute, "no photo that fitting may see has a known value; left out")
        for attribute in catalogue.attributes
        if attribute not in kept
    )


def never_in_train(
    catalogue: Catalogue, schema: LabelSchema, rows: npt.NDArray[Any] | None = None
) -> tuple[Finding, ...]:
    """A finding per value that these rows (all by default) have and the schema does not: no head can predict it."""
    selected = catalogue if rows is None else catalogue.take(rows)
    findings = []
    for attribute, values in zip(schema.attributes, schema.values, strict=True):
        column, in_schema = coded(selected.cells[attribute]), set(values)
        photos: dict[str, int] = {}
        for cell, count in zip(column.table, column.counts(), strict=True):
            for value in cell or ():
                if count and value not in in_schema:
                    photos[value] = photos.get(value, 0) + int(count)
        for value in sorted(photos, key=natural):
            why = f"{photos[value]} photo(s), none that fitting may see; it cannot be predicted"
            findings.append(Finding("never-in-train", attribute, f"{column_name(attribute, value)}: {why}"))
    return tuple(findings)


def alike_in_test(catalogue: Catalogue, schema: LabelSchema, test: npt.NDArray[Any]) -> tuple[Finding, ...]:
    """A finding per attribute of which the test photos, at these rows, all have the same: nothing can be told there."""
    selected = catalogue.take(test)
    applies = schema.applies(selected.categories, len(selected))
    findings = []
    for attribute, where in zip(schema.attributes, applies.T, strict=True):
        column = coded(selected.cells[attribute])
        known = where & ~column.where(None)
        if len(entries := set(column.codes[known].tolist())) == 1:
            what = cell_text(column.table[entries.pop()])
            photos = f"all {int(known.sum())} test photos on which it is known"
            findings.append(Finding("alike-in-test", attribute, f"{photos} have {what}: no figure can tell anything"))
    return tuple(findings)


def same_content(catalogue: Catalogue, ids: Ids) -> tuple[Finding, ...]:
    """Findings for photos with identical bytes: their number, and each pair whose labels differ.

    Args:
        ids: S32 (n,), content ids; all-zero ids (photos that could not be read) are not compared.
    """
    order = np.argsort(ids, kind="stable")
    order = order[ids[order] != b""]
    same = np.flatnonzero(ids[order][1:] == ids[order][:-1]) + 1
    if not len(same):
        return ()
    repeats = np.zeros(len(order), np.bool_)
    repeats[same] = True
    earliest = order[np.maximum.accumulate(np.where(repeats, 0, np.arange(len(order))))]
    first, row = earliest[repeats], order[repeats]
    columns = {attribute: coded(catalogue.cells[attribute]) for attribute in catalogue.attributes}
    conflicts = []
    for i, differ in sorted(differences(columns, first, row).items()):
        labels = "; ".join(f"{name}: {cell_text(one)} and {cell_text(other)}" for name, one, other in differ)
        detail = f"same bytes as {catalogue.filenames[first[i]]}, other labels; {labels}; both kept"
        conflicts.append(Finding("content-conflict", catalogue.filenames[row[i]], detail))
    return (Finding("same-content", "", f"{len(same)} photo(s) repeat the bytes of another; all kept"), *conflicts)


def _cells_in_use(catalogue: Catalogue, attribute: str) -> list[Cell]:
    column: Coded[Cell] = coded(catalogue.cells[attribute])
    return [cell for cell, count in zip(column.table, column.counts(), strict=True) if count]


def _gate(
    catalogue: Catalogue, attributes: tuple[str, ...], given: Mapping[str, tuple[str, ...]] | None
) -> Mapping[str, tuple[str, ...]] | None:
    if given is not None:
        place = {attribute: i for i, attribute in enumerate(attributes)}
        return {
            category: tuple(sorted({each for each in applying if each in place}, key=place.__getitem__))
            for category, applying in given.items()
        }
    if catalogue.categories is None:
        return None
    categories = coded(catalogue.categories).compact()
    carried: list[list[str]] = [[] for _ in categories.table]
    for attribute in attributes:
        column = coded(catalogue.cells[attribute])
        for code in (
            np.unique(categories.codes[~column.where(None) & ~column.where(())])
            if attribute != catalogue.category_attribute
            else ()
        ):
            carried[code].append(attribute)
    return {
        category: tuple(carried[code])
        for code, category in sorted(enumerate(categories.table), key=lambda pair: natural(pair[1] or ""))
        if category is not None
    }
