"""Near-duplicates: pairs of photos whose vectors point the same way."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

_ROWS = 1024
_COLUMNS = 4096


def near_pairs(X: Float32, threshold: float) -> tuple[Int64, Int64, Float32]:
    """Pairs i < j of rows of X (n, d) whose cosine is at least `threshold`, the nearest first: (i, j, cosine).

    Products of blocks, so that beside X and the pairs found only tens of MB are held. A row of zeros is near nothing.
    """
    norms = np.linalg.norm(X, axis=1)
    U = X / np.where(norms > 0, norms, np.inf)[:, None].astype(np.float32)
    found: list[tuple[Int64, Int64, Float32]] = []
    for top in range(0, len(U), _ROWS):
        rows = U[top : top + _ROWS]
        for left in range(top, len(U), _COLUMNS):
            cosines = rows @ U[left : left + _COLUMNS].T
            i, j = np.nonzero(cosines >= threshold)
            later = j + left > i + top
            i, j = i[later], j[later]
            found.append((i + top, j + left, np.minimum(cosines[i, j], np.float32(1))))
    if not found:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, np.zeros(0, np.float32)
    first, second, cosine = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(-cosine, kind="stable")
    return first[order], second[order], cosine[order]
