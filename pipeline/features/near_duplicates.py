"""Near-duplicates: photos whose vectors nearly point the same way, found without n x n numbers in memory.

For unit vectors, cosine >= c means a squared distance <= 2 - 2c, and no orthogonal projection makes a distance larger.
So a projection to a few directions in which the photos differ most rules out nearly every pair; rows sorted by the
first of them need to be compared with a window of their neighbours only; what is left is compared in full. It is exact
and quadratic: of more than 65,000 x 65,000 pairs, a row is compared with the cells of the projection nearest to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Float32, Int64, Texts, Vectors
from pipeline.errors import OptionError
from pipeline.features.vectors.cells import PROBED, Cells
from pipeline.features.vectors.rows import UnitRows

MOST_LISTED = 10_000
"""Most pairs that are listed, the closest first; all are counted."""

_DIRECTIONS = 64
_SAMPLE = 4096
_ROWS, _WINDOW, _GATHER = 1024, 4096, 2048
_MOST_COMPARED = 2**32  # pairs; more, and a row is compared with the nearest cells only
_SLACK = 1e-5  # single-precision rounding of distances between vectors of length 1
_DENSE = 0.02  # above this share of a tile, one matrix product is cheaper than gathering its pairs


class Pairs(NamedTuple):
    """Pairs of rows and their cosines: int64 (p,), int64 (p,), float32 (p,)."""

    first: Int64
    second: Int64
    cosine: Float32

    def take(self, at: npt.NDArray[Any]) -> Pairs:
        """Some of them: positions or a mask."""
        return Pairs(self.first[at], self.second[at], self.cosine[at])

    def join(self, more: Pairs) -> Pairs:
        """These and more."""
        return Pairs(*(np.concatenate([getattr(side, name) for side in (self, more)]) for name in self._fields))


@dataclass(frozen=True)
class Neighbour:
    """One pair of near-duplicates: a line of neighbours.csv. `photo_a` is in the part that is trained on less."""

    photo_a: str
    part_a: str
    photo_b: str
    part_b: str
    cosine: float


@dataclass(frozen=True)
class Neighbours:
    """Near-duplicates across the parts of a split.

    Attributes:
        cosine: The least cosine that counts.
        closest: At most `MOST_LISTED` pairs, best first.
        counts: All pairs per two parts, such as "test-train".
        test_photos: Photos of the last part with a near-duplicate in another part.
        about: What a person should know of the search, if anything.
    """

    cosine: float
    closest: tuple[Neighbour, ...]
    counts: dict[str, int]
    test_photos: int
    about: str | None = None

    def to_json(self) -> dict[str, Any]:
        """What run.json keeps: the limit, the counts, the closest pair."""
        first = [self.closest[0].photo_a, self.closest[0].photo_b] if self.closest else []
        counts = {"pairs": self.counts, "test_photos": self.test_photos, "listed": len(self.closest)}
        return {"cosine": self.cosine, **counts, "closest": first, **({"about": self.about} if self.about else {})}


def sentence(near: Mapping[str, Any] | None) -> str | None:
    """What a person should know of a run's near-duplicates, from `Neighbours.to_json`; None when there are none."""
    total = sum(near["pairs"].values()) if near else 0
    if not near or not total:
        return None
    each = ", ".join(f"{pair} {count}" for pair, count in near["pairs"].items() if count)
    return (
        f"{total} near-duplicate pairs lie in different parts (cosine >= {near['cosine']:g}; {each}; "
        f"{near['test_photos']} test photos), first: {' ~ '.join(near['closest'])}; neighbours.csv lists them, "
        f"--regroup keeps them together{'; ' + near['about'] if near.get('about') else ''}"
    )


def check_cosine(cosine: float) -> None:
    """Raise OptionError unless this can be a limit: above 0 and below 1, or 0 for none."""
    if not 0 <= cosine < 1:
        raise OptionError(f"--near-duplicates is {cosine:g}; expected a cosine above 0 and below 1, or 0 for no search")


def words_beyond(left: int, right: int) -> str | None:
    """What a person should know of a search between so many rows, where not every pair of them is looked at."""
    if _is_exact(left, right):
        return None
    return f"of so many photos each was compared with the {PROBED} nearest groups of them only: a few pairs may lack"


