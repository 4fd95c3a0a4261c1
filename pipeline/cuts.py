"""Where to cut a ranking: the threshold that is exactly best among all that tell the observed scores apart.

A cell is packed into one integer, its score's bits above its truth (non-negative floats order like their bits), so that
one fast sort of integers ranks scores and carries the truth along. A cut lies midway between neighbouring observed
scores; equal scores are decided together. Only cuts just below a true cell are looked at: any other is beaten by one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]

NEVER = 2.0
"""The threshold that no probability reaches."""

MANY = 1 << 22
"""Cells above which a ranking is first narrowed to where its best cut can lie; the result is the same."""

BIN_BITS = 15


def pack(scores: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_], usable: npt.NDArray[np.bool_]) -> Codes:
    """Codes of cells, in the same shape; scores must be 0 or more. The code of a cell that is not usable is 0."""
    codes: Codes = (np.ascontiguousarray(scores, np.float32) + np.float32(0)).view(np.uint32)
    codes += np.uint32(1)
    codes <<= 1
    codes |= truth
    codes *= usable
    return codes


def best_f1_cut(parts: Sequence[Codes], positives: int) -> float | None:
    """The threshold with the highest F1 = 2 tp / (decided + positives) over the cells of all parts.

    positives : true cells in all, candidates or not. The highest threshold of equals, which decides least; 0 when
    deciding every cell is best; None without a true cell. A single part may be sorted in place.
    """
    cells = sum(len(part) for part in parts)
    above = None
    if cells > MANY:
        codes, above = _narrowed(parts, positives)
    else:
        codes = parts[0] if len(parts) == 1 else np.concatenate([*parts, np.zeros(0, np.uint32)])
    codes.sort()
    at, decided, hits = _at_true_cells(codes)
    if not len(at):
        return None
    if above is not None:
        bins = codes[at] >> BIN_BITS
        decided, hits = decided + above[0][bins], hits + above[1][bins]
    f1 = 2.0 * hits / (decided + positives)
    best = int(np.flatnonzero(f1 == f1.max())[-1])
    score = int(codes[at[best]]) & ~1
    return _midway(score, codes) if above is None else _between(score, max(_below(part, score) for part in parts))


def precision_cut(codes: Codes, precision: float) -> float:
    """The lowest threshold at which the share of true cells among the decided ones is at least `precision`.

    `NEVER` when no threshold reaches it, or nothing is true. The codes (n,) are sorted in place.
    """
    codes.sort()
    at, decided, hits = _at_true_cells(codes)
    enough = np.flatnonzero(hits >= precision * decided)
    return _midway(int(codes[at[enough[0]]]) & ~1, codes) if len(enough) else NEVER


def count_cut(codes: Codes, wanted: int) -> float:
    """The threshold at which `wanted` of the cells are decided, or as near to it as equal scores allow.

    0 when all are wanted, `NEVER` when none is. The codes (n,) are sorted in place.
    """
    if wanted <= 0:
        return NEVER
    if wanted >= np.count_nonzero(codes):
        return 0.0
    codes.sort()
    last = int(codes[len(codes) - wanted]) & ~1
    low, high = np.searchsorted(codes, np.array([last, last + 2], np.uint32))
    with_ties, without = len(codes) - int(low), len(codes) - int(high)
    if with_ties - wanted <= wanted - without:
        return _midway(last, codes)
    return _midway(int(codes[high]) & ~1, codes) if without else NEVER


def _at_true_cells(codes: Codes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """(positions of true cells in the sorted codes; cells, and true cells, scored at least as high as each)."""
    at = np.flatnonzero(codes & 1)
    true = codes[at]
    scores = true & np.uint32(0xFFFFFFFE)
    return at, len(codes) - np.searchsorted(codes, scores), len(at) - np.searchsorted(true, scores)


def _midway(score: int, codes: Codes) -> float:
    """The threshold below the score of this code, among sorted codes; 0 when there is no lower score."""
    below = int(np.searchsorted(codes, np.uint32(score)))
    return _between(score, int(codes[below - 1]) if below else 0)


def _below(part: Codes, score: int) -> int:
    """The highest code of a lower score in an unsorted part; 0 when there is none."""
    return int(np.where(part < np.uint32(score), part, np.uint32(0)).max(initial=0))


def _between(code: int, lower: int) -> float:
    if not lower:
        return 0.0
    here, below = np.array([(code >> 1) - 1, (lower >> 1) - 1], np.uint32).view(np.float32).astype(np.float64)
    return float((here + below) / 2)


def _narrowed(
    parts: Sequence[Codes], positives: int
) -> tuple[Codes, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """The cells of the ranges that can hold the best cut, and per range the (cells, true cells) left out above it.

    Ranges are those of equal leading bits. Within one, no cut can beat deciding all of its true cells and no false one.
    """
    bins = (max(int(part.max(initial=0)) for part in parts) >> BIN_BITS) + 1
    count, true = np.zeros((2, bins), np.int64)
    for part in parts:
        where = part >> BIN_BITS
        count += np.bincount(where, minlength=bins)
        true += np.bincount(where[(part & 1).astype(bool)], minlength=bins)
    if not true.any():
        return np.zeros(0, np.uint32), (count, true)
    count[0] -= sum(len(part) - np.count_nonzero(part) for part in parts)
    decided, hits = (np.cumsum(found[::-1])[::-1] for found in (count, true))
    reached = (2.0 * hits / (decided + positives)).max()
    bound = 2.0 * hits / (decided - count + true + positives)
    kept = (bound >= reached * (1 - 1e-12)) & (true > 0)
    codes = np.concatenate([part[kept[part >> BIN_BITS]] for part in parts])
    outside = [np.where(kept, 0, found) for found in (count, true)]
    above = [np.cumsum(found[::-1])[::-1] - found for found in outside]
    return codes, (above[0], above[1])
