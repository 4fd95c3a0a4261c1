"""Values that only test photos have: no head can decide them, and every figure of true values counts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Positions
from pipeline.catalogue.labels import LabelSchema


@dataclass(frozen=True)
class Unseen:
    """True values that a label schema has no column for, because no photo that fitting may see has them.

    Such a value is never decided. Where it is true it is a false negative, and its photo's attribute is wrong.

    Attributes:
        labels: (attribute, value) per column.
        Y: Bool (n, U), True where a photo is known to have the value.
    """

    labels: tuple[tuple[str, str], ...]
    Y: Bool

    @classmethod
    def none(cls, photos: int) -> Unseen:
        """No such value, on this many photos."""
        return cls((), np.zeros((photos, 0), np.bool_))

    @cached_property
    def _columns(self) -> dict[str, list[int]]:
        columns: dict[str, list[int]] = {}
        for j, (attribute, _) in enumerate(self.labels):
            columns.setdefault(attribute, []).append(j)
        return columns

    def columns(self, attribute: str) -> list[int]:
        """The columns of one attribute's values."""
        return self._columns.get(attribute, [])

    def take(self, rows: Positions) -> Unseen:
        """The same values on some of the photos."""
        return Unseen(self.labels, self.Y[rows])

    def of_attributes(self, attributes: Sequence[str]) -> Unseen:
        """The values of some attributes."""
        at = [j for j, (attribute, _) in enumerate(self.labels) if attribute in attributes]
        return Unseen(tuple(self.labels[j] for j in at), self.Y[:, at])

    def beside(self, own: npt.NDArray[Any], theirs: npt.NDArray[Any], schema: LabelSchema) -> npt.NDArray[Any]:
        """Columns (..., L + U): per attribute those of the schema, `own` (..., L), then these, `theirs` (..., U)."""
        if not self.labels:
            return own
        pairs = zip(schema.attributes, schema.slices, strict=True)
        parts = [part for name, at in pairs for part in (own[..., at], theirs[..., self.columns(name)])]
        return np.concatenate(parts, axis=-1)
