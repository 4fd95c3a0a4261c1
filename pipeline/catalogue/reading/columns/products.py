"""Which photos show one product: by a column or folders that say so, or names that hint at it."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.catalogue.cells import Coded, coded
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.reading.columns.no_attributes import words
from pipeline.catalogue.splits import LARGEST_GROUP, product_name
from pipeline.errors import printable

_THING = "(?:parent|master|product|style|item|article|model|group|sku)"
_CODE = "(?:ids?|nr|no|num|number|code|key|ref|sku)"
_NAME = re.compile(rf"{_THING}+|(?:{_THING}*)(?:id|sku)|{_THING}+{_CODE}")
_PLAIN = re.compile(r"(?:product|style|item|article|model|group)+")
_MOST_PHOTOS = 30
"""Photos per product, on average, beyond which a column names something wider."""
_MOST_IN_FOLDER = 12
_VIEWS = "front|back|side|left|right|detail|top|bottom|main|model|zoom|alt"
_ENDINGS: Mapping[str, str] = {
    r"_[0-9]{1,2}": "_1",
    r" ?[(][0-9]{1,2}[)]": "(2)",
    rf"[-_ ](?:{_VIEWS})": "-front",
}


@dataclass(frozen=True)
class Products:
    """What each photo's product is called, None for unknown, and how that came to be known.

    Attributes:
        column: The column that names the products, if one does.
    """

    names: Coded[str | None] | None
    findings: tuple[Finding, ...] = ()
    column: str | None = None


def product_columns(header: Sequence[str], group: str | None) -> dict[str, int]:
    """Columns whose names say that they name products, and where they are; none if somebody said which does."""
    if group is not None:
        return {}
    return {name: i for i, name in enumerate(header) if name and _NAME.fullmatch("".join(words(name)))}


def products_of(
    filenames: Sequence[str], columns: Mapping[str, Coded[str | None]], owners: Coded[str | None] | None = None
) -> Products:
    """The products that a column names, else rows with several photos, else folders, else none.

    With none there is a warning where names are alike. Of several columns the one with the fewest products is taken:
    variants of one product look alike.

    Args:
        filenames: (n,).
        columns: Candidates by name, (n,) each.
        owners: (n,) what a row with several photos is called; None where each has one.
    """
    fitting = {name: column for name, column in columns.items() if _by_name(name, column)}
    if fitting:
        name = min(fitting, key=lambda each: len(set(fitting[each].compact().table)))
        said = _said(f"the column {name!r}", name, fitting[name])
        return Products(filled_up(fitting[name], owners), (said,), name)
    if owners is not None:
        return Products(owners, (_said("a row with several photos", "", owners),))
    return folder_products(filenames, [posixpath.dirname(name) for name in filenames])


def filled_up(products: Coded[str | None], owners: Coded[str | None] | None) -> Coded[str | None]:
    """Products by name, (n,), where that is unknown by their row: its photos are of one product in any case."""
    if owners is None:
        return products
    return coded([owner if product is None else product for product, owner in zip(products, owners, strict=True)])


def folder_products(filenames: Sequence[str], folders: Sequence[str]) -> Products:
    """The products that folders name, where nearly all have several photos and none has many.

    Args:
        filenames: (n,).
        folders: (n,), "" for a photo in none that may be a product's.
    """
    column: Coded[str | None] = coded([folder or None for folder in folders])
    if _names_products(column, most=_MOST_IN_FOLDER, shared=0.8):
        names: list[str | None] = [folder or product_name(f) for f, folder in zip(filenames, folders, strict=True)]
        return Products(coded(names), (_said("a folder per product", "", column),))
    return Products(None, tuple(_alike(filenames)))


def _by_name(name: str, column: Coded[str | None]) -> bool:
    if _PLAIN.fullmatch("".join(words(name))):
        used = [entry for entry in column.compact().table if entry is not None]
        if sum(any(c.isdigit() for c in entry) for entry in used) < 0.8 * len(used):
            return False  # a style or a model may be an attribute
    return _names_products(column, most=_MOST_PHOTOS, shared=0.2)


def _names_products(column: Coded[str | None], most: int, shared: float) -> bool:
    """Whether the entries repeat as those of products do: several photos each, but not many."""
    counts: list[int] = [
        n for entry, n in zip(column.table, column.counts().tolist(), strict=True) if n and entry is not None
    ]
    photos = sum(counts)
    return (
        2 * photos > len(column)
        and max(counts) <= LARGEST_GROUP * len(column)
        and photos <= most * len(counts)
        and sum(n for n in counts if n > 1) >= shared * photos
    )


def _said(what: str, name: str, column: Coded[str | None]) -> Finding:
    known = int((~column.where(None)).sum())
    products = len({entry for entry in column.compact().table if entry is not None})
    detail = (
        f"{what} names {products} products of {known} photos; each stays in one part of a split. "
        "--group-column none undoes it"
    )
    return Finding("products-together", name, detail)


def _alike(filenames: Sequence[str]) -> list[Finding]:
    """A warning where names are alike up to an ending that photos of one product have."""
    products = [product_name(name) for name in filenames]
    endings = {ending: re.compile(rf"(.*[^\W_].*?){ending}") for ending in _ENDINGS}
    stems, used = [], Counter[str]()
    for product in products:
        ending = next((each for each, pattern in endings.items() if pattern.fullmatch(product)), None)
        match = endings[ending].fullmatch(product) if ending else None
        stems.append(match[1] if match else product)
        used.update([ending] if ending else [])
    column: Coded[str | None] = coded(list[str | None](stems))
    if len(set(stems)) == len(set(products)) or not _names_products(column, most=_MOST_IN_FOLDER, shared=0.2):
        return []
    sizes = column.counts()[column.codes]
    example = printable(filenames[int(np.argmax(sizes > 1))])
    pattern = "|".join(ending for ending in _ENDINGS if used[ending])
    detail = (
        f"{int((sizes > 1).sum())} photos, such as {example!r}, have names alike up to an ending: several photos of "
        "one product? Nothing says so, and they may come into different parts. "
        f'Say it with --group-column or --group-regex "^(.+?)(?:{pattern})?[.]"'
    )
    return [Finding("products-apart", "", detail)]
