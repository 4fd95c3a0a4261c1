"""The stage before the one pass: train a backbone on one attribute, then freeze it into a weights file for `extract`.

Who sees what: the split is made or taken first. Labels of training photos move the weights, those of validation photos
choose the epoch, and both lists of photos go into the weights file. Test photos are decoded to see whether they can be.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

from pipeline.catalogue import count_kinds, write_split
from pipeline.catalogue.split_digest import move_split, remove_split
from pipeline.errors import OptionError, RunError
from pipeline.features.backbone.network import Backbone, load_backbone
from pipeline.features.backbone.provenance import TrainingProvenance, joined, nothing_seen, require_unseen
from pipeline.finetuning.checkpoint import NAME, only_one, require_same
from pipeline.finetuning.examples import TrainingRows, catalogue_with, load_rows
from pipeline.finetuning.loop import Callbacks, Outcome, Training
from pipeline.finetuning.objective import objective
from pipeline.finetuning.report import FinetuneReport
from pipeline.options import BackboneOptions, DataOptions, FinetuneOptions, SplitOptions
from pipeline.options.words import commands_to_compare, now_named
from pipeline.system import (
    file_digest,
    host_facts,
    package_versions,
    parsed,
    read_text,
    whole_file,
    write_json,
    write_records,
    write_text,
)

WEIGHTS = "backbone.safetensors"
_MOST_BYTES = 2**20
_SPLIT, _STARTED, _RUN = "split.csv", "started.json", "run.json"


@dataclass(frozen=True)
class _Request:
    """The options of one call, as run.json records them."""

    data: DataOptions
    backbone: BackboneOptions
    split: SplitOptions
    finetune: FinetuneOptions


def finetune(
    data: DataOptions,
    backbone: BackboneOptions,
    split: SplitOptions,
    options: FinetuneOptions,
    callbacks: Callbacks | None = None,
) -> FinetuneReport:
    """Train a backbone on one attribute and write its folder: weights, split.csv, history.csv, run.json.

    Called again with the same options it goes on from the last finished epoch, or says what was done when it is done.

    Raises:
        PipelineError: For options or data that cannot work, and for a folder that holds another training.
    """
    callbacks = callbacks or Callbacks()
    _check(options, split)
    folder = _folder(backbone, options)
    request = _Request(data, backbone, split, replace(options, out=folder))
    catalogue = catalogue_with(options.attribute, data, split)
    loaded = load_backbone(backbone)
    rows = load_rows(catalogue, data, split, options, loaded.transform, callbacks.decoded)
    require_unseen(loaded.provenance, rows.photos.ids, rows.split, backbone.weights)
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(folder):
        made_with = _made_with(folder, loaded, rows, options)
        if _begin(folder, made_with):
            return _report(request, json.loads((folder / _RUN).read_text(encoding="utf-8")), rows, True)
        provenance = _provenance(loaded, rows, request)
        provenance.metadata()
        goal = objective(rows.train.Y, rows.single, options.class_weights)
        training = Training(loaded, goal, len(rows.values), options)
        outcome = training.run(rows.train, rows.validation, folder, callbacks)
        content = _write(request, rows, made_with, provenance, outcome)
        return _report(request, content, rows, False)


def _check(options: FinetuneOptions, split: SplitOptions) -> None:
    if split.regroup or split.near_duplicates != SplitOptions().near_duplicates:
        raise OptionError(
            "near-duplicates are found by cached vectors, which finetune has none of: leave out --near-duplicates and"
            " --regroup, or take the parts of a run that kept them together: --split-from RUN"
        )
    wrong = {
        "--lr must be above 0": options.lr > 0,
        "--head-lr must be above 0": options.head_lr is None or options.head_lr > 0,
        "--epochs, --batch-size and --patience must be at least 1": min(
            options.epochs, options.batch_size, options.patience
        ) >= 1,
        "--hflip is a probability, from 0 to 1": 0 <= options.hflip <= 1,
        "--crop is a share of the area, above 0 and up to 1": 0 < options.crop <= 1,
        "--betas takes two rates from 0 to below 1": len(options.betas) == 2 and all(0 <= b < 1 for b in options.betas),
    }  # fmt: skip
    for text, holds in wrong.items():
        if not holds:
            raise OptionError(text)


def _folder(backbone: BackboneOptions, options: FinetuneOptions) -> Path:
    """Where this training lives: what was asked for, else a name that the same command gives again."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{backbone.backbone}-{options.attribute}")
    folder = options.out or Path("finetuned") / name
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "lock").exists())):
        raise RunError(f"{folder} already exists and holds no training; name another folder with --out, or remove it")
    return folder


