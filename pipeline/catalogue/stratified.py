"""Dealing whole groups to the parts so that every label's share comes out equal: greedy, rarest label first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Float64, Int64, UInt8
from pipeline.catalogue.splits import BLOCK, PARTS, Split, check_groups, lacking_labels

_FEWEST_GROUPS = 4
_SIZE_WEIGHT = 5.0


def make_split(
    groups: Int64,
    Y: UInt8,
    mask: Bool,
    fractions: tuple[float, float, float] = (0.64, 0.16, 0.20),
    seed: int = 0,
    labels: Sequence[str] | None = None,
) -> Split:
    """Deal whole groups to train, validation and test, keeping every label's share equal in the parts.

    One photo more, or another label of one, may deal all anew; `keyed_split` moves nobody. Greedy: groups with the
    rarest label come first (then the larger ones, then by the seed), and each goes to the part that lacks its labels
    most, counted as the missing share of the part's quota and weighted by rarity. Groups with a label of fewer than
    four groups go to train as long as train has room.

    Args:
        groups: int64 (n,), from `groups_of`.
        Y, mask: (n, L), from `LabelSchema.encode`.
        labels: (L,) names for `not_measurable` (default: column numbers).

    Raises:
        CatalogueError: There are fewer than three groups, or one group of several photos is larger than 20 % of all.
    """
    count = check_groups(groups)
    pairs = _Pairs.of(groups, Y, mask, count)
    sizes = np.bincount(groups, minlength=count)
    free = np.full(count, -1, np.int64)
    part = _fill_empty(_deal(pairs, sizes, np.array(fractions), (free, np.random.default_rng(seed))), sizes)
    names = labels if labels is not None else [str(i) for i in range(Y.shape[1])]
    parts = np.array(PARTS)[part][groups]
    return Split(parts, lacking_labels(parts, Y, mask, names))


def place_groups(
    groups: Int64,
    placed: Int64,
    Y: UInt8,
    mask: Bool,
    fractions: tuple[float, float, float],
    seed: int = 0,
) -> Int64:
    """Parts of groups some of which have one already, as positions in PARTS: int64 (G,).

    The others are dealt as by `make_split`, to the part that lacks their labels and photos most, counting what the
    placed groups have brought there. No placed group is moved.

    Args:
        groups: int64 (n,), from `groups_of`.
        placed: int64 (G,), the part of each group, -1 for one to be dealt.
        Y, mask: (n, L), from `LabelSchema.encode`.
        fractions: Shares that all groups together should come to.
        seed: Decides between equals.
    """
    sizes = np.bincount(groups, minlength=len(placed))
    pairs = _Pairs.of(groups, Y, mask, len(placed))
    return _deal(pairs, sizes, np.array(fractions), (placed, np.random.default_rng(seed)))


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
        for first in range(0, len(groups), BLOCK):
            rows, columns = np.nonzero(Y[first : first + BLOCK] * mask[first : first + BLOCK])
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

    def photos_in(self, part: Int64, sizes: Int64) -> Float64:
        """(3, L + 1): photos per part and label, and in all; groups whose part is -1 count nowhere."""
        owner = np.repeat(part, np.diff(self.start))
        counts = np.zeros((len(PARTS), self.labels + 1))
        for place in range(len(PARTS)):
            of = owner == place
            counts[place, :-1] = np.bincount(self.label[of], weights=self.photos[of], minlength=self.labels)
            counts[place, -1] = sizes[part == place].sum()
        return counts


def _deal(pairs: _Pairs, sizes: Int64, fractions: Float64, known: tuple[Int64, np.random.Generator]) -> Int64:
    """Part of each group: int64 (G,). The column after the labels counts photos, so that the sizes come out right.

    Args:
        known: The part that a group has already, -1 for none, and what decides between equals.
    """
    placed, rng = known
    spread = np.bincount(pairs.label, minlength=pairs.labels)
    totals = np.append(np.bincount(pairs.label, weights=pairs.photos, minlength=pairs.labels), sizes.sum())
    quota = 1.0 / (fractions[:, None] * np.maximum(totals, 1.0))
    need = 1.0 - quota * pairs.photos_in(placed, sizes)
    rank = np.empty(pairs.labels, np.int64)
    rank[np.argsort(spread, kind="stable")] = np.arange(pairs.labels)
    rarest = pairs.per_group(rank[pairs.label], empty=pairs.labels)
    scarce = pairs.per_group(spread[pairs.label], empty=_FEWEST_GROUPS) < _FEWEST_GROUPS
    order = np.lexsort((rng.random(len(sizes)), -sizes, rarest, ~scarce))
    # Ties go to the part with the largest share, so that a rare label is met in training first.
    by_share = np.argsort(-fractions, kind="stable")
    part = np.maximum(placed, 0)
    start = pairs.start.tolist()
    for group in order[(placed[order] < 0) & (sizes[order] > 0)].tolist():
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
