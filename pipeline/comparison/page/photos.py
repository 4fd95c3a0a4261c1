"""The test photos of the page: what is true, what was decided, how surely, and small pictures of some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Float64
from pipeline.comparison.pairs import Predicted
from pipeline.evaluation.metrics import known_cells
from pipeline.experiment.run_reader import Run
from pipeline.experiment.thumbnails import read_thumbnails

PHOTOS = 5000
WORST = 300
RANDOM = 300

NEVER = "never in training"
"""Said of a value that only test photos have, wherever the page names it."""


Cell = tuple[int, int, bool, bool]
"""Value index, per mille probability, whether it is true, whether it is decided."""


@dataclass(frozen=True)
class Photo:
    """One test photo.

    Attributes:
        name: Of the photo.
        attributes: Per attribute its cells, those that are true or decided; None in front when the truth of the
            attribute is not known.
    """

    name: str
    attributes: tuple[tuple[Cell | None, ...], ...]


@dataclass(frozen=True)
class Gallery:
    """Test photos, worst first.

    Attributes:
        attributes: Names, in the order of the photos' cells.
        values: Names per attribute, those that training never saw last and marked; a cell's value index points into
            them.
        total: How many test photos there are in all.
        photos: Those that the page shows.
        pictures: Photo name to WebP bytes, of some.
    """

    attributes: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    total: int
    photos: tuple[Photo, ...]
    pictures: dict[str, bytes]


def gallery(run: Run, photos: Sequence[str], predicted: Predicted) -> Gallery:
    """The worst photos and a random sample of the others, `PHOTOS` in all.

    Args:
        run: The run of the best candidate.
        photos: Names of its n test photos.
        predicted: What it says of them.

    Returns:
        The photos, worst first.
    """
    schema, unseen = predicted.schema, predicted.unseen
    order = np.argsort(-badness(predicted), kind="stable")
    rest = np.random.default_rng(0).permutation(order[WORST:])[: PHOTOS - WORST]
    pictured = {photos[i] for i in (*order[:WORST], *rest[:RANDOM])}
    kept = np.isin(order, np.r_[order[:WORST], rest])
    cells = [list(_cells(predicted, attribute)) for attribute in range(len(schema.attributes))]
    return Gallery(
        attributes=schema.attributes,
        values=tuple(
            (*values, *(f"{unseen.labels[j][1]} ({NEVER})" for j in unseen.columns(attribute)))
            for attribute, values in zip(schema.attributes, schema.values, strict=True)
        ),
        total=len(photos),
        photos=tuple(Photo(photos[i], tuple(of[i] for of in cells)) for i in order[kept]),
        pictures=read_thumbnails(run.path, pictured),
    )


def badness(predicted: Predicted) -> Float64:
    """How bad each photo is: the sum over its wrong attributes of their largest misses |probability - truth|.

    Only cells that made an attribute wrong count, so several sure mistakes come before one doubtful one. A true value
    that training never saw has a probability of 0.

    Args:
        predicted: Of n photos.

    Returns:
        (n,) float64, 0 where nothing is wrong.
    """
    schema, unseen = predicted.schema, predicted.unseen
    true, known = known_cells(predicted.Y, predicted.mask, schema)
    miss = np.abs(predicted.P.astype(np.float64) - true) * ((true != predicted.D) & known)
    worst = [
        np.maximum(miss[:, columns].max(axis=1, initial=0.0), unseen.Y[:, unseen.columns(name)].any(axis=1))
        for name, columns in zip(schema.attributes, schema.slices, strict=True)
    ]
    result: Float64 = np.sum(worst, axis=0)
    return result


def _cells(predicted: Predicted, attribute: int) -> Iterator[tuple[Cell | None, ...]]:
    """Per photo the cells of one attribute, as in `Photo`."""
    schema, unseen = predicted.schema, predicted.unseen
    columns, never = schema.slices[attribute], unseen.columns(schema.attributes[attribute])
    true, known = (cells[:, columns] for cells in known_cells(predicted.Y, predicted.mask, schema))
    P, D, sure = predicted.P[:, columns], predicted.D[:, columns], np.asarray(known.any(axis=1))
    drawn = true | (D & (known | ~sure[:, None]))
    for i, row in enumerate(drawn):
        cells = [(int(j), round(1000 * float(P[i, j])), bool(true[i, j]), bool(D[i, j])) for j in np.flatnonzero(row)]
        cells += [(len(row) + k, 0, True, False) for k in np.flatnonzero(unseen.Y[i, never]).tolist()]
        yield tuple(cells) if sure[i] else (None, *cells)