def _made_with(folder: Path, backbone: Backbone, rows: TrainingRows, options: FinetuneOptions) -> dict[str, Any]:
    """What decides the numbers, as JSON values; split.csv is written beside its final place and renamed later."""
    new = folder / f".{_SPLIT}.new"
    write_split(new, rows.catalogue.filenames, rows.photos.ids, rows.groups, rows.split)
    labels = hashlib.sha256(repr((rows.values, rows.single)).encode())
    for part in (rows.train, rows.validation):
        labels.update(part.rows.tobytes() + part.Y.tobytes())
    elsewhere = ("out", "memory", "workers", "device")
    chosen = {name: value for name, value in asdict(options).items() if name not in elsewhere}
    facts = {
        "backbone": backbone.name,
        "start": backbone.weights_sha256,
        "transform": asdict(backbone.transform),
        "split": file_digest(new),
        "labels": labels.hexdigest(),
        **chosen,
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def _begin(folder: Path, made_with: Mapping[str, Any]) -> bool:
    """Start or go on in the folder; True when the training it holds is finished.

    Raises:
        OptionError: The folder holds another training.
        RunError: What the folder says of its training cannot be read.
    """
    new, finished = folder / f".{_SPLIT}.new", (folder / _RUN).is_file() and (folder / WEIGHTS).is_file()
    try:
        if (finished or (folder / NAME).is_file()) and (folder / _STARTED).is_file():
            with parsed(RunError, f"{folder / _STARTED} is damaged (", "); name another folder with --out"):
                held = json.loads(read_text(folder / _STARTED, _MOST_BYTES))
                named = {now_named(name).replace("-", "_"): value for name, value in held.items()}
            require_same(folder, made_with, named)
        if finished:
            (folder / NAME).unlink(missing_ok=True)
            return True
        move_split(new, folder / _SPLIT)
    finally:
        remove_split(new)
    text = json.dumps(made_with, indent=1)
    write_text(folder / _STARTED, text)
    return False


def _provenance(backbone: Backbone, rows: TrainingRows, request: _Request) -> TrainingProvenance:
    """The photos whose labels have a part in the weights, those behind the start weights included."""
    folder = request.finetune.out or Path()
    facts = {
        "backbone": backbone.name,
        "start": backbone.weights_source,
        "start_sha256": backbone.weights_sha256,
        "key": request.finetune.attribute,
        "split": str(folder / _SPLIT),
        "options": json.loads(json.dumps(asdict(request.finetune), default=str)),
    }
    empty = replace(nothing_seen(), facts=facts)
    if request.finetune.train == "head":
        return joined(backbone.provenance, empty)
    ids = rows.photos.ids
    train, choice = np.unique(ids[rows.train.rows]), np.unique(ids[rows.validation.rows])
    return joined(backbone.provenance, TrainingProvenance(train, choice, facts))


def _write(
    request: _Request,
    rows: TrainingRows,
    made_with: Mapping[str, Any],
    provenance: TrainingProvenance,
    outcome: Outcome,
) -> dict[str, Any]:
    """Weights, history.csv, run.json (last); then the checkpoint goes."""
    path = request.finetune.out or Path()
    best = outcome.history[outcome.best_epoch - 1]
    facts = {**provenance.facts, "split_sha256": made_with["split"], "best": best, "history": list(outcome.history)}
    header = replace(provenance, facts=facts).metadata()
    tensors = {name: tensor.contiguous().clone() for name, tensor in outcome.net.items()}
    # In memory first: the library writes files that only their owner may read.
    with whole_file(path / WEIGHTS) as partial:
        partial.write_bytes(safetensors.torch.save(tensors, header))
    # Read back as `extract` will read it, so that a file that cannot be used is seen here.
    frozen = load_backbone(replace(request.backbone, weights=str(path / WEIGHTS)))
    write_records(path / "history.csv", outcome.history)
    content = {
        "format": "selvedge-finetune",
        "version": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": {name: asdict(options) for name, options in vars(request).items()},
        "versions": package_versions(),
        "host": host_facts(),
        "weights": WEIGHTS,
        "weights_sha256": frozen.weights_sha256,
        "start_sha256": made_with["start"],
        "data_digest": rows.catalogue.digest,
        "split_digest": made_with["split"],
        "key": request.finetune.attribute,
        "values": list(rows.values),
        "single": rows.single,
        "parts": rows.split.counts(),
        "used": {"train": len(rows.train.rows), "validation": len(rows.validation.rows)},
        "seen": {"train": len(provenance.train), "choice": len(provenance.choice)},
        "best": dict(best),
        "epochs": len(outcome.history),
        "resumed_from": outcome.resumed_from,
        "findings": count_kinds(rows.findings),
    }
    write_json(path / _RUN, content)
    (path / NAME).unlink(missing_ok=True)
    return content


def _report(request: _Request, content: Mapping[str, Any], rows: TrainingRows, finished_before: bool) -> FinetuneReport:
    path = request.finetune.out or Path()
    notes = []
    if content["weights_sha256"] == content["start_sha256"]:
        notes.append(
            "the backbone is what it was: only the classifier was trained, and `extract` gives the same cache key"
        )
    if request.backbone.weights.startswith("random:"):
        notes.append(f"training started from {request.backbone.weights}, not from pretrained weights")
    return FinetuneReport(
        folder=path,
        weights=path / content["weights"],
        attribute=content["key"],
        values=len(content["values"]),
        trains=request.finetune.train,
        parts=content["parts"],
        used=content["used"],
        best=content["best"],
        epochs=content["epochs"],
        resumed_from=content["resumed_from"],
        finished_before=finished_before,
        next_commands=commands_to_compare(request.data, request.backbone, request.split, path / content["weights"]),
        findings=rows.findings,
        notes=tuple(notes),
    )
