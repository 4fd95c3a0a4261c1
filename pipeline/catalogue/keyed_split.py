"""The split that stays: a product's part is a keyed hash of what it is called, so that no other photo has a say in it.

A rule that lets neither added nor removed nor relabelled photos move another one leaves no choice: the part may hang on
the product alone. So the shares are those of independent draws, not exact ones, and no label is stratified;
`make_split` and `place_groups` do that, and give up that photos stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Float64, Int64, Texts
from pipeline.catalogue.splits import PARTS, Identity, check_groups

UInt64 = npt.NDArray[np.uint64]


def keyed_split(
    groups: Int64, identities: Sequence[Identity], fractions: tuple[float, float, float], seed: int
) -> Texts:
    """Part of each photo, str (n,), by a hash of its group under the seed.

    A group of several products, linked by identical bytes or look-alikes, goes by one of them; which one is decided by
    a second hash, so that linking moves photos of the linked products only. A part that gets no group at all takes the
    one nearest to it, which happens with a few dozen products at most.

    Args:
        groups: int64 (n,), from `groups_of`.
        identities: (n,), from `identities_of`.
        fractions: Shares of PARTS.
        seed: Another one, another split.

    Raises:
        CatalogueError: As `make_split`.
    """
    count = check_groups(groups)
    draws = _Draws.of(groups, identities, seed, count)
    bounds = np.cumsum(fractions)
    part = np.searchsorted(bounds[:-1], draws.at, side="right")
    return np.array(PARTS)[_fill_empty(part, draws, np.concatenate([[0.0], bounds]))][groups]


@dataclass(frozen=True)
class _Draws:
    """Per group a number in [0, 1) that its part is read from, and one that decides between equals."""

    at: Float64
    order: UInt64

    @classmethod
    def of(cls, groups: Int64, identities: Sequence[Identity], seed: int, count: int) -> _Draws:
        """Those of each group's first identity: the lowest rank, then the lowest second hash."""
        key = str(seed).encode()
        texts = [text.encode("utf-8", "surrogatepass") for _, text in identities]
        digests = b"".join(hashlib.blake2b(text, digest_size=16, key=key).digest() for text in texts)
        numbers = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)
        ranks = np.array([rank for rank, _ in identities], np.int64)
        ordered = np.lexsort((numbers[:, 1], ranks, groups))
        first = ordered[np.searchsorted(groups[ordered], np.arange(count))]
        return cls(numbers[first, 0].astype(np.float64) / 2.0**64, numbers[first, 1])


def _fill_empty(part: Int64, draws: _Draws, bounds: Float64) -> Int64:
    """Give a part that got nothing the nearest group of the part with the most groups."""
    for empty in range(len(PARTS)):
        counts = np.bincount(part, minlength=len(PARTS))
        if counts[empty] == 0:
            donors = np.flatnonzero(part == int(np.argmax(counts)))
            at = draws.at[donors]
            distance = np.maximum(np.maximum(bounds[empty] - at, at - bounds[empty + 1]), 0.0)
            part[donors[np.lexsort((draws.order[donors], distance))[0]]] = empty
    return part
