"""Groups of photos that belong together, and splits that keep them together."""

from __future__ import annotations

import hashlib
import itertools
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Bool, Ids, Int64, Texts, UInt8
from pipeline.errors import CatalogueError, OptionError

PARTS = ("train", "validation", "test")
"""Names of the parts, in the order of the fractions."""

Identity = tuple[int, str]

LARGEST_GROUP = 0.2
"""Largest share of all photos that one group may have."""

_PRODUCT = re.compile(r"(.+?)-[0-9]+")
BLOCK = 1 << 16
"""Rows of labels that are looked at together."""


@dataclass(frozen=True, eq=False)
class Split:
    """Which part each photo is in.

    Attributes:
        parts: Str (n,), each one of PARTS.
        not_measurable: Labels that occur but lack a positive in one of the parts.
    """

    parts: Texts
    not_measurable: tuple[str, ...] = ()

    def rows(self, *parts: str) -> Int64:
        """Positions of the photos in any of these parts, ascending."""
        return np.flatnonzero(np.isin(self.parts, parts))

    def counts(self) -> dict[str, int]:
        """Photos per part."""
        return {part: int((self.parts == part).sum()) for part in PARTS}


def parse_split(text: str) -> tuple[float, float, float]:
    """Fractions of train, validation and test from percentages such as "64/16/20".

    Raises:
        OptionError: Unless there are three positive numbers that sum to 100.
    """
    try:
        shares = [float(piece) for piece in text.split("/")]
    except ValueError:
        shares = []
    if len(shares) != 3 or not all(0 < share < 100 for share in shares) or abs(sum(shares) - 100) > 1e-6:
        raise OptionError(f"--split {text!r}: expected three percentages above 0 that sum to 100, such as 64/16/20.")
    train, validation, test = (share / 100 for share in shares)
    return train, validation, test


def groups_of(
    filenames: Sequence[str],
    regex: str | None = None,
    column: Sequence[str | None] | None = None,
    ids: Ids | None = None,
) -> Int64:
    """Number the groups of photos that must stay in one part: same product, or identical bytes, or linked by these.

    The product is the entry of `column`; else the first group (or whole match) of `regex` in the file name; else,
    within each folder, the name up to `-<n>.ext`. Photos without an entry or match are products of their own.

    Returns int64 (n,): 0, 1, 2, ... by first appearance.

    Args:
        ids: S32 (n,), content ids; all-zero ids (photos that could not be read) link nothing.

    Raises:
        OptionError: The regex is none.
        CatalogueError: It matches no name.
    """
    if column is not None:
        products = ((name, None) if entry is None else entry for name, entry in zip(filenames, column, strict=True))
        names = _number(products)
    elif regex is not None:
        names = _number(_matches(filenames, regex))
    else:
        names = _number(map(product_name, filenames))
    return names if ids is None else _number(_linked(names, ids).tolist())


def named_products(
    filenames: Sequence[str], regex: str | None, column: Sequence[str | None] | None
) -> Sequence[str | None] | None:
    """What data or user call each photo's product, (n,), None for unknown; None where nobody calls it anything.

    A product that only a file's name hints at is not among them: another catalogue's files may be called alike.

    Raises:
        OptionError: The regex is none.
        CatalogueError: It matches no name.
    """
    if column is not None or regex is None:
        return column
    return [match if isinstance(match, str) else None for match in _matches(filenames, regex)]


def name_digests(names: Iterable[str]) -> Ids:
    """SHA-256 of names of products, S32, in their order: how files say which products had a part in something."""
    return np.array([hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest() for name in names], "S32")


def identities_of(
    filenames: Sequence[str],
    regex: str | None = None,
    column: Sequence[str | None] | None = None,
    ids: Ids | None = None,
    class_folders: bool = False,
) -> list[Identity]:
    """What each photo's part hangs on, from what the data says of it alone, never from other rows or its labels.

    That is its product's name as in `groups_of`; of a photo without one its bytes, and where these cannot be read its
    file name. A folder that is a class is a label: there only a name such as x-1.jpg names a product, x, in whatever
    folder, and other photos go by their bytes.

    Returns:
        (rank, text) per photo; in a group, that of the lowest rank counts.

    Args:
        ids: S32 (n,), content ids.
        class_folders: Whether the folders in the file names are classes.
    """
    products: Iterable[object]
    if column is not None:
        products = column
    elif regex is not None:
        products = _matches(filenames, regex)
    else:
        products = map(_numbered if class_folders else product_name, filenames)
    contents: Iterable[bytes] = itertools.repeat(b"") if ids is None else ids.tolist()
    return [
        (0, f"product {product}")
        if isinstance(product, str)
        else ((1, f"content {content.hex()}") if content else (2, f"photo {name}"))
        for name, product, content in zip(filenames, products, contents, strict=ids is not None)
    ]


