"""The commands that show where photos lie among each other."""

from __future__ import annotations

from typing import Annotated

from pipeline.cli.output import say, say_all
from pipeline.cli.parameters import FileOptions, Flat
from pipeline.cli.summaries.neighbours import map_lines, similar_lines
from pipeline.options import CacheKeyOptions, DataOptions, MapOptions, SimilarOptions


def similar(
    photos: list[str],
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    cache_key: Annotated[CacheKeyOptions, Flat] = CacheKeyOptions(),
    options: Annotated[SimilarOptions, Flat] = SimilarOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Find the photos nearest to given ones, by cached vectors: a CSV file and a page of pictures.

    Args:
        photos: Names in the catalogue, or photos and folders of photos; new ones are embedded first.
    """
    from pipeline.experiment.thumbnails import make_thumbnails
    from pipeline.neighbours.page import shown_photos, write_page
    from pipeline.neighbours.similar import similar as run_similar

    report = run_similar(photos, data, cache_key, options)
    shown = shown_photos(report)
    pictures, _ = make_thumbnails(list(shown), list(shown.values()))
    page = write_page(report, pictures, options.report or options.out.with_suffix(".html"))
    say_all(similar_lines(report, options.out, page))


def draw_map(
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    cache_key: Annotated[CacheKeyOptions, Flat] = CacheKeyOptions(),
    options: Annotated[MapOptions, Flat] = MapOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Draw the catalogue as a map: one page to pan, zoom and select on, and a Parquet file for Embedding Atlas."""
    from pipeline.atlas.map import draw_map as run_map

    say_all(map_lines(run_map(data, cache_key, options, say), options.out))
