"""`map`: places of all photos on a plane, what is known of each, small pictures; the page and the Parquet file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from pipeline.arrays import Bool
from pipeline.atlas.facets import Predictions, facets
from pipeline.atlas.layout import check_layout, place
from pipeline.atlas.page import render_map
from pipeline.atlas.predictions import of_model, of_run
from pipeline.atlas.report import MapReport, write_parquet
from pipeline.atlas.sheets import Sheets, make_sheets
from pipeline.catalogue import Cell, Coded, coded, infer_schema
from pipeline.errors import OptionError, counted
from pipeline.neighbours.pool import Pool
from pipeline.options import CacheKeyOptions, DataOptions, MapOptions
from pipeline.system import write_text

Progress = Callable[[str], None]

_BASE64 = 4 / 3
_PER_PICTURE = 4
"""Bytes that say which photo a picture is of."""


def draw_map(
    data: DataOptions, cache_key: CacheKeyOptions, options: MapOptions, progress: Progress | None = None
) -> MapReport:
    """Make the map of a catalogue and write `options.out` and the Parquet file beside it.

    Args:
        data: The catalogue; without one, every photo that the cache knows, of which nothing but its name is.
        cache_key: Which vectors, where the cache holds several kinds.
        options: How, what is shown, and where to.
        progress: Takes lines that say what is being done.

    Raises:
        OptionError: An option cannot work, or the cache lacks vectors.
        RunError, ModelFileError: The run folder or the model cannot be used.
    """
    tell = progress or (lambda _: None)
    _check(options)
    pool = Pool.of(data, cache_key, options.cache, options.use)
    said, parts = _said(pool, options)
    X = pool.read(options.memory)
    tell(f"layout: {options.layout} of {len(X)} photos")
    started = time.perf_counter()
    places = place(X, options.layout, options.seed)
    report = MapReport(
        names=tuple(pool.names),
        places=places,
        facets=tuple(facets(_cells(pool, said), _applies(pool), said)),
        parts=parts,
        sheets=Sheets((), (), {}),
        features=str(pool.features),
        layout=options.layout,
        predicted="" if said is None else said.source,
        findings=pool.findings,
        seconds=time.perf_counter() - started,
    )
    order = _drawn(pool, options.pictures)
    room = (1e6 * options.page_mb - len(render_map(report).encode("utf-8"))) / _BASE64 - _PER_PICTURE * len(order)
    if room < 0:
        raise OptionError(
            f"the page of {counted(len(X), 'photo')} has more than --page-mb {options.page_mb:g} before any picture; "
            "raise it, or name fewer --attributes or --pictures"
        )
    tell("pictures")
    report = replace(report, sheets=make_sheets(pool.paths, order, room))
    write_text(options.out, render_map(report))
    write_parquet(report, options.out.with_suffix(".parquet"))
    return report


def _check(options: MapOptions) -> None:
    check_layout(options.layout)
    if options.out.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"--out is {options.out.name!r}; expected a name ending in .html")
    if options.run is not None and options.model is not None:
        raise OptionError("--run and --model both say whose predictions are shown; leave out one")


def _said(pool: Pool, options: MapOptions) -> tuple[Predictions | None, Coded[str] | None]:
    if options.run is not None:
        return of_run(options.run, pool.names)
    return (None if options.model is None else of_model(pool, options)), None


def _cells(pool: Pool, said: Predictions | None) -> dict[str, Sequence[Cell]]:
    """What the catalogue says; without one, of each attribute that is predicted, that nothing is known."""
    if pool.catalogue is not None or said is None:
        return dict(pool.cells)
    return {attribute: coded([None] * len(pool.names)) for attribute in said.schema.attributes}


def _drawn(pool: Pool, most: int) -> list[int]:
    """Photos that get a picture, the first ones first: by content id, which is as good as a draw."""
    found: list[int] = np.argsort(pool.ids, kind="stable")[:most].tolist()
    return found


def _applies(pool: Pool) -> dict[str, Bool]:
    """Where attributes apply, per attribute bool (n,), for catalogues with categories."""
    catalogue = pool.catalogue
    if catalogue is None or catalogue.categories is None:
        return {}
    schema = infer_schema(catalogue)
    applies = schema.applies(catalogue.categories, len(catalogue))
    return {attribute: applies[:, i] for i, attribute in enumerate(schema.attributes)}
