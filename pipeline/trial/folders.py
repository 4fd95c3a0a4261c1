"""The run folders of an evaluation: photos and truth, probabilities and thresholds, and what run.json says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import Float32, Ids, Texts
from pipeline.catalogue import (
    UNKNOWN,
    Catalogue,
    Finding,
    LabelSchema,
    Split,
    column_name,
    count_kinds,
    groups_of,
    write_split,
)
from pipeline.evaluation.unseen import Unseen
from pipeline.experiment.rows import FitTargets, inapplicable_negative, known_of, unseen_of
from pipeline.experiment.run_tables import Rows
from pipeline.experiment.run_writer import RunFolder
from pipeline.experiment.thumbnails import choose_photos, write_thumbnails
from pipeline.features.vectors.origin import as_fields, origins_of
from pipeline.machine import host_facts, package_versions
from pipeline.model.folder.read import sealing_file
from pipeline.model.predictor import Predictor
from pipeline.model.training import record_of
from pipeline.names import tidied
from pipeline.options import DataOptions, EvaluateOptions
from pipeline.system import file_digest, sync_tree


@dataclass(frozen=True)
class Tried:
    """The photos, n of them in the catalogue's order, and how each model did.

    Attributes:
        catalogue: The photos with their labels.
        ids: Content ids, S32 (n,).
        P: Per model, its probabilities (n, L).
        cached: Photos whose vectors came out of the cache.
        findings: What was dropped or odd.
        notes: What a reader of the figures must know.
    """

    catalogue: Catalogue
    ids: Ids
    P: tuple[Float32, ...]
    cached: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()


def write_folders(
    home: Path, predictors: Sequence[Predictor], tried: Tried, data: DataOptions, options: EvaluateOptions
) -> tuple[Path, ...]:
    """Write a run folder per model into `home`, each with all photos in its test part; run.json comes last.

    Args:
        home: The folder around them.
        predictors: Of the models, in the order of `options.model`.
        tried: How they did.
        data: Where the photos came from.
        options: How the models were tried.

    Returns:
        The folders, in the order of the models.

    Raises:
        RunError: A folder is there already.
    """
    names = _names(options.model, predictors)
    groups = groups_of(tried.catalogue.filenames, options.group_regex, tried.catalogue.groups, tried.ids)
    shown = max(range(len(names)), key=lambda i: len(predictors[i].schema.attributes))
    folders = []
    for i, name in enumerate(names):
        folder = RunFolder.new(home / name)
        folder.create()
        write_split(
            folder.path / "split.csv", tried.catalogue.filenames, tried.ids, groups, Split(_test(len(tried.ids)))
        )
        unseen = _write_rows(folder, predictors[i].schema, tried, data)
        _write_model(folder, predictors[i], tried, i)
        if i == shown:
            at = choose_photos(tried.ids, options.thumbnails)
            photos = [tried.catalogue.filenames[j] for j in at]
            write_thumbnails(folder.path, photos, [tried.catalogue.paths[j] for j in at])
        info = _info(folder, predictors[i], tried) | {
            "options": {"data": asdict(data), "evaluate": asdict(options)},
            "unseen": unseen.labels,
            "evaluated": _evaluated(predictors[i], options.model[i], tried, options),
        }
        sync_tree(folder.path)
        folder.write_json("run.json", info)
        folders.append(folder.path)
    return tuple(folders)


def truth_of(schema: LabelSchema, catalogue: Catalogue, data: DataOptions) -> tuple[FitTargets, Unseen]:
    """What is true of photos in a model's terms, and the values among it that the model does not know.

    Args:
        schema: The model's; attributes that the catalogue does not have are known on no photo.
        catalogue: n photos.
        data: What becomes of attributes that do not apply.
    """
    nothing = [None] * len(catalogue)
    cells = {attribute: catalogue.cells.get(attribute, nothing) for attribute in schema.attributes}
    Y, known = schema.encode(cells, catalogue.categories)
    truth = FitTargets(schema, Y, known.copy(), known)
    if data.inapplicable == "negative":
        truth = inapplicable_negative(truth, cells, catalogue.categories)
    for values, columns in zip(schema.values, schema.slices, strict=True):
        if UNKNOWN in values:
            truth.known[:, columns.start + values.index(UNKNOWN)] = False
    return truth, unseen_of(truth, catalogue)


def _write_rows(folder: RunFolder, schema: LabelSchema, tried: Tried, data: DataOptions) -> Unseen:
    truth, unseen = truth_of(schema, tried.catalogue, data)
    columns = [*schema.column_names, *(column_name(*label) for label in unseen.labels)]
    Y = np.concatenate([truth.Y, unseen.Y.astype(np.uint8)], axis=1)
    known = np.concatenate([truth.known, known_of(truth, [attribute for attribute, _ in unseen.labels])], axis=1)
    folder.write_labels(tried.catalogue.filenames, columns, Y, known)
    rows = [{"kind": found.kind, "photo": found.filename, "detail": found.detail} for found in tried.findings]
    folder.write_csv("dropped.csv", rows, ("kind", "photo", "detail"))
    return unseen


def _write_model(folder: RunFolder, predictor: Predictor, tried: Tried, place: int) -> None:
    name, model, photos = folder.path.name, predictor.model, tried.catalogue.filenames
    rows = Rows(tuple(photos), _test(len(photos)))
    folder.write_predictions(name, rows, tried.P[place], predictor.schema.column_names)
    folder.write_csv("configs.csv", [{"config_id": name}])
    # Which thresholds a model has was chosen on other photos, which it does not tell.
    policy = {"thresholds": model["thresholds"].tolist(), "validation_score": float("nan")}
    chosen = str(model["decision"])
    decision = {"links": list(model["links"]), "policies": {chosen: policy}, "chosen": chosen}
    folder.write_json("decisions.json", {name: decision})


def _info(folder: RunFolder, predictor: Predictor, tried: Tried) -> dict[str, Any]:
    model, name = predictor.model, folder.path.name
    origins = origins_of(model)
    return {
        "format": "selvedge-run",
        "version": 1,
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": package_versions(),
        "host": host_facts(),
        "data_digest": tried.catalogue.digest,
        "split_digest": folder.digest("split.csv"),
        **as_fields(origins),
        "views": list(model["views"]),
        "random_weights": any(origin.random for origin in origins),
        "schema": predictor.schema.to_json(),
        "parts": Split(_test(len(tried.ids))).counts(),
        "best": name,
        "policy": str(model["decision"]),
        "findings": count_kinds(tried.findings),
    }


def _evaluated(predictor: Predictor, path: Path, tried: Tried, options: EvaluateOptions) -> dict[str, Any]:
    """What only an evaluation knows: see `pipeline.experiment.run_schema.EVALUATED`."""
    record = record_of(predictor.model)
    counts = None
    if record is not None:
        counts = {"positives": record.positives.tolist(), "known": record.known.tolist()}
    return {
        "model": str(path),
        "sha256": file_digest(sealing_file(path)),
        "training": counts,
        "at_precision": list(options.at_precision),
        "notes": list(tried.notes),
    }


def _test(photos: int) -> Texts:
    return np.full(photos, "test")


def _names(paths: Sequence[Path], predictors: Sequence[Predictor]) -> list[str]:
    """A name per model: its file's, with its run's in front where two files have one name, numbered if need be."""
    stems = [tidied(path.stem).strip(" .") or "model" for path in paths]
    several = Counter(stems)
    runs = [tidied(str((predictor.model.get("info") or {}).get("run") or "")) for predictor in predictors]
    names = [f"{run}-{stem}" if several[stem] > 1 and run else stem for stem, run in zip(stems, runs, strict=True)]
    taken: Counter[str] = Counter()
    for i, name in enumerate(names):
        taken[name] += 1
        names[i] = name if taken[name] == 1 else f"{name}-{taken[name]}"
    return names
