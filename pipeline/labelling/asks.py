"""What is asked of whoever labels: a photo, an attribute, and why; as records and as a CSV file to fill in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.arrays import Float32, Float64, Int64
from pipeline.catalogue import LabelSchema
from pipeline.catalogue.joined import escaped
from pipeline.spreadsheet import write_rows
from pipeline.system import whole_file

COLUMNS = ("photo", "attribute", "value", "by", "candidates", "why", "doubt")
"""The file: `value` and `by` are empty, to be filled in."""

_MOST_NAMED = 4
_LEAST_P = 0.05


@dataclass(frozen=True)
class Candidate:
    """A value that a photo may have, and its probability."""

    value: str
    p: float


@dataclass(frozen=True)
class Ask:
    """One question.

    Attributes:
        attribute: "" where nothing says which there are.
        candidates: The values that are likely, the most likely first; none without a model.
        why: In words.
        doubt: 0 (sure) to 1; 1 without a model.
    """

    photo: str
    attribute: str
    candidates: tuple[Candidate, ...] = ()
    why: str = ""
    doubt: float = 1.0

    @property
    def row(self) -> tuple[str, ...]:
        """Its line in the file, by COLUMNS."""
        likely = "|".join(f"{escaped(each.value)} {each.p:.2f}" for each in self.candidates[:_MOST_NAMED])
        return (self.photo, self.attribute, "", "", likely, self.why, f"{self.doubt:.4f}")


def write_asks(path: Path, asks: Sequence[Ask]) -> None:
    """Write the file, whole or not at all."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        write_rows(file, [COLUMNS, *(ask.row for ask in asks)])


def candidates(p: Float32, values: Sequence[str]) -> tuple[Candidate, ...]:
    """The likely values of one attribute, at least two where there are, the most likely first; p is (values,)."""
    order = np.argsort(-p, kind="stable").tolist()
    return tuple(Candidate(values[j], float(p[j])) for rank, j in enumerate(order) if rank < 2 or p[j] >= _LEAST_P)


class Reasons:
    """Why a label helps, by what a model knows of its values.

    Args:
        schema: Attributes and values.
        f1: F1 that the model expects of each value, (L,).
        positives: Training photos that have each value, (L,); None where the model file does not say.
    """

    def __init__(self, schema: LabelSchema, f1: Float64, positives: Int64 | None) -> None:
        self._at = {label: column for column, label in enumerate(schema.labels)}
        self._single = dict(zip(schema.attributes, schema.single, strict=True))
        self._f1, self._positives = f1, positives

    def of(self, attribute: str, likely: Sequence[Candidate]) -> str:
        """Which values are in question, two at most, and which of them is known least."""
        if not likely:
            return "the model knows no value of it"
        if not self._single[attribute]:
            likely = sorted(likely, key=lambda each: abs(each.p - 0.5))
        likely = likely[:2]
        named = " or ".join(each.value for each in likely)
        columns = [self._at[attribute, each.value] for each in likely]
        poor = min(range(len(likely)), key=lambda i: self._f1[columns[i]])
        seen = "" if self._positives is None else f", true on {self._positives[columns[poor]]} training photos"
        question = f"{named}?" if self._single[attribute] else f"with {named}?"
        return f"{question} {likely[poor].value} has an expected F1 of {self._f1[columns[poor]]:.2f}{seen}"
