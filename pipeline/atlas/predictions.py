"""Predictions of the map's photos: those that a run folder kept, or those that a model file makes from the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.arrays import Bool
from pipeline.atlas.facets import Predictions
from pipeline.catalogue import Coded, coded
from pipeline.errors import RunError
from pipeline.evaluation.thresholds import decide
from pipeline.experiment.run_reader import Run, read_run
from pipeline.features.cache_tools import features_of_model
from pipeline.model.predictor import Predictor
from pipeline.neighbours.pool import Pool
from pipeline.options import MapOptions, PredictOptions

PREDICTED = ("validation", "test")


def of_run(path: Path, names: Sequence[str]) -> tuple[Predictions, Coded[str]]:
    """The best configuration's predictions of validation and test photos, and the part of every photo ("" for none).

    Args:
        path: The run folder.
        names: Names of the map's n photos.

    Raises:
        RunError: The folder is damaged, kept no predictions, or is of other photos.
    """
    run = read_run(path)
    place = {name: i for i, name in enumerate(names)}
    at = np.array([place.get(photo, -1) for photo in run.photos], np.int64)
    if not (at >= 0).any():
        raise RunError(f"{path} is of other photos, such as {run.photos[0]}; name a run of this catalogue")
    config = _best(run)
    rows = np.concatenate([run.rows(part) for part in PREDICTED])
    P = np.concatenate([run.probabilities(config, part) for part in PREDICTED])
    here: Bool = at[rows] >= 0
    D = decide(P[here], run.schema, run.thresholds(config))
    parts = np.full(len(names), "", object)
    parts[at[at >= 0]] = run.parts[at >= 0]
    said = f"{config} of {run.name}, validation and test photos"
    return Predictions(at[rows][here], P[here], D, run.schema, said), coded(parts.tolist())


def of_model(pool: Pool, options: MapOptions) -> Predictions:
    """A model's predictions of all photos, from vectors that are cached.

    Raises:
        ModelFileError: The file is damaged or no model.
        OptionError: The cache lacks vectors that the model takes; it names the command that makes them.
    """
    assert options.model is not None
    predictor = Predictor(options.model, PredictOptions(sha256=options.sha256, device=options.device))
    features_of_model(pool.cache, predictor.model)
    found = predictor.predicted(pool.names, list(pool.paths), cached=(pool.cache, pool.ids))
    rows = np.setdiff1d(np.arange(len(pool.names)), list(found.rejects))
    said = f"{options.model.name}, all photos, those it was fit on among them"
    return Predictions(rows, found.P[rows], found.D[rows], predictor.schema, said)


def _best(run: Run) -> str:
    """The configuration that the run chose; of older ones the highest score."""
    if not run.predicted:
        raise RunError(f"{run.path} has no predictions; fit-heads writes them")
    best = str(run.info.get("best", ""))
    return best if best in run.predicted else max(run.predicted, key=lambda config: run.score(config) or 0.0)
