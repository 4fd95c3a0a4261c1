"""A training once more on every labelled photo, when everything is chosen: the network of a final model.

Epochs, interpolation, calibration and thresholds are those of the training before, and so are its figures: of this one
none can be computed, since no labelled photo is left that it has not learnt from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import HeadError
from pipeline.experiment.kinds.own_heads import OWN_HEADS
from pipeline.features.backbone.network import load_backbone
from pipeline.features.backbone.provenance import FINAL
from pipeline.finetuning.checkpoint import NAME, only_one
from pipeline.finetuning.examples import TrainingRows
from pipeline.finetuning.folder import HISTORY, RUN, WEIGHTS, begin, made_with
from pipeline.finetuning.frozen import Request, augmentation_of, provenance_of, write_weights
from pipeline.finetuning.loop import Training
from pipeline.finetuning.network.objective import objective
from pipeline.finetuning.outcome import Callbacks
from pipeline.finetuning.own_heads import final_own_model
from pipeline.model.file import read_model, save_model
from pipeline.system import write_json, write_records


def train_final(request: Request, rows: TrainingRows, before: Mapping[str, Any], callbacks: Callbacks) -> Path:
    """Train once more, on all photos with a known value; goes on, or does nothing, where that was begun or done.

    Args:
        request: What was asked for.
        rows: The catalogue's.
        before: run.json of the training before.
        callbacks: Who is told how it goes.

    Returns:
        The weights file.

    Raises:
        PipelineError: As `finetune` does.
    """
    first = request.finetune.out or Path()
    # The epoch that was best there; a schedule that ran whole kept its last.
    options = replace(request.finetune, epochs=int(before["best"]["epoch"]), out=first / FINAL)
    request = replace(request, finetune=options)
    folder, every = first / FINAL, rows.everything
    folder.mkdir(exist_ok=True)
    start = load_backbone(request.backbone)
    goal = objective(every.Y, every.mask, rows.schema, options)
    with only_one(folder):
        facts = made_with(folder, start, rows, options, (every,))
        if begin(folder, facts):
            return folder / WEIGHTS
        provenance = provenance_of(start, rows, request, (every, None))
        callbacks.say(f"once more on all {len(every.rows)} photos, test photos included; no figure is computed of it")
        training = Training(start, goal, rows.schema, augmentation_of(rows, options), options)
        outcome = training.run(every, None, folder, callbacks, before["interpolation"])
        if outcome.stopped:
            raise HeadError(f"the final training: {outcome.stopped}. The training before it stands; leave out --final")
        said = {FINAL: True, "history": list(outcome.history)}
        frozen = write_weights(folder, request, outcome.state, provenance, said)
        model = final_own_model(frozen, outcome.state, rows, provenance, read_model(first / OWN_HEADS))
        save_model(model, folder / OWN_HEADS)
        write_records(folder / HISTORY, outcome.history)
        content = {"format": "selvedge-finetune", "version": 2, FINAL: True, "weights_sha256": frozen.weights_sha256}
        write_json(
            folder / RUN, {**content, "made_with": facts, "photos": len(every.rows), "measured": str(first / RUN)}
        )
        (folder / NAME).unlink(missing_ok=True)
    return folder / WEIGHTS