def across_parts(photos: Sequence[str], parts: Texts, X: Vectors, order: Sequence[str], cosine: float) -> Neighbours:
    """Pairs of photos of different parts with at least this cosine.

    Args:
        photos, parts: (n,) names, and parts out of `order`, which goes from the part trained on to the last one, test.
        X: float32 (n, d).
    """
    folded = _folded(X)
    rows = {part: np.flatnonzero(parts == part) for part in order}
    closest, counts, touched = _no_pairs(), {}, np.zeros(len(parts), bool)
    for earlier, later in combinations(order, 2):
        count = 0
        for pairs in _search(folded, rows[later], rows[earlier], cosine):
            count += len(pairs.first)
            touched[pairs.first] = True
            closest = _best(closest, pairs, MOST_LISTED)
        counts[f"{later}-{earlier}"] = count
    listed = tuple(
        Neighbour(photos[a], str(parts[a]), photos[b], str(parts[b]), round(value, 4))
        for a, b, value in zip(*(column.tolist() for column in closest), strict=True)
    )
    beyond = [words_beyond(len(rows[a]), len(rows[b])) for a, b in combinations(order, 2)]
    about = next(filter(None, beyond), None)
    return Neighbours(cosine, listed, counts, int(touched[rows[order[-1]]].sum()), about)


def all_pairs(X: Vectors, cosine: float) -> Iterator[Pairs]:
    """All pairs of different rows of X, float32 (n, d), with at least this cosine: each once, in portions.

    Of very many rows some pairs may lack; `words_beyond` says so.
    """
    every = np.arange(X.shape[0])
    return _search(_folded(X), every, every, cosine)


def closest_pairs(X: Vectors, cosine: float, wanted: Callable[[Pairs], Bool], most: int) -> tuple[Pairs, int]:
    """The nearest pairs of rows that are wanted, in memory that does not grow with their number.

    Args:
        X: Vectors, float32 (n, d).
        cosine: The least cosine of a pair.
        wanted: Which of some pairs count, bool (k,).
        most: At most this many are kept.

    Returns:
        Those kept, first < second, the nearest first; and how many there were.
    """
    closest, count = _no_pairs(), 0
    for pairs in all_pairs(X, cosine):
        wanted_pairs = pairs.take(wanted(pairs))
        count += len(wanted_pairs.first)
        first, second = (end(wanted_pairs.first, wanted_pairs.second) for end in (np.minimum, np.maximum))
        closest = _best(closest, Pairs(first, second, np.minimum(wanted_pairs.cosine, np.float32(1))), most)
    return closest, count


class _Folded(NamedTuple):
    """Rows of length 1, and all of them in a few directions: (n, k)."""

    unit: UnitRows
    P: Float32


def _folded(X: Vectors) -> _Folded:
    unit = UnitRows(X)
    basis = directions(unit, _DIRECTIONS)
    P = np.empty((X.shape[0], basis.shape[1]), np.float32)
    for at in range(0, len(P), _WINDOW):
        np.matmul(unit[at : at + _WINDOW], basis, out=P[at : at + _WINDOW])
    return _Folded(unit, P)


def _is_exact(left: int, right: int) -> bool:
    return left * right <= _MOST_COMPARED


def _search(folded: _Folded, left: Int64, right: Int64, cosine: float) -> Iterator[Pairs]:
    """Pairs of a row of `left` and one of `right`; of two equal sets, each pair of different rows once."""
    unit, same = folded.unit, left is right
    P, left = _sorted(folded.P, left)
    Q, right = (P, left) if same else _sorted(folded.P, right)
    limit = 2 - 2 * cosine + _SLACK
    own, half = np.einsum("ij,ij->i", P, P) / 2, (np.einsum("ij,ij->i", Q, Q) - limit) / 2
    tiles = (_windows if _is_exact(len(P), len(Q)) else _tiles_of_cells)(P, Q, float(np.sqrt(limit)), same)
    waiting: list[tuple[Int64, Int64]] = []
    for a, b in tiles:
        near = P[a] @ Q[b].T >= half[b] + own[a][:, None]
        if same and b[0] <= a[-1]:
            near &= b > a[:, None]
        if near.mean() > _DENSE:
            yield from _all_of_tile(unit, left[a], right[b], near, cosine)
            continue
        i, j = np.nonzero(near)
        waiting.append((left[a[i]], right[b[j]]))
        if sum(len(rows) for rows, _ in waiting) >= _GATHER:
            yield from _confirmed(unit, waiting, cosine)
            waiting = []
    yield from _confirmed(unit, waiting, cosine)


