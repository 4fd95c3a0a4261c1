"""A map as data, and as the Parquet file that other programs open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import Float32
from pipeline.atlas.facets import Facet
from pipeline.atlas.sheets import Sheets
from pipeline.catalogue import Coded, Finding
from pipeline.errors import printable
from pipeline.system import whole_file


@dataclass(frozen=True, eq=False)
class MapReport:
    """A map of n photos.

    Attributes:
        names: Of the photos.
        places: float32 (n, 2), the longer side from -1 to 1.
        facets: What is known, per attribute.
        parts: (n,) part of each photo, "" for none; None where no run was named.
        sheets: Small pictures of some.
        features: What lies beside what, in words.
        layout: How places were made.
        predicted: Whose predictions are shown, in words; "" for none.
        findings: The catalogue's.
        seconds: How long the layout took.
    """

    names: tuple[str, ...]
    places: Float32
    facets: tuple[Facet, ...]
    parts: Coded[str] | None
    sheets: Sheets
    features: str
    layout: str
    predicted: str
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def pictured(self) -> int:
        """Photos that have a picture."""
        return sum(photo >= 0 for photo in self.sheets.photos)


def write_parquet(report: MapReport, path: Path) -> Path:
    """Write one row per photo: photo, projection_x, projection_y, and per attribute what is known.

    Columns `<attribute>`, `<attribute> predicted`, `<attribute> verdict` (right, wrong or null), `<attribute> doubt`;
    `part`. A name that is there already gets `_` behind it. Embedding Atlas opens it with `--x projection_x --y
    projection_y`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "photo": pa.array([printable(name) for name in report.names], pa.string()),
        "projection_x": report.places[:, 0],
        "projection_y": report.places[:, 1],
    }
    if report.parts is not None:
        columns["part"] = _texts(report.parts)
    for facet in report.facets:
        for name, column in _columns(facet).items():
            free = name
            while free in columns:
                free += "_"
            columns[free] = column
    with whole_file(path) as partial:
        pq.write_table(pa.table(columns), partial)
    return path


def _columns(facet: Facet) -> dict[str, Any]:
    import pyarrow as pa

    name = facet.attribute
    columns = {name: _texts(facet.true)}
    if facet.predicted is not None:
        verdict = np.array([None, "wrong", "right"], object)[facet.verdict]
        columns[f"{name} predicted"] = _texts(facet.predicted)
        columns[f"{name} verdict"] = pa.array(verdict, pa.string())
        columns[f"{name} doubt"] = pa.array(facet.doubt, from_pandas=True)
    return columns


def _texts(column: Coded[str]) -> Any:
    """A column of words; "" is null."""
    import pyarrow as pa

    return pa.array([text or None for text in column.table], pa.string()).take(pa.array(column.codes))
