"""The test photos of the page: what is true, what was decided, how surely, and small pictures of some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Bool, Float32, Float64, UInt8
from pipeline.catalogue.labels import LabelSchema
from pipeline.evaluation.metrics import known_cells
from pipeline.experiment.run_reader import Run
from pipeline.experiment.thumbnails import read_thumbnails

Arrays = tuple[Float32, Bool, UInt8, Bool]

PHOTOS = 5000
WORST = 300
RANDOM = 300


@dataclass(frozen=True)
class Photo:
    """One test photo.

    Attributes:
        name: Of the photo.
        attributes: Per attribute its cells (value index, per mille probability, true, decided), those that are true or
            decided; None in front when the truth of the attribute is not known.
    """

    name: str
    attributes: tuple[tuple[tuple[int, int, bool, bool] | None, ...], ...]


@dataclass(frozen=True)
class Gallery:
    """Test photos, worst first.

    Attributes:
        attributes: Names, in the order of the photos' cells.
        values: Names per attribute; a cell's value index points into them.
        total: How many test photos there are in all.
        photos: Those that the page shows.
        pictures: Photo name to WebP bytes, of some.
    """

    attributes: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    total: int
    photos: tuple[Photo, ...]
    pictures: dict[str, bytes]


def gallery(run: Run, photos: Sequence[str], arrays: Arrays) -> Gallery:
    """The worst photos and a random sample of the others, `PHOTOS` in all.

    Args:
        run: The run of the best candidate.
        photos: Names of its n test photos.
        arrays: P (float32), D (bool), Y (uint8) and mask (bool), (n, L): probabilities, decisions, truth, known cells.

    Returns:
        The photos, worst first.
    """
    P, D, Y, mask = arrays
    true, known = known_cells(Y, mask, run.schema)
    order = np.argsort(-badness(P, D, true, known, run.schema), kind="stable")
    rest = np.random.default_rng(0).permutation(order[WORST:])[: PHOTOS - WORST]
    pictured = {photos[i] for i in (*order[:WORST], *rest[:RANDOM])}
    kept = np.isin(order, np.r_[order[:WORST], rest])
    return Gallery(
        attributes=run.schema.attributes,
        values=run.schema.values,
        total=len(photos),
        photos=tuple(_photo(int(i), photos[i], (P, D, true, known), run.schema) for i in order[kept]),
        pictures=read_thumbnails(run.path, pictured),
    )


def badness(P: Float32, D: Bool, true: Bool, known: Bool, schema: LabelSchema) -> Float64:
    """How bad each photo is: the sum over its wrong attributes of their largest misses |probability - truth|.

    Only cells that made an attribute wrong count, so several sure mistakes come before one doubtful one.

    Args:
        P: (n, L) probabilities.
        D: (n, L) decisions.
        true: (n, L) truth.
        known: (n, L) cells of which the truth is known.
        schema: Which columns are which attribute.

    Returns:
        (n,) float64, 0 where nothing is wrong.
    """
    miss = np.abs(P.astype(np.float64) - true) * ((true != D) & known)
    worst = [miss[:, columns].max(axis=1, initial=0.0) for columns in schema.slices]
    result: Float64 = np.sum(worst, axis=0)
    return result


def _photo(i: int, name: str, arrays: tuple[Float32, Bool, Bool, Bool], schema: LabelSchema) -> Photo:
    P, D, true, known = arrays
    attributes: list[tuple[tuple[int, int, bool, bool] | None, ...]] = []
    for columns in schema.slices:
        sure = bool(known[i, columns].any())
        at = columns.start + np.flatnonzero(true[i, columns] | (D[i, columns] & (known[i, columns] | (not sure))))
        cells = [(int(j - columns.start), round(1000 * float(P[i, j])), bool(true[i, j]), bool(D[i, j])) for j in at]
        attributes.append(tuple(cells) if sure else (None, *cells))
    return Photo(name, tuple(attributes))
