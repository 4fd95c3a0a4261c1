"""Predictions as a table, and the table as a CSV or JSON lines file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.arrays import Bool, Float32
from pipeline.catalogue.joined import escaped, joined
from pipeline.catalogue.labels import UNKNOWN, LabelSchema
from pipeline.errors import OptionError
from pipeline.spreadsheet import write_rows
from pipeline.system import whole_file

if TYPE_CHECKING:
    import pandas as pd

PROBABILITY = "p:"


@dataclass(frozen=True)
class Prediction:
    """The table, one row per photo; rejects (path, reason), whose rows hold `#N/A` only; notes worth reading.

    Attributes:
        cached: Photos whose vectors came out of the cache.
    """

    frame: pd.DataFrame
    rejects: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    cached: int = 0

    @property
    def photos(self) -> int:
        """Rows of the table."""
        return len(self.frame)


def prediction_frame(
    filenames: Sequence[str],
    P: Float32,
    D: Bool,
    schema: LabelSchema,
    probabilities: bool = False,
) -> pd.DataFrame:
    """One row per photo: filename, then per attribute its decided value; P and D are (n, L).

    A multi-valued attribute holds a list; UNKNOWN stands where nothing is decided. With `probabilities`,
    `p:<attribute>` follows: the probability of the decided value (a list for a multi-valued attribute), None where
    nothing is decided.
    """
    import pandas as pd

    columns: dict[str, list[Any]] = {"filename": list(filenames)}
    chances: dict[str, list[Any]] = {}
    for attribute, values, at, single in zip(
        schema.attributes, schema.values, schema.slices, schema.single, strict=True
    ):
        cells: list[Any] = []
        chance: list[Any] = []
        for decided, p in zip(D[:, at], P[:, at], strict=True):
            picked = np.flatnonzero(decided)
            names, ps = [values[j] for j in picked], [round(float(p[j]), 6) for j in picked]
            cells.append(_one_or_all(names, single, UNKNOWN))
            chance.append(_one_or_all(ps, single, None))
        columns[attribute] = cells
        chances[f"{PROBABILITY}{attribute}"] = chance
    return pd.DataFrame({**columns, **(chances if probabilities else {})}, dtype=object)


def decided_values(D: Bool, schema: LabelSchema) -> list[dict[str, str | list[str] | None]]:
    """Per photo {attribute: value}, a list for a multi-valued attribute, None where nothing is decided; D is (n, L)."""
    columns = list(zip(schema.attributes, schema.values, schema.slices, schema.single, strict=True))
    found: list[dict[str, str | list[str] | None]] = []
    for row in D:
        values = {}
        for attribute, names, at, single in columns:
            value = _one_or_all([names[j] for j in np.flatnonzero(row[at])], single, None)
            values[attribute] = None if value == UNKNOWN else value
        found.append(values)
    return found


def _one_or_all(picked: list[Any], single: bool, nothing: Any) -> Any:
    """The one that a single-valued attribute has, or all of them; `nothing` where there is none."""
    return nothing if not picked else picked[0] if single else picked


def as_dicts(frame: pd.DataFrame) -> pd.DataFrame:
    """The same predictions as a column `predictions`: per photo {attribute: [values]}, only of decided attributes.

    Columns `p:<attribute>` become a column `probabilities` of the same form.
    """
    import pandas as pd

    columns: dict[str, list[Any]] = {"filename": frame["filename"].tolist()}
    attributes = [str(name) for name in frame.columns if name != "filename"]
    groups = {"predictions": [k for k in attributes if not k.startswith(PROBABILITY)]}
    groups["probabilities"] = [f"{PROBABILITY}{k}" for k in groups["predictions"] if f"{PROBABILITY}{k}" in attributes]
    for name, members in groups.items():
        if members:
            rows = zip(*(frame[member] for member in members), strict=True)
            columns[name] = [
                {
                    member.removeprefix(PROBABILITY): value if isinstance(value, list) else [value]
                    for member, value in zip(members, row, strict=True)
                    if value is not None and not (isinstance(value, str) and value == UNKNOWN)
                }
                for row in rows
            ]
    return pd.DataFrame(columns, dtype=object)


def write_predictions(frame: pd.DataFrame, out: Path) -> None:
    """Write a prediction table whole or not at all: .csv in the shape of an attributes CSV, or .jsonl.

    CSV: `#N/A` where nothing is decided, several values joined by `|`, which in a value is written `\\|`, dicts
    (`as_dicts`) as Python literals. Read as a catalogue with `--separator "|"` the values come back. JSON lines: null,
    lists and objects.

    Raises:
        OptionError: For another suffix.
    """
    writers = {".csv": _write_csv, ".jsonl": _write_jsonl}
    if out.suffix.lower() not in writers:
        raise OptionError(f"predictions go to a .csv or .jsonl file, found {out.name!r}")
    with whole_file(out) as partial:
        writers[out.suffix.lower()](frame, partial)


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    # The first column has the file names.
    table = ([row[0], *map(_cell, row[1:])] for row in frame.itertuples(index=False, name=None))
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        write_rows(file, chain([map(str, frame.columns)], table))


def _write_jsonl(frame: pd.DataFrame, path: Path) -> None:
    names = [str(name) for name in frame.columns]
    with path.open("w", encoding="utf-8") as file:
        for row in frame.itertuples(index=False, name=None):
            values = [None if isinstance(value, str) and value == UNKNOWN else value for value in row]
            # Names that are not valid UTF-8 survive as escapes.
            file.write(json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=True) + "\n")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return joined(value)
    return escaped(value) if isinstance(value, str) else "" if value is None else str(value)
