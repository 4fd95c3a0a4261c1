"""Groups of photos that belong together, and splits that keep them together."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Float64, Ids, Int64, Texts, UInt8
from pipeline.errors import CatalogueError, OptionError

PARTS = ("train", "validation", "test")
"""Names of the parts, in the order of the fractions."""


LARGEST_GROUP = 0.2
"""Largest share of all photos that one group may have."""

_FEWEST_GROUPS = 4
_PRODUCT = re.compile(r"(.+?)-[0-9]+")
_SIZE_WEIGHT = 5.0
_BLOCK = 1 << 16


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
        names = _number(map(_product, filenames))
    return names if ids is None else _number(_linked(names, ids).tolist())


def _number(attributes: Iterable[object]) -> Int64:
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(attribute, len(seen)) for attribute in attributes], np.int64)


def _product(filename: str) -> str:
    stem = posixpath.splitext(filename)[0]
    folder, slash, base = stem.rpartition("/")
    match = _PRODUCT.fullmatch(base)
    return folder + slash + (match[1] if match else base)


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


def make_split(
    groups: Int64,
    Y: UInt8,
    mask: Bool,
    fractions: tuple[float, float, float] = (0.64, 0.16, 0.20),
    seed: int = 0,
    labels: Sequence[str] | None = None,
) -> Split:
    """Deal whole groups to train, validation and test, keeping every label's share equal in the parts.

    Greedy: groups with the rarest label come first (then the larger ones, then by the seed), and each goes to the part
    that lacks its labels most, counted as the missing share of the part's quota and weighted by rarity. Groups with a
    label of fewer than four groups go to train as long as train has room.

    Args:
        groups: int64 (n,), from `groups_of`.
        Y, mask: (n, L), from `LabelSchema.encode`.
        labels: (L,) names for `not_measurable` (default: column numbers).

    Raises:
        CatalogueError: There are fewer than three groups, or one group of several photos is larger than 20 % of all.
    """
    count = _check_groups(groups)
    pairs = _Pairs.of(groups, Y, mask, count)
    sizes = np.bincount(groups, minlength=count)
    part = _fill_empty(_deal(pairs, sizes, np.array(fractions), np.random.default_rng(seed)), sizes)
    positives = pairs.positives(part)
    lacking = np.flatnonzero((positives.sum(0) > 0) & (positives == 0).any(0))
    names = labels if labels is not None else [str(i) for i in range(Y.shape[1])]
    return Split(np.array(PARTS)[part][groups], tuple(names[i] for i in lacking.tolist()))


def _check_groups(groups: Int64) -> int:
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


@dataclass(frozen=True)
class _Pairs:
    """How many positives of each label each group has, sparse and sorted by group.

    Attributes:
        start: (G + 1,), where the entries of a group begin.
        label, photos: One entry per (group, label) that occurs.
    """

    start: Int64
    label: Int64
    photos: Int64
    labels: int

    @classmethod
    def of(cls, groups: Int64, Y: UInt8, mask: Bool, count: int) -> _Pairs:
        width = Y.shape[1]
        found = [np.zeros(0, np.int64)]
        for first in range(0, len(groups), _BLOCK):
            rows, columns = np.nonzero(Y[first : first + _BLOCK] * mask[first : first + _BLOCK])
            found.append(groups[first + rows] * width + columns)
        attributes, photos = np.unique(np.concatenate(found), return_counts=True)
        group, label = np.divmod(attributes, max(width, 1))
        start = np.searchsorted(group, np.arange(count + 1))
        return cls(start, label, photos, width)

    def per_group(self, values: npt.NDArray[Any], empty: int) -> Int64:
        """The smallest value among each group's entries; `empty` for a group without."""
        result = np.full(len(self.start) - 1, empty, np.int64)
        filled = np.flatnonzero(np.diff(self.start))
        if len(filled):
            result[filled] = np.minimum.reduceat(values, self.start[filled])
        return result

    def positives(self, part: Int64) -> Int64:
        """(3, L): photos per part and label."""
        owner = np.repeat(part, np.diff(self.start))
        place = owner * self.labels + self.label
        cells = np.bincount(place, weights=self.photos, minlength=len(PARTS) * self.labels)
        return cells.reshape(len(PARTS), self.labels).astype(np.int64)


def _deal(pairs: _Pairs, sizes: Int64, fractions: Float64, rng: np.random.Generator) -> Int64:
    """Part of each group: int64 (G,). The column after the labels counts photos, so that the sizes come out right."""
    spread = np.bincount(pairs.label, minlength=pairs.labels)
    totals = np.append(np.bincount(pairs.label, weights=pairs.photos, minlength=pairs.labels), sizes.sum())
    quota = 1.0 / (fractions[:, None] * np.maximum(totals, 1.0))
    need = np.ones_like(quota)
    rank = np.empty(pairs.labels, np.int64)
    rank[np.argsort(spread, kind="stable")] = np.arange(pairs.labels)
    rarest = pairs.per_group(rank[pairs.label], empty=pairs.labels)
    scarce = pairs.per_group(spread[pairs.label], empty=_FEWEST_GROUPS) < _FEWEST_GROUPS
    order = np.lexsort((rng.random(len(sizes)), -sizes, rarest, ~scarce))
    # Ties go to the part with the largest share, so that a rare label is met in training first.
    by_share = np.argsort(-fractions, kind="stable")
    part = np.zeros(len(sizes), np.int64)
    start = pairs.start.tolist()
    for group in order.tolist():
        if sizes[group] == 0:
            continue
        entries = slice(start[group], start[group + 1])
        columns = np.append(pairs.label[entries], pairs.labels)
        photos = np.append(pairs.photos[entries], sizes[group])
        if scarce[group] and need[0, -1] > 0:
            chosen = 0
        else:
            weights = photos / totals[columns]
            weights[-1] *= _SIZE_WEIGHT
            wanted = need[:, columns] @ weights
            chosen = int(by_share[np.argmax(wanted[by_share])])
        part[group] = chosen
        need[chosen, columns] -= photos * quota[chosen, columns]
    return part


def _fill_empty(part: Int64, sizes: Int64) -> Int64:
    """Give a part that got nothing the smallest group of the part with the most groups."""
    for empty in range(len(PARTS)):
        used = sizes > 0
        counts = np.bincount(part[used], minlength=len(PARTS))
        if counts[empty] == 0:
            donors = np.flatnonzero(used & (part == int(np.argmax(counts))))
            part[donors[np.argmin(sizes[donors])]] = empty
    return part
