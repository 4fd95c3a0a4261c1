"""What is known of every point of the map: per attribute what is true, what is predicted, how surely; and its part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Float32, Int64
from pipeline.catalogue import UNKNOWN, Cell, Coded, LabelSchema, coded
from pipeline.catalogue.joined import joined

NOTHING = "nothing"
"""Said of an attribute that is known, or decided, to have no value."""

UNJUDGED, WRONG, RIGHT = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of some photos.

    Attributes:
        rows: Positions of the photos, int64 (m,).
        P, D: Probabilities and decisions, (m, L).
        schema: Their columns.
        source: What they are, in words.
    """

    rows: Int64
    P: Float32
    D: Bool
    schema: LabelSchema
    source: str


@dataclass(frozen=True, eq=False)
class Facet:
    """One attribute on n photos.

    Attributes:
        attribute: Its name.
        true: (n,) values in words; UNKNOWN where the truth is not known.
        predicted: (n,) values in words, "" where nobody predicted; None where nothing was predicted at all.
        verdict: uint8 (n,), UNJUDGED, WRONG or RIGHT.
        doubt: float32 (n,) from 0 to 1, NaN where nobody predicted. Of an attribute with one value per photo, 1 minus
            the largest probability; of others, 1 minus how far the most doubtful value is from 0.5, times two.
    """

    attribute: str
    true: Coded[str]
    predicted: Coded[str] | None
    verdict: npt.NDArray[np.uint8]
    doubt: Float32


def facets(cells: Mapping[str, Sequence[Cell]], applies: Mapping[str, Bool], said: Predictions | None) -> list[Facet]:
    """Per attribute of the catalogue what is known of n photos.

    Args:
        cells: Per attribute (n,) cells.
        applies: Per attribute bool (n,): photos whose category has it; an attribute that is not here applies to all.
        said: Predictions of some of the photos.
    """
    return [_facet(name, coded(column), applies.get(name), said) for name, column in cells.items()]


def _facet(name: str, column: Coded[Cell], applies: Bool | None, said: Predictions | None) -> Facet:
    rows = len(column)
    true = column.map(_words)
    verdict, doubt = np.full(rows, UNJUDGED, np.uint8), np.full(rows, np.nan, np.float32)
    if said is None or name not in said.schema.attributes:
        return Facet(name, true, None, verdict, doubt)
    at = said.schema.attributes.index(name)
    columns, single = said.schema.slices[at], said.schema.single[at]
    decided = _decided(said.D[:, columns], said.schema.values[at])
    known = np.array([cell is not None for cell in column.table], np.bool_)[column.codes[said.rows]]
    if applies is not None:
        known &= applies[said.rows]
    same = np.array(list(true.take(said.rows)), object) == np.array(list(decided), object)
    verdict[said.rows] = np.where(known, np.where(same, RIGHT, WRONG), UNJUDGED)
    doubt[said.rows] = _doubt(said.P[:, columns], single)
    codes = np.zeros(rows, np.int32)
    codes[said.rows] = decided.codes + 1
    return Facet(name, true, Coded(codes, ("", *decided.table)), verdict, doubt)


def _words(cell: Cell) -> str:
    return UNKNOWN if cell is None else joined(sorted(cell)) or NOTHING


def _decided(D: Bool, values: Sequence[str]) -> Coded[str]:
    """Decisions (m, w) in words; each pattern is put into words once."""
    patterns, codes = np.unique(D, axis=0, return_inverse=True)
    texts = [_words(tuple(values[j] for j in np.flatnonzero(pattern).tolist())) for pattern in patterns]
    return Coded(codes.reshape(-1).astype(np.int32), texts)


def _doubt(P: Float32, single: bool) -> Float32:
    if single:
        return np.asarray(1 - P.max(axis=1), np.float32)
    return np.asarray(1 - np.abs(2 * P - 1).min(axis=1), np.float32)
