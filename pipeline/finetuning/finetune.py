"""The stage before the one pass: train a network on the attributes, then freeze it into a weights file for `extract`.

Who sees what: the split is made or taken first. Labels of training photos move the weights, those of validation photos
choose the epoch, and both lists of photos go into the weights file. Test photos are decoded to see whether they can be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.catalogue import count_kinds
from pipeline.errors import OptionError
from pipeline.experiment.kinds.own_heads import OWN_HEADS
from pipeline.features.backbone.network import load_backbone
from pipeline.features.backbone.provenance import TrainingProvenance, require_unseen
from pipeline.finetuning.again import OF_ALL, REFITTED, Again, train_again
from pipeline.finetuning.checkpoint import NAME, only_one
from pipeline.finetuning.examples import TrainingRows, catalogue_with, load_rows
from pipeline.finetuning.folder import HISTORY, RUN, WEIGHTS, begin, folder_of, made_with
from pipeline.finetuning.frozen import Request, augmentation_of, provenance_of, write_weights
from pipeline.finetuning.loop import Training
from pipeline.finetuning.network.objective import objective
from pipeline.finetuning.outcome import Callbacks, Outcome
from pipeline.finetuning.own_heads import Network, own_model
from pipeline.finetuning.photos.colour import colour_attributes
from pipeline.finetuning.report import FinetuneReport
from pipeline.machine import host_facts, package_versions
from pipeline.model.file import save_model
from pipeline.options import BackboneOptions, DataOptions, FinetuneOptions, SplitOptions
from pipeline.options.forms.words import commands_to_compare
from pipeline.system import write_json, write_records


def finetune(
    data: DataOptions,
    backbone: BackboneOptions,
    split: SplitOptions,
    options: FinetuneOptions,
    callbacks: Callbacks | None = None,
) -> FinetuneReport:
    """Train a network on the attributes and write its folder: weights, its own heads, split.csv, history.csv, run.json.

    Called again with the same options it goes on from the last finished epoch, or says what was done when it is done.

    Raises:
        PipelineError: For options or data that cannot work, and for a folder that holds another training.
    """
    callbacks = callbacks or Callbacks()
    options = replace(options, attribute=tuple(dict.fromkeys(options.attribute)))
    _check(options, split)
    folder = folder_of(backbone, options)
    request = Request(data, backbone, split, replace(options, out=folder))
    catalogue = catalogue_with(options.attribute, data, split)
    loaded = load_backbone(backbone)
    rows = load_rows(catalogue, data, split, options, loaded.transform, callbacks.decoded)
    require_unseen(loaded.provenance, rows.photos.ids, rows.split, backbone.weights, rows.catalogue.groups)
    goal = objective(rows.train.Y, rows.train.mask, rows.schema, options)
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(folder):
        facts = made_with(folder, loaded, rows, options, (rows.train, rows.validation))
        finished_before = begin(folder, facts)
        if finished_before:
            content = json.loads((folder / RUN).read_text(encoding="utf-8"))
        else:
            provenance = provenance_of(loaded, rows, request, (rows.train, rows.validation))
            provenance.metadata()
            training = Training(loaded, goal, rows.schema, augmentation_of(rows, options), options)
            outcome = training.run(rows.train, rows.validation, folder, callbacks)
            content = _write(request, rows, facts, provenance, outcome)
        wanted = {REFITTED: options.refit, OF_ALL: options.final}
        after = {
            again: train_again(request, rows, content, again, callbacks) for again, asked in wanted.items() if asked
        }
    return _report(request, content, rows, finished_before, after)


def _check(options: FinetuneOptions, split: SplitOptions) -> None:
    if split.regroup or split.near_duplicates != SplitOptions().near_duplicates:
        raise OptionError(
            "near-duplicates are found by cached vectors, which finetune has none of: leave out --near-duplicates and"
            " --regroup, or take the parts of a run that kept them together: --split-from RUN"
        )
    if len(options.betas) != 2:
        raise OptionError(f"--betas takes two rates from 0 to below 1, got {len(options.betas)}")


def _write(
    request: Request,
    rows: TrainingRows,
    facts: Mapping[str, Any],
    provenance: TrainingProvenance,
    outcome: Outcome,
) -> dict[str, Any]:
    """Weights, the model of their own heads, history.csv, run.json (last); then the checkpoint goes."""
    path = request.finetune.out or Path()
    best = outcome.history[outcome.best_epoch - 1]
    said = {"split_sha256": facts["split"], "best": best, "history": list(outcome.history)}
    frozen = write_weights(path, request, outcome.state, provenance, said)
    save_model(own_model(Network(frozen, outcome.state, provenance), rows, request.finetune), path / OWN_HEADS)
    write_records(path / HISTORY, outcome.history)
    content = {
        "format": "selvedge-finetune",
        "version": 2,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": {name: asdict(options) for name, options in vars(request).items()},
        "versions": package_versions(),
        "host": host_facts(),
        "weights": WEIGHTS,
        "weights_sha256": frozen.weights_sha256,
        "start_sha256": facts["start"],
        "precision": facts["amp"],
        "data_digest": rows.catalogue.digest,
        "split_digest": facts["split"],
        "schema": rows.schema.to_json(),
        "colour_attributes": list(colour_attributes(rows.schema)),
        "parts": rows.split.counts(),
        "used": {"train": len(rows.train.rows), "validation": len(rows.validation.rows)},
        "seen": {"train": len(provenance.train), "choice": len(provenance.choice)},
        "best": dict(best),
        "scores": dict(outcome.scores),
        "interpolation": outcome.interpolation,
        "epochs": len(outcome.history),
        "resumed_from": outcome.resumed_from,
        "stopped": outcome.stopped,
        "findings": count_kinds(rows.findings),
    }
    write_json(path / RUN, content)
    (path / NAME).unlink(missing_ok=True)
    return content


def _report(
    request: Request, content: Mapping[str, Any], rows: TrainingRows, finished_before: bool, after: Mapping[Again, Path]
) -> FinetuneReport:
    path = request.finetune.out or Path()
    notes = [content["stopped"]] if content["stopped"] else []
    if content["weights_sha256"] == content["start_sha256"]:
        notes.append("the backbone is what it was: only heads were trained, and `extract` gives the same cache key")
    if content["interpolation"] < 1:
        notes.append(f"validation likes the backbone best at {content['interpolation']:g} of the way from its start")
    if content["colour_attributes"] and request.finetune.jitter is None:
        notes.append(f"colours are left alone in training, since {', '.join(content['colour_attributes'])} names them")
    notes += [
        f"{weights} was trained once more on {len(again.examples(rows).rows)} photos; its figures are those above"
        for again, weights in after.items()
    ]
    if request.backbone.weights.startswith("random:"):
        notes.append(f"training started from {request.backbone.weights}, not from pretrained weights")
    return FinetuneReport(
        folder=path,
        weights=path / content["weights"],
        own_heads=path / OWN_HEADS,
        attributes=rows.schema.attributes,
        values=rows.schema.size,
        trains=request.finetune.train,
        parts=content["parts"],
        used=content["used"],
        best=content["best"],
        scores=content["scores"],
        epochs=content["epochs"],
        resumed_from=content["resumed_from"],
        finished_before=finished_before,
        next_commands=commands_to_compare(
            *(request.data, request.backbone, request.split, path / content["weights"]),
            own_heads=set(rows.schema.attributes) >= set(rows.catalogue.attributes),
        ),
        findings=rows.findings,
        refit=after.get(REFITTED),
        final=after.get(OF_ALL),
        notes=tuple(notes),
    )
