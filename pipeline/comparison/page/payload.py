"""What the page's scripts work on, as one block of JSON that no text in it can leave."""

from __future__ import annotations

import base64
import json
from typing import Any

from markupsafe import Markup

from pipeline.comparison.page.data import PageData, Tried
from pipeline.comparison.page.photos import Gallery, Photo
from pipeline.comparison.page.templating import visible
from pipeline.comparison.records import Comparison, Reliability
from pipeline.evaluation.threshold_sweep import AttributeSweep, Sweep

SETTINGS = ("run", "head", "optimizer", "lr", "loss", "weight_decay", "hidden", "dropout", "seed")
"""Settings that lines can be coloured by, where they differ."""

_UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&"}


def payload(comparison: Comparison, data: PageData) -> dict[str, Any]:
    """The data of the charts and of the gallery, JSON-ready; names are made visible, numbers are plain.

    Args:
        comparison: What `compare` found.
        data: What only the page shows.

    Returns:
        "best" (its name), "tried" (settings and curves), "settings" (those that differ), "sweeps" (counts at every
        threshold), "reliability" and "gallery".
    """
    return {
        "best": visible(comparison.best),
        "tried": [_tried(tried) for tried in data.tried],
        "settings": [name for name in SETTINGS if len({_setting(tried, name) for tried in data.tried}) > 1],
        "sweeps": [_attribute_sweep(sweep) for sweep in data.sweeps],
        "reliability": [_reliability(each) for each in comparison.reliability],
        "gallery": _gallery(data.gallery),
    }


def as_json(data: dict[str, Any]) -> Markup:
    """JSON that is safe inside a script element: ASCII only, and without `<`, `>` and `&`."""
    return Markup(json.dumps(data, allow_nan=False, separators=(",", ":")).translate(_UNSAFE))


def _tried(tried: Tried) -> dict[str, Any]:
    return {
        "name": visible(tried.name),
        "set": {name: visible(_setting(tried, name)) for name in SETTINGS},
        "score": tried.score,
        "epoch": tried.best_epoch,
        "epochs": list(tried.epochs),
        "curves": {visible(measure): _short(values) for measure, values in tried.curves.items()},
    }


def _reliability(reliability: Reliability) -> dict[str, Any]:
    return {
        "attribute": visible(reliability.attribute),
        "confidence": _short(reliability.confidence),
        "correct": _short(reliability.correct),
        "count": list(reliability.count),
    }


def _setting(tried: Tried, name: str) -> str:
    return tried.run if name == "run" else tried.settings.get(name) or ""


def _attribute_sweep(sweep: AttributeSweep) -> dict[str, Any]:
    return {
        "attribute": visible(sweep.attribute),
        "single": sweep.single,
        "photos": sweep.photos,
        "rows": [_sweep(row) for row in (sweep.overall, *sweep.values)],
    }


def _sweep(sweep: Sweep) -> dict[str, Any]:
    return {
        "name": visible(sweep.name),
        "true": sweep.positives,
        "decided": list(sweep.decided),
        "right": list(sweep.right),
        "at": sweep.threshold,
    }


def _gallery(gallery: Gallery) -> dict[str, Any]:
    pictures = {
        i: base64.b64encode(gallery.pictures[photo.name]).decode("ascii")
        for i, photo in enumerate(gallery.photos)
        if photo.name in gallery.pictures
    }
    return {
        "attributes": [visible(attribute) for attribute in gallery.attributes],
        "values": [[visible(value) for value in values] for values in gallery.values],
        "photos": [[visible(photo.name), *_cells(photo)] for photo in gallery.photos],
        "pictures": pictures,
    }


def _cells(photo: Photo) -> list[list[int]]:
    """Per attribute: -1 where the truth is not known, then per cell 4 * value + 2 * true + decided, and per mille."""
    return [
        [
            number
            for cell in cells
            for number in ((-1,) if cell is None else (4 * cell[0] + 2 * cell[2] + cell[3], cell[1]))
        ]
        for cells in photo.attributes
    ]


def _short(figures: tuple[float | None, ...]) -> list[float | None]:
    return [None if figure is None else float(f"{figure:.4g}") for figure in figures]