def _number(attributes: Iterable[object]) -> Int64:
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(attribute, len(seen)) for attribute in attributes], np.int64)


def product_name(filename: str) -> str:
    """What a file's name alone says the product is: the name, folder included, up to `-<n>.ext`."""
    stem = posixpath.splitext(filename)[0]
    folder, slash, base = stem.rpartition("/")
    match = _PRODUCT.fullmatch(base)
    return folder + slash + (match[1] if match else base)


def _numbered(filename: str) -> str | None:
    match = _PRODUCT.fullmatch(posixpath.splitext(posixpath.basename(filename))[0])
    return match[1] if match else None


def _matches(filenames: Sequence[str], regex: str) -> list[object]:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise OptionError(f"--group-regex {regex!r} is no regular expression: {error}.") from error
    attributes: list[object] = []
    found = False
    for name in filenames:
        match = pattern.search(name)
        found = found or match is not None
        product = None if match is None else match[1] if pattern.groups else match[0]
        attributes.append((name, None) if product is None else product)
    if filenames and not found:
        raise CatalogueError(f"--group-regex {regex!r} matches not one file name, such as {filenames[0]!r}.")
    return attributes


def _linked(names: Int64, ids: Ids) -> Int64:
    """Name groups joined over the photos whose bytes occur more than once."""
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    same = np.flatnonzero((ordered[1:] == ordered[:-1]) & (ordered[1:] != b""))
    return _union(names, [(order[same], order[same + 1])])


def join_groups(groups: Int64, pairs: Iterable[tuple[Int64, Int64]]) -> Int64:
    """Groups in which both photos of every pair are in one group: int64 (n,), numbered by first appearance.

    Args:
        pairs: Portions of photos that belong together, as positions (p,) and (p,).
    """
    return _number(_union(groups, pairs).tolist())


def _union(groups: Int64, pairs: Iterable[tuple[Int64, Int64]]) -> Int64:
    """Union-find of groups over pairs of photos."""
    parent = list(range(int(groups.max(initial=-1)) + 1))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    for first, second in pairs:
        # Each portion is taken through what is joined already, so that a cloud of near-equal photos costs no loop.
        left, right = groups[first], groups[second]
        links = np.unique(np.stack([left, right], axis=1)[left != right], axis=0)
        for one, other in links.tolist():
            a, b = root(one), root(other)
            parent[max(a, b)] = min(a, b)
        if len(links):
            groups = np.array([root(node) for node in range(len(parent))], np.int64)[groups]
    return groups


def lacking_labels(parts: Texts, Y: UInt8, mask: Bool, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that occur but lack a positive in one of the parts."""
    positives = np.zeros((len(PARTS), Y.shape[1]), np.int64)
    for first in range(0, len(parts), BLOCK):
        block = slice(first, first + BLOCK)
        true = Y[block] * mask[block]
        positives += [true[parts[block] == part].sum(0, dtype=np.int64) for part in PARTS]
    lacking = np.flatnonzero((positives.sum(0) > 0) & (positives == 0).any(0))
    return tuple(labels[i] for i in lacking.tolist())


def check_groups(groups: Int64) -> int:
    """How many groups there are; CatalogueError when they are too few, or one is too large, for a fair split."""
    sizes = np.bincount(groups) if len(groups) else np.zeros(0, np.int64)
    if np.count_nonzero(sizes) < len(PARTS):
        raise CatalogueError(
            f"{len(groups)} photo(s) in {np.count_nonzero(sizes)} group(s) cannot be split into train, validation "
            "and test: at least 3 groups are needed. If unrelated photos are in one group, say with --group-regex or "
            "--group-column what a product is."
        )
    largest = int(sizes.max())
    if largest > 1 and largest > LARGEST_GROUP * len(groups):
        raise CatalogueError(
            f"One group has {largest} of {len(groups)} photos, more than {LARGEST_GROUP:.0%}: no fair split. "
            "Photos are grouped by file name up to -<n>.ext unless told otherwise, and by identical bytes; say with "
            '--group-regex what a product is, such as --group-regex "^(.+)_[0-9]+[.]jpg$", or name a --group-column.'
        )
    return len(sizes)
