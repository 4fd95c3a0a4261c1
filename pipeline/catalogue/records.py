"""The catalogue: photos on disk with their labels, the same whatever the input format."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.catalogue.cells import Cell, Coded, coded
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.reading.photos import PhotoPaths
from pipeline.remote import RemotePhoto, RemotePhotos

T = TypeVar("T")

CATEGORY = "category"
"""Name of the attribute that holds the category, unless a table calls it otherwise."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Rows whose photo is on disk; n rows, in the order of the data, each naming another file.

    Attributes:
        images: The folder the file names are relative to, or the URL of one.
        filenames: (n,), as written in the data.
        paths: (n,), the files, or photos on other machines (a name may differ from its file in spelling, never in
            meaning).
        attributes: Names of the attributes, in the order of the data.
        cells: Per attribute, (n,) cells: a tuple of values, () for none, None for unknown.
        categories: (n,) category of each photo or None for unknown; None without categories.
        category_attributes: Category -> attributes that apply, when a file said so.
        category_attribute: The attribute that holds the category, where there are categories.
        groups: (n,) product names from a column, None for unknown; None without such a column.
        findings: Everything that was dropped or odd.
        format: "A", "B", "products" or "folder".
    """

    images: Path | str
    filenames: Sequence[str]
    paths: Sequence[Path | RemotePhoto]
    attributes: tuple[str, ...]
    cells: Mapping[str, Sequence[Cell]]
    findings: tuple[Finding, ...] = ()
    format: str = "A"
    categories: Sequence[str | None] | None = None
    category_attributes: Mapping[str, tuple[str, ...]] | None = None
    groups: Sequence[str | None] | None = None
    category_attribute: str = CATEGORY

    def __len__(self) -> int:
        return len(self.filenames)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of file names, attributes, cells and categories; the folder's place does not count."""
        digest = hashlib.sha256()

        def add(text: str) -> None:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)

        for name in self.filenames:
            add(name)
        columns: dict[str, Sequence[Any]] = {
            f"attribute {attribute}": self.cells[attribute] for attribute in self.attributes
        }
        if self.categories is not None:
            columns["categories"] = self.categories
        for name, column in columns.items():
            compact = coded(column).compact()
            add(name)
            add(repr(compact.table))
            digest.update(compact.codes.astype("<i4").tobytes())
        return digest.hexdigest()

    @cached_property
    def places(self) -> Sequence[str]:
        """(n,), where the files lie below the folder, with forward slashes."""
        paths = self.paths
        if isinstance(paths, PhotoPaths) and paths.root == self.images:
            return paths.names
        return [path.relative_to(self.images).as_posix() for path in paths]

    def grown(self, places: Sequence[str]) -> Catalogue:
        """The catalogue with more photos, of which nothing is known; `places` are as the property has them."""
        if not places:
            return self

        def longer(column: Sequence[T | None]) -> Coded[T | None]:
            return coded([*column, *[None] * len(places)])

        return replace(
            self,
            filenames=[*self.filenames, *places],
            paths=PhotoPaths(self.images, [*self.places, *places]),
            cells={attribute: longer(column) for attribute, column in self.cells.items()},
            categories=None if self.categories is None else longer(self.categories),
            groups=None if self.groups is None else longer(self.groups),
        )

    def products_of(self, rows: npt.NDArray[Any]) -> list[str | None] | None:
        """The product names of these rows (indices), None for unknown; None where nothing names products."""
        groups = self.groups
        return None if groups is None else [groups[i] for i in rows.tolist()]

    def take(self, rows: npt.NDArray[Any]) -> Catalogue:
        """The catalogue of these rows (indices or a mask); findings are kept whole."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        places = index.tolist()
        paths: Sequence[Path | RemotePhoto]
        if isinstance(self.paths, PhotoPaths | RemotePhotos):
            paths = self.paths.take(places)
        else:
            paths = [self.paths[i] for i in places]
        return replace(
            self,
            filenames=[self.filenames[i] for i in places],
            paths=paths,
            cells={attribute: coded(column).take(index) for attribute, column in self.cells.items()},
            categories=None if self.categories is None else coded(self.categories).take(index),
            groups=None if self.groups is None else coded(self.groups).take(index),
        )
