"""The page of a map: points, names, colours and pictures in one file that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.atlas.facets import Facet
from pipeline.atlas.report import MapReport
from pipeline.atlas.sheets import COLUMNS, ROWS, SIDE
from pipeline.catalogue import Coded
from pipeline.comparison.page.payload import as_json
from pipeline.comparison.page.scripts import ASSETS
from pipeline.comparison.page.templating import render_page, visible

HERE = Path(__file__).parent
SCRIPTS = (ASSETS / "page.js", *(HERE / "assets" / f"{name}.js" for name in ("points", "plane", "tools")))

SURE, UNSAID = 61, 63
"""Doubt is written in 6 bits, 0 to SURE, or UNSAID; the verdict stands in the two bits above."""


def render_map(report: MapReport) -> str:
    """The whole page as text."""
    content = {"report": report, "payload": as_json(_payload(report))}
    return render_page("map.html", content, HERE / "templates", [_read(path) for path in SCRIPTS])


def _read(path: Path) -> str:
    # Carriage returns would be normalised by a browser before it checks the digest of a script.
    return path.read_text(encoding="utf-8").replace("\r\n", "\n")


def _payload(report: MapReport) -> dict[str, Any]:
    """What the scripts work on, JSON-ready: columns as base64 of little-endian whole numbers."""
    whole = np.round((report.places.astype(np.float64) + 1) / 2 * 65535).astype("<u2")
    return {
        "names": [visible(name) for name in report.names],
        "x": _packed(whole[:, 0]),
        "y": _packed(whole[:, 1]),
        "facets": [_facet(facet) for facet in report.facets],
        "part": None if report.parts is None else _column(report.parts),
        "pictures": {
            "side": SIDE,
            "columns": COLUMNS,
            "sheet": COLUMNS * ROWS,
            "photos": _packed(np.array(report.sheets.photos, "<i4")),
            "sheets": [_base64(sheet) for sheet in report.sheets.sheets],
        },
    }


def _facet(facet: Facet) -> dict[str, Any]:
    said = facet.predicted is not None
    doubt = np.where(np.isnan(facet.doubt), UNSAID, np.round(SURE * np.nan_to_num(facet.doubt)))
    return {
        "name": visible(facet.attribute),
        "true": _column(facet.true),
        "predicted": _column(facet.predicted) if facet.predicted is not None else None,
        "judged": _packed(doubt.astype("<u1") | (facet.verdict << 6)) if said else None,
    }


def _column(column: Coded[str]) -> dict[str, Any]:
    """Words, the most frequent first, and per photo the number of its own."""
    counts = column.counts()
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda code: (-counts[code], column.table[code]))
    rank = np.zeros(len(column.table), "<u1" if len(order) <= 2**8 else "<u2" if len(order) <= 2**16 else "<i4")
    rank[order] = np.arange(len(order))
    return {"values": _visible([column.table[code] for code in order]), "codes": _packed(rank[column.codes])}


def _visible(texts: Sequence[str]) -> list[str]:
    return [visible(text) for text in texts]


def _packed(numbers: npt.NDArray[Any]) -> dict[str, Any]:
    return {"bytes": numbers.dtype.itemsize, "data": _base64(np.ascontiguousarray(numbers).tobytes())}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
