"""Find the data, read it in its format, and keep the rows whose photo is on disk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.catalogue.cells import Coded, coded
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.reading.allowed_values import hold_against, read_allowed_values
from pipeline.catalogue.reading.attributes import read_category_attributes
from pipeline.catalogue.reading.by_base_name import rename_by_base
from pipeline.catalogue.reading.class_folders import CLASS_ATTRIBUTE, read_folder
from pipeline.catalogue.reading.columns.no_attributes import leave_out
from pipeline.catalogue.reading.columns.products import Products, filled_up, products_of
from pipeline.catalogue.reading.corrections.overlay import lay_over
from pipeline.catalogue.reading.formats import READERS, choose_format
from pipeline.catalogue.reading.keep import Kept, keep_rows, no_photo
from pipeline.catalogue.reading.mapping import apply_mapping
from pipeline.catalogue.reading.naming.spread import spread
from pipeline.catalogue.reading.photos import Folder, leftovers
from pipeline.catalogue.reading.raw_rows import NONE, RawRows, hint
from pipeline.catalogue.reading.remote import folder_at, without_secrets
from pipeline.catalogue.reading.tables.opened import OTHER_TABLES, open_table
from pipeline.catalogue.records import CATEGORY, Catalogue
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions

FORMATS = ("auto", *READERS, "folder")
"""What `--format` takes."""

_MANY_VALUES = 100


def read_catalogue(options: DataOptions, group_column: str | None = None, wanted: Collection[str] = ()) -> Catalogue:
    """Read the photos and labels that the options describe; nothing is dropped without a finding.

    Args:
        options: Where and how.
        group_column: A column of the table that says which product a photo shows; it is no attribute then. "none" for
            no such column, None to find out.
        wanted: Attributes that are read, if the data has them, even if they look like none (identifiers, texts, dates).
            Those that the options name, under whatever option, are so anyway.

    Raises:
        CatalogueError: There is no such data, nothing says which photo a row is about, an attribute or column does not
            exist, or no photo is found.
    """
    if options.data is None:
        raise CatalogueError("No data given. --data takes a CSV file or a folder.")
    if options.format not in FORMATS:
        raise CatalogueError(f"--format: there is no format {options.format!r}.{hint(options.format, FORMATS)}")
    if not options.data.exists():
        raise CatalogueError(f"{options.data}: no such file or folder. --data takes a CSV file or a folder.")
    allowed = None if options.allowed_values is None else read_allowed_values(options.allowed_values)
    table = _table_path(options.data, options.format)
    if table is not None:
        named = {*wanted, *options.single, *options.multi, *(allowed.values if allowed else ())}
        catalogue, offered = _read_table(table, options, group_column, named)
    elif group_column not in (None, NONE):
        raise CatalogueError(f"--group-column {group_column!r} needs a CSV file; {options.data} holds class folders.")
    else:
        catalogue = read_folder(options.images or options.data, options, group_column)
        offered = (CLASS_ATTRIBUTE,)
    catalogue = apply_mapping(lay_over(catalogue, offered, options), offered, options)
    if allowed is not None:
        catalogue = hold_against(catalogue, allowed, keep=options.outside == "keep")
    return _with_summary(catalogue)


def _table_path(data: Path, wanted: str) -> Path | None:
    if not data.is_dir():
        if wanted == "folder":
            raise CatalogueError(f"{data} is a file, but format folder needs one sub-folder of photos per class.")
        return data
    if wanted == "folder":
        return None
    files = sorted(p for p in data.iterdir() if p.is_file() and p.name[0] not in ".~")
    tables = [p for p in files if p.suffix.casefold() == ".csv"]
    if not tables and ((data / "images").is_dir() or not any(p.is_dir() for p in data.iterdir())):
        # Beside class folders another file than a CSV is a note.
        tables = [p for p in files if p.suffix.casefold() in OTHER_TABLES]
    if len(tables) > 1:
        names = ", ".join(p.name for p in tables[:5])
        raise CatalogueError(
            f"{data} holds {len(tables)} {tables[0].suffix[1:].upper()} files ({names}); one was expected. "
            "Name the one you mean as --data."
        )
    if not tables and wanted != "auto":
        raise CatalogueError(f"{data} holds no CSV file, but format {wanted} needs one.")
    return tables[0] if tables else None


def _read_table(
    path: Path, options: DataOptions, group_column: str | None, wanted: Collection[str]
) -> tuple[Catalogue, tuple[str, ...]]:
    """The catalogue of a table, and every attribute that the table has."""
    table = open_table(path)
    chosen = choose_format(table, options)
    category_attributes = read_category_attributes(options.category_attributes) if options.category_attributes else None
    folder = folder_at(_images_folder(options.images, path.parent))
    raw = READERS[chosen](table, options, group_column)
    if not raw.names:
        raise CatalogueError(f"{path}: there is a header but no row below it.")
    spread(raw, path, folder)
    without_secrets(raw, folder)
    kept = _kept(path, raw, folder)
    columns = {attribute: column.take(kept.rows) for attribute, column in raw.columns.items()}
    wanted = columns.keys() if options.attributes else wanted
    products = _products(raw, kept, group_column)
    if products.column is not None and products.column not in wanted:
        columns.pop(products.column, None)
    category = raw.category_attribute or CATEGORY
    columns, no_attributes = (columns, []) if chosen == "B" else leave_out(columns, {*wanted, category})
    own = frozenset({path.name}) if path.parent == folder.root else frozenset()
    catalogue = Catalogue(
        images=folder.root,
        filenames=kept.names,
        paths=folder.paths(kept.places),
        attributes=tuple(columns),
        cells=columns,
        findings=(
            *table.findings,
            *_ignored(options, chosen),
            *raw.findings,
            *no_attributes,
            *products.findings,
            *kept.findings,
            *folder.findings,
            *leftovers(folder, own),
        ),
        format=chosen,
        categories=None if raw.categories is None else raw.categories.take(kept.rows),
        category_attributes=category_attributes,
        groups=products.names,
        category_attribute=category,
    )
    return catalogue, raw.offered


def _kept(path: Path, raw: RawRows, folder: Folder) -> Kept:
    kept = keep_rows(raw, folder)
    if not kept.names and rename_by_base(raw, folder):
        kept = keep_rows(raw, folder)
    if not kept.names:
        raise CatalogueError(no_photo(path, raw, folder))
    return kept


def _products(raw: RawRows, kept: Kept, group_column: str | None) -> Products:
    owners = None if raw.owners is None else raw.owners.take(kept.rows)
    if group_column is None:
        columns = {name: column.take(kept.rows) for name, column in raw.products.items()}
        return products_of(kept.names, columns, owners)
    if raw.groups is None:
        return Products(None)
    return Products(filled_up(raw.groups.take(kept.rows), owners))


def _images_folder(given: str | Path | None, beside: Path) -> str | Path:
    if given is None:
        return beside / "images" if (beside / "images").is_dir() else beside
    return given


def _ignored(options: DataOptions, chosen: str) -> list[Finding]:
    findings = []
    if chosen != "products":
        column = ",".join(options.image_column)
        for option, value in (("--image-column", column), ("--image-name", options.image_name)):
            if value and value.casefold() != "filename":
                detail = f"not used: the header says format {chosen}; --format products would use it"
                findings.append(Finding("option-ignored", option, detail))
    if chosen == "B" and options.separator is not None:
        detail = "not used: format B states the values of a cell as a list"
        findings.append(Finding("option-ignored", "--separator", detail))
    if chosen == "B" and options.category_column is not None and options.category_column.casefold() != CATEGORY:
        detail = f"not used: in format B the column {CATEGORY!r} holds it"
        findings.append(Finding("option-ignored", "--category-column", detail))
    return findings


def _with_summary(catalogue: Catalogue) -> Catalogue:
    """Add what is odd about whole attributes and categories."""
    return replace(catalogue, findings=(*catalogue.findings, *_odd_attributes(catalogue), *_odd_categories(catalogue)))


def _odd_attributes(catalogue: Catalogue) -> list[Finding]:
    n, findings = len(catalogue), []
    for attribute in catalogue.attributes:
        column = coded(catalogue.cells[attribute])
        values = {v for cell, count in zip(column.table, column.counts(), strict=True) if count and cell for v in cell}
        if unknown := int(column.where(None).sum()):
            findings.append(Finding("unknown-cells", attribute, f"{unknown} of {n} photos have no known value"))
        if len(values) > _MANY_VALUES and 2 * len(values) > n:
            detail = f"{len(values)} values on {n} photos: is it an identifier? Choose attributes with --attributes"
            findings.append(Finding("many-values", attribute, detail))
    return findings


def _odd_categories(catalogue: Catalogue) -> list[Finding]:
    if catalogue.category_attributes is None or catalogue.categories is None:
        return []
    findings = []
    categories = coded(catalogue.categories)
    carried = _carried(catalogue, categories)
    for code, (category, photos) in enumerate(zip(categories.table, categories.counts().tolist(), strict=True)):
        if not category or not photos:
            continue
        if category not in catalogue.category_attributes:
            detail = f"{photos} photos: the category-attributes file does not list this category"
            findings.append(Finding("category-without-attributes", category, detail))
            continue
        applying = set(catalogue.category_attributes[category])
        for attribute, count in carried[code]:
            if attribute not in applying:
                detail = f"{count} photos of category {category!r} carry the attribute, which does not apply to it"
                findings.append(Finding("attribute-does-not-apply", attribute, detail))
    return findings


def _carried(catalogue: Catalogue, categories: Coded[str | None]) -> list[list[tuple[str, int]]]:
    """Per code of a category, the attributes that its photos carry, and how many do."""
    carried: list[list[tuple[str, int]]] = [[] for _ in categories.table]
    for attribute in catalogue.attributes:
        if attribute != catalogue.category_attribute:
            column = coded(catalogue.cells[attribute])
            codes = categories.codes[~column.where(()) & ~column.where(None)]
            for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
                carried[code].append((attribute, int(count)))
    return carried