def _windows(P: Float32, Q: Float32, reach: float, same: bool) -> Iterator[tuple[Int64, Int64]]:
    """Rows of both that may be within reach of each other by the first direction, in which both are sorted."""
    rows, others = np.arange(len(P)), np.arange(len(Q))
    for start in range(0, len(P), _ROWS):
        block = P[start : start + _ROWS, 0]
        begin = start if same else int(np.searchsorted(Q[:, 0], block[0] - reach, side="left"))
        end = int(np.searchsorted(Q[:, 0], block[-1] + reach, side="right"))
        for at in range(begin, end, _WINDOW):
            yield rows[start : start + _ROWS], others[at : min(at + _WINDOW, end)]


def _tiles_of_cells(P: Float32, Q: Float32, reach: float, same: bool) -> Iterator[tuple[Int64, Int64]]:
    """Rows of P beside those of the cells of Q that are nearest to them."""
    for near, own in Cells(Q).within(P, reach):
        for start in range(0, len(near), _ROWS):
            block = near[start : start + _ROWS]
            others = own[own > block[0]] if same else own
            for at in range(0, len(others), _WINDOW):
                yield block, others[at : at + _WINDOW]


def _all_of_tile(unit: UnitRows, left: Int64, right: Int64, near: Bool, cosine: float) -> Iterator[Pairs]:
    """Those of the pairs marked in a tile that hold in full, by the product of all its rows."""
    product = unit[left] @ unit[right].T
    step = max(1, _GATHER // len(right))  # copies of one photo make a pair of nearly every cell
    for at in range(0, len(left), step):
        i, j = np.nonzero(near[at : at + step] & (product[at : at + step] >= cosine))
        yield Pairs(left[at : at + step][i], right[j], product[at : at + step][i, j])


def _confirmed(unit: UnitRows, waiting: Sequence[tuple[Int64, Int64]], cosine: float) -> Iterator[Pairs]:
    """Those of some pairs that hold in full."""
    if not waiting:
        return
    first, second = (np.concatenate(rows) for rows in zip(*waiting, strict=True))
    for at in range(0, len(first), _GATHER):
        a, b = first[at : at + _GATHER], second[at : at + _GATHER]
        pairs = Pairs(a, b, np.einsum("ij,ij->i", unit[a], unit[b]))
        yield pairs.take(pairs.cosine >= cosine)


def directions(unit: Vectors, count: int, centred: bool = True) -> Float32:
    """Orthonormal directions (d, count) that carry most of the rows' variance; any would be right, these rule out most.

    Subspace iteration on a sample of the rows: a few thin products where an eigendecomposition would take seconds.

    Args:
        unit: float32 (n, d).
        count: How many; all d where that is less.
        centred: Around the rows' mean, for distances; else around 0, for products.
    """
    rng = np.random.default_rng(0)
    width = unit.shape[1]
    if width <= count:
        return np.eye(width, dtype=np.float32)
    rows = unit.shape[0]
    sample = unit[np.sort(rng.choice(rows, min(rows, _SAMPLE), replace=False))]
    if centred:
        sample = sample - sample.mean(axis=0)
    basis = rng.standard_normal((width, count)).astype(np.float32)
    for _ in range(4):
        basis = np.linalg.qr(sample.T @ (sample @ basis))[0]
    return basis


def _sorted(P: Float32, rows: Int64) -> tuple[Float32, Int64]:
    """Some rows of P, ordered by the first direction: (m, k) and the rows' numbers (m,)."""
    order = rows[np.argsort(P[rows, 0], kind="stable")]
    return P[order], order


def _best(closest: Pairs, more: Pairs, most: int) -> Pairs:
    """The best of both, by cosine and then by row, so that the portions' order does not matter."""
    if len(more.cosine) > most:
        more = more.take(more.cosine >= np.partition(more.cosine, -most)[-most])
    if len(closest.cosine) == most:
        more = more.take(more.cosine >= closest.cosine[-1])
    if not len(more.first):
        return closest
    joined = closest.join(more)
    return joined.take(np.lexsort((joined.second, joined.first, -joined.cosine))[:most])


def _no_pairs() -> Pairs:
    return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
