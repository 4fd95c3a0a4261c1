"""A training once more on more photos, when everything is chosen: those that chose it too, or every labelled one.

Epochs, interpolation, calibration and thresholds are those of the training before, and so are its figures on
validation photos. One on training and validation photos is judged on test photos; one on all photos cannot be judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import HeadError
from pipeline.experiment.kinds.own_heads import OWN_HEADS
from pipeline.features.backbone.network import load_backbone
from pipeline.features.backbone.provenance import FINAL, REFIT
from pipeline.finetuning.checkpoint import NAME, only_one
from pipeline.finetuning.examples import Examples, TrainingRows
from pipeline.finetuning.folder import HISTORY, RUN, WEIGHTS, begin, made_with
from pipeline.finetuning.frozen import Request, augmentation_of, provenance_of, write_weights
from pipeline.finetuning.loop import Training
from pipeline.finetuning.network.objective import objective
from pipeline.finetuning.outcome import Callbacks
from pipeline.finetuning.own_heads import Network, own_model_again
from pipeline.model.file import read_model, save_model
from pipeline.system import write_json, write_records


@dataclass(frozen=True)
class Again:
    """One of the two trainings that may follow the first.

    Attributes:
        name: Of its folder within that of the first, and of the fact that the weights carry.
        fitted_on: The parts it learns from.
        examples: The photos of them.
        told: What is said of it when it begins, with a place for how many photos.
    """

    name: str
    fitted_on: str
    examples: Callable[[TrainingRows], Examples]
    told: str


REFITTED = Again(
    name=REFIT,
    fitted_on="train + validation",
    examples=lambda rows: rows.train_and_validation,
    told="once more on {} training and validation photos; what was chosen stays",
)
OF_ALL = Again(
    name=FINAL,
    fitted_on="train + validation + test",
    examples=lambda rows: rows.everything,
    told="once more on all {} photos, test photos included; no figure is computed of it",
)


def train_again(
    request: Request, rows: TrainingRows, before: Mapping[str, Any], again: Again, callbacks: Callbacks
) -> Path:
    """Train once more, on more photos; goes on, or does nothing, where that was begun or done.

    Args:
        request: What was asked for.
        rows: The catalogue's.
        before: run.json of the training before.
        again: On which photos.
        callbacks: Who is told how it goes.

    Returns:
        The weights file.

    Raises:
        PipelineError: As `finetune` does.
    """
    first = request.finetune.out or Path()
    # The epoch that was best there; a schedule that ran whole kept its last.
    options = replace(request.finetune, epochs=int(before["best"]["epoch"]), out=first / again.name)
    request = replace(request, finetune=options)
    folder, learnt = first / again.name, again.examples(rows)
    folder.mkdir(exist_ok=True)
    start = load_backbone(request.backbone)
    goal = objective(learnt.Y, learnt.mask, rows.schema, options)
    with only_one(folder):
        facts = made_with(folder, start, rows, options, (learnt,))
        if begin(folder, facts):
            return folder / WEIGHTS
        provenance = provenance_of(start, rows, request, (learnt, None))
        callbacks.say(again.told.format(len(learnt.rows)))
        training = Training(start, goal, rows.schema, augmentation_of(rows, options), options)
        outcome = training.run(learnt, None, folder, callbacks, before["interpolation"])
        if outcome.stopped:
            raise HeadError(
                f"the training of {folder}: {outcome.stopped}. The training before it stands; leave out --{again.name}"
            )
        said = {again.name: True, "history": list(outcome.history)}
        frozen = write_weights(folder, request, outcome.state, provenance, said)
        network = Network(frozen, outcome.state, provenance)
        model = own_model_again(network, rows, learnt, again.fitted_on, read_model(first / OWN_HEADS))
        save_model(model, folder / OWN_HEADS)
        write_records(folder / HISTORY, outcome.history)
        content = {
            "format": "selvedge-finetune",
            "version": 2,
            again.name: True,
            "weights_sha256": frozen.weights_sha256,
        }
        write_json(
            folder / RUN, {**content, "made_with": facts, "photos": len(learnt.rows), "measured": str(first / RUN)}
        )
        (folder / NAME).unlink(missing_ok=True)
    return folder / WEIGHTS
