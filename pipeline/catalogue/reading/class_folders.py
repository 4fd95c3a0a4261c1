"""Format folder: no table at all, the sub-folder a photo is in is its class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.catalogue.cells import Cell, Coded
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.reading.columns.products import Products, folder_products
from pipeline.catalogue.reading.photos import Folder, is_photo, leftovers
from pipeline.catalogue.reading.raw_rows import choose_attributes
from pipeline.catalogue.reading.remote import folder_at
from pipeline.catalogue.records import Catalogue
from pipeline.errors import CatalogueError, printable
from pipeline.options import DataOptions

CLASS_ATTRIBUTE = "class"
"""Name of the one attribute: the name of the sub-folder, however deep in it the photo is."""


def read_folder(root: str | Path, options: DataOptions, group: str | None = None) -> Catalogue:
    """One class per sub-folder of `root`; photos are sorted by name, files that are no photos are reported.

    Folders inside a class are products if they look so, unless `group` is given. A product is named by its folder
    below the class, so that a photo of another class keeps its place in a split.

    Raises:
        CatalogueError: No sub-folder holds a photo, or when the classes seem to lie one folder deeper.
    """
    choose_attributes(options.attributes, (CLASS_ATTRIBUTE,))
    folder = folder_at(root)
    photos = {name for name in folder.files if is_photo(name)}
    loose = {name for name in photos if "/" not in name}
    odd = {name for name in photos if not _is_unicode(name)}
    names = sorted(photos - loose - odd)
    if not names:
        raise CatalogueError(_no_photo(root, len(loose)))
    table: dict[Cell, int] = {}
    codes = [table.setdefault((name.partition("/")[0],), len(table)) for name in names]
    _refuse_deeper(root, names, len(table))
    for name in photos:
        folder.files[name] = 0
    column: Coded[Cell] = Coded(np.array(codes, np.int32), table)
    below = ["/".join(name.split("/")[1:-1]) for name in names]
    products = folder_products(names, below) if group is None else Products(None)
    findings = (*products.findings, *folder.findings, *_skipped(folder, loose, odd), *leftovers(folder))
    cells, paths = {CLASS_ATTRIBUTE: column}, folder.paths(names)
    return Catalogue(folder.root, names, paths, (CLASS_ATTRIBUTE,), cells, findings, "folder", groups=products.names)


def _skipped(folder: Folder, loose: set[str], odd: set[str]) -> list[Finding]:
    findings = [
        Finding("outside-images", printable(name), f"a link that leads out of {folder.root}; skipped")
        for name in sorted(folder.outside)
        if is_photo(name)
    ]
    detail = "the file name is not valid Unicode; skipped"
    findings += [Finding("no-name", printable(name), detail) for name in sorted(odd - loose)]
    if loose:
        detail = f"{len(loose)} photo(s) outside of any class folder, such as {printable(min(loose))!r}; skipped"
        findings.append(Finding("no-class", "", detail))
    return findings


def _is_unicode(name: str) -> bool:
    return printable(name) == name


def _no_photo(root: str | Path, loose: int) -> str:
    beside = f" It holds {loose} photo(s) outside of any sub-folder." if loose else ""
    return (
        f"No photo found: {root} holds neither a CSV file nor sub-folders with photos.{beside} "
        "Expected FOLDER/attributes.csv with FOLDER/images/, or FOLDER/<class>/<photo>.jpg."
    )


def _refuse_deeper(root: str | Path, names: list[str], classes: int) -> None:
    first = names[0].partition("/")[0]
    if classes == 1 and all(name.count("/") >= 2 for name in names):
        raise CatalogueError(
            f"{root} has one sub-folder, {first!r}, and every photo lies in folders below that: "
            f"is each of those a class? Then give --data {root}/{first}."
        )
