"""Vectors dealt to cells around centres: what lies near a row is in its own cell or in one that is not far from it.

A row nearer to centre A than to centre B has at least (|x - B|^2 - |x - A|^2) / (2 |A - B|) to go to the middle between
them. So with a reach shorter than that nothing of B's cell is reached, and most cells are ruled out; of those that are
left, the nearest few are looked into. What is missed then lies in a cell that is reached and farther than those.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.arrays import Float32, Int64

PROBED = 16
"""Cells into which is looked for each row."""

_BLOCK = 4096
_PER_CENTRE = 32
_ROUNDS = 4


class Cells:
    """Some rows, dealt to about as many cells as a cell has rows.

    Args:
        P: float32 (n, k), at least one row.
    """

    def __init__(self, P: Float32) -> None:
        self._centres = _centres(P, max(1, int(np.sqrt(len(P)))))
        self._square = np.einsum("ij,ij->i", self._centres, self._centres)
        cell = np.concatenate([self._distances(P[at : at + _BLOCK]).argmin(axis=1) for at in range(0, len(P), _BLOCK)])
        self._order = np.argsort(cell, kind="stable")
        self._ends = np.searchsorted(cell[self._order], np.arange(len(self._centres) + 1))

    def within(self, P: Float32, reach: float) -> Iterator[tuple[Int64, Int64]]:
        """For every cell, rows of P, float32 (m, k), that may be as near as this to one in it; and the cell's rows."""
        rows, cells = self._probes(P, reach)
        order = np.argsort(cells, kind="stable")
        ends = np.searchsorted(cells[order], np.arange(len(self._centres) + 1))
        for cell in range(len(self._centres)):
            own = self._order[self._ends[cell] : self._ends[cell + 1]]
            near = rows[order[ends[cell] : ends[cell + 1]]]
            if len(own) and len(near):
                yield near, own

    def _probes(self, P: Float32, reach: float) -> tuple[Int64, Int64]:
        """Pairs of a row and a cell into which is looked for it, ordered by row."""
        gap = np.sqrt(np.maximum(self._distances(self._centres) + self._square[:, None], 0))
        most = min(PROBED, len(self._centres))
        rows, cells = [], []
        for at in range(0, len(P), _BLOCK):
            distance = self._distances(P[at : at + _BLOCK])
            nearest = np.argpartition(distance, most - 1, axis=1)[:, :most]
            near = np.take_along_axis(distance, nearest, axis=1)
            own = distance.argmin(axis=1)
            to_go = near - np.take_along_axis(distance, own[:, None], axis=1)
            i, j = np.nonzero(to_go <= 2 * reach * gap[own[:, None], nearest])
            rows.append((at + i).astype(np.int32))
            cells.append(nearest[i, j].astype(np.int32))
        return np.concatenate(rows), np.concatenate(cells)

    def _distances(self, P: Float32) -> Float32:
        """Squared distances (m, cells) from the centres, less the square of each row's own length."""
        distance: Float32 = self._square - 2 * (P @ self._centres.T)
        return distance


def _centres(P: Float32, count: int) -> Float32:
    """Centres (count, k) by a few rounds of Lloyd's algorithm on a sample; one that loses all its rows stays."""
    rng = np.random.default_rng(0)
    sample = P[np.sort(rng.choice(len(P), min(len(P), _PER_CENTRE * count), replace=False))]
    centres = sample[rng.choice(len(sample), count, replace=False)]
    for _ in range(_ROUNDS):
        nearest = (sample @ centres.T - np.einsum("ij,ij->i", centres, centres) / 2).argmax(axis=1)
        sizes = np.bincount(nearest, minlength=count)
        sums = np.zeros((count, P.shape[1]), np.float64)
        np.add.at(sums, nearest, sample)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres).astype(np.float32)
    return centres
