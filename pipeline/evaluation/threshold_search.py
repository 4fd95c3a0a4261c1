"""Where to cut a ranking: the threshold that is exactly best among all that tell the observed scores apart.

A cell is packed into one integer, its score's bits above its truth (non-negative floats order like their bits), so that
one fast sort of integers ranks scores and carries the truth along. A cut lies midway between neighbouring observed
scores; equal scores are decided together. Only cuts just below a true cell are looked at: any other is beaten by one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Float32, Int64, Positions

Codes = npt.NDArray[np.uint32]

NEVER = 2.0
"""The threshold that no probability reaches."""

MANY, EDGES = 1 << 20, 1024
"""Cells above which a ranking is first narrowed to where its best cut lies (same result), and in how many steps."""


def pack(scores: Float32, truth: Bool, usable: Bool) -> Codes:
    """Codes of cells, in the same shape; scores must be 0 or more. The code of a cell that is not usable is 0."""
    codes: Codes = (np.ascontiguousarray(scores, np.float32) + np.float32(0)).view(np.uint32)
    codes += np.uint32(1)
    codes <<= 1
    codes |= truth
    codes *= usable
    return codes


def best_f1_cut(parts: Sequence[Codes], positives: int) -> float | None:
    """The threshold with the highest F1 = 2 tp / (decided + positives) over the cells of all parts, each sorted.

    Args:
        positives: True cells in all, candidates or not. The highest threshold of equals, which decides least; 0 when
            deciding every cell is best; None without a true cell.
    """
    above = None
    if len(parts) == 1:
        codes = parts[0]
    elif sum(len(part) for part in parts) <= MANY:
        codes = np.sort(np.concatenate([*parts, np.zeros(0, np.uint32)]))
    else:
        codes, above = _narrowed(parts, positives)
    at, decided, hits = _at_true_cells(codes)
    if not len(at):
        return None
    if above is not None:
        decided, hits = decided + above[0][at], hits + above[1][at]
    f1 = 2.0 * hits / (decided + positives)
    best = int(np.flatnonzero(f1 == f1.max())[-1])
    score = int(codes[at[best]]) & ~1
    return _between(score, max(_below(score, part) for part in parts))


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


def _at_true_cells(codes: Codes) -> tuple[Positions, Positions, Positions]:
    """(positions of true cells in the sorted codes; cells, and true cells, scored at least as high as each)."""
    at = np.flatnonzero(codes & 1)
    true = codes[at]
    scores = true & np.uint32(0xFFFFFFFE)
    return at, len(codes) - np.searchsorted(codes, scores), len(at) - np.searchsorted(true, scores)


def _midway(score: int, codes: Codes) -> float:
    """The threshold below the score of this code, among sorted codes; 0 when there is no lower score."""
    return _between(score, _below(score, codes))


def _below(score: int, codes: Codes) -> int:
    """The highest of the sorted codes that has a lower score; 0 when there is none."""
    below = int(np.searchsorted(codes, np.uint32(score)))
    return int(codes[below - 1]) if below else 0


def _between(code: int, lower: int) -> float:
    if not lower:
        return 0.0
    here, below = np.array([(code >> 1) - 1, (lower >> 1) - 1], np.uint32).view(np.float32).astype(np.float64)
    return float((here + below) / 2)


def _narrowed(parts: Sequence[Codes], positives: int) -> tuple[Codes, tuple[Int64, Int64]]:
    """The sorted cells of the ranges that can hold the best cut; for each the (cells, true cells) left out above it.

    Ranges hold about equally many true cells. Within one, no cut can beat deciding all of its true cells and no false
    one.
    """
    true_codes = np.sort(np.concatenate([part[(part & 1).astype(bool)] for part in parts]))
    if not len(true_codes):
        return true_codes, (np.zeros(0, np.int64), np.zeros(0, np.int64))
    edges = np.unique(true_codes[:: max(1, len(true_codes) // EDGES)] & np.uint32(0xFFFFFFFE))
    starts = np.stack([np.append(np.searchsorted(part, edges), len(part)) for part in parts])
    count = np.diff(starts).sum(axis=0)
    true = np.diff(np.append(np.searchsorted(true_codes, edges), len(true_codes)))
    decided, hits = _from_above(count), _from_above(true)
    reached = (2.0 * hits / (decided + positives)).max()
    bound = 2.0 * hits / (decided - count + true + positives)
    kept = np.flatnonzero(bound >= reached * (1 - 1e-12))
    codes = np.sort(
        np.concatenate([part[row[b] : row[b + 1]] for part, row in zip(parts, starts, strict=True) for b in kept])
    )
    outside = np.ones(len(edges), bool)
    outside[kept] = False
    of_code = np.searchsorted(edges, codes, side="right") - 1
    left_out = [_from_above(np.where(outside, cells, 0))[of_code] for cells in (count, true)]
    return codes, (left_out[0], left_out[1])


def _from_above(counts: Int64) -> Int64:
    """Sums of each count and all after it."""
    return np.cumsum(counts[::-1])[::-1]
