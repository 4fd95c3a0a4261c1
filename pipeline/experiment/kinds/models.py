"""The model files of a run folder: each names the backbones whose vectors its heads take, and no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.arrays import Float32
from pipeline.catalogue import PARTS
from pipeline.errors import counted
from pipeline.evaluation.metrics import known_cells
from pipeline.experiment.candidates import JudgedHead
from pipeline.experiment.rows import Experiment
from pipeline.experiment.run_writer import RunFolder
from pipeline.features.backbone.provenance import seen_of_key
from pipeline.features.vectors.joined import JoinedFeatures
from pipeline.model.file import Decision, FeatureOrigin, Parts, build_model, save_model
from pipeline.model.training import TrainingRecord, training_record


def write_models(
    folder: RunFolder, sees: Callable[[JudgedHead], Experiment], kept: Sequence[JudgedHead], best: JudgedHead
) -> None:
    """Write a model file of each of these, and that of the best once more as best.joblib.

    Args:
        folder: Where they go.
        sees: The experiment of each, whose vectors its head takes.
        kept: Whose.
        best: One of them.
    """
    for candidate in kept:
        experiment = sees(candidate)
        training = _training(experiment, ("train",), ("validation",))
        model = _model(folder, experiment, candidate, training, experiment.sample(4))
        save_model(model, folder.model_path(candidate.config_id))
        if candidate.config_id == best.config_id:
            save_model(model, folder.model_path("best"))


def write_final_model(folder: RunFolder, experiment: Experiment, final: JudgedHead) -> None:
    """Write final.joblib, of a candidate that was fit on all parts: it says where its figures come from.

    Args:
        folder: Of the run.
        experiment: With the labels of all parts.
        final: The candidate.
    """
    test = counted(experiment.split.counts()["test"], "test photo")
    said: dict[str, str | int] = {
        "photos": len(experiment.ids),
        "measured": f"before on {test}, by {final.config_id} of the run {folder.path.name}",
    }
    model = _model(folder, experiment, final, _training(experiment, PARTS), experiment.sample(4), **said)
    save_model(model, folder.model_path("final"))


def _model(
    folder: RunFolder,
    experiment: Experiment,
    candidate: JudgedHead,
    training: TrainingRecord,
    rows: Float32,
    **more: str | int,
) -> dict[str, Any]:
    features, members, rows = _needed(candidate, experiment.features, rows)
    origins = [FeatureOrigin(o.blocks, o.cache_key, o.weights_source, features.views) for o in features.origins]
    info = {"config_id": candidate.config_id, "run": folder.path.name, "fitted_on": candidate.fitted_on, **more}
    parts = Parts(members, candidate.head.links, info, training)
    decision = Decision(candidate.thresholds, candidate.chosen)
    return build_model(experiment.targets.schema, parts, decision, origins, rows)


def _needed(
    candidate: JudgedHead, features: JoinedFeatures, rows: Float32
) -> tuple[JoinedFeatures, list[dict[str, Any]], Float32]:
    """The kinds of vectors that a candidate takes, its members on these, and what rows (n, d) hold of them."""
    kinds = sorted({head.config.vectors for head in candidate.made_of})
    if 0 in kinds or len(kinds) == len(features.kinds):
        return features, candidate.head.members, rows
    spans, needed = [features.span(kind - 1) for kind in kinds], features.take([kind - 1 for kind in kinds])
    moves = {span: needed.span(i)[0] - span[0] for i, span in enumerate(spans)}
    members = [_moved(member, moves, needed.dim) for member in candidate.head.members]
    return needed, members, np.concatenate([rows[:, slice(*span)] for span in spans], axis=1)


def _moved(member: dict[str, Any], moves: Mapping[tuple[int, int], int], width: int) -> dict[str, Any]:
    """A member that takes its columns, which lie within one of these spans, where the span has moved to.

    Args:
        member: Of a head on X of all kinds.
        moves: By how much each span has moved.
        width: Of the new X; a member that takes all of it says nothing of columns.
    """
    start, stop = member["columns"]
    by = next(by for (first, last), by in moves.items() if first <= start and stop <= last)
    columns = [start + by, stop + by]
    rest = {name: part for name, part in member.items() if name != "columns"}
    return rest if columns == [0, width] else {**rest, "columns": columns}


def _training(experiment: Experiment, fitted: Sequence[str], chose: Sequence[str] = ()) -> TrainingRecord:
    """Which photos had a part in the models: nobody may judge these by them."""
    split, targets = experiment.split, experiment.targets
    backbones = [seen_of_key(experiment.vectors.cache, info) for info in experiment.features.infos]
    ids = [experiment.ids[split.rows(*fitted, *chose)], *(ids for b in backbones for ids in (b.train, b.choice))]
    rows = split.rows(*fitted)
    counted_in = known_cells(targets.Y[rows], targets.known[rows], targets.schema)
    products = experiment.catalogue.products_of(split.rows(*fitted, *chose))
    of_backbones = [ids for b in backbones for ids in (b.train_products, b.choice_products)]
    return training_record(np.concatenate(ids), *counted_in, products, np.concatenate(of_backbones))
