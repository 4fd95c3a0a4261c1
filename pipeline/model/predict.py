"""The stage that uses a model file: photos in, a table of values out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import OptionError
from pipeline.model.photos import find_photos
from pipeline.model.prediction import Prediction, as_dicts, write_predictions
from pipeline.model.predictor import Predictor, Progress, prediction
from pipeline.options import PredictOptions

__all__ = ["Prediction", "predict"]


def predict(
    photos: Sequence[str | os.PathLike[str]], model: Path, options: PredictOptions, progress: Progress | None = None
) -> Prediction:
    """Predict photos with a model file and write the table to `options.out`; returns what was written.

    Args:
        photos: Files, folders, patterns and URLs.
        model: The model file.
        options: How, and where to.
        progress: Called after each batch.

    Raises:
        OptionError: An option cannot work, or there is no such photo.
        ModelFileError, BackboneError: The model or its backbone cannot be had.
    """
    if options.out.suffix.lower() not in (".csv", ".jsonl"):
        raise OptionError(f"predictions go to a .csv or .jsonl file, found {options.out.name!r}")
    predictor = Predictor(model, options)
    names, paths = find_photos(photos)
    cached = None
    if options.cache is not None:
        from pipeline.features.contents.ids import content_ids
        from pipeline.features.selection import open_cache

        cache = open_cache(options.cache)
        cached = cache, content_ids(cache, paths)[0]
    found = prediction(predictor, names, predictor.predicted(names, paths, progress=progress, cached=cached))
    # Catalogues with categories, format B, state their attributes as dicts; so do predictions for them.
    dicts = options.layout == "dict" or (options.layout == "auto" and predictor.schema.category_attribute is not None)
    write_predictions(as_dicts(found.frame) if dicts else found.frame, options.out)
    return found
