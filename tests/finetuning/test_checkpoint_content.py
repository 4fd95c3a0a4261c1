"""A checkpoint is taken up only by the training that it is of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.catalogue import LabelSchema
from pipeline.errors import RunError
from pipeline.features.backbone.network import load_backbone
from pipeline.finetuning.checkpoint import save_checkpoint
from pipeline.finetuning.loop import Training
from pipeline.finetuning.network.objective import objective
from pipeline.finetuning.photos.augment import Augmentation
from pipeline.options import BackboneOptions, FinetuneOptions

RECORD = dict.fromkeys(("lr", "train_loss", "validation_loss", "validation_score", "seconds"), 0.5)


@pytest.fixture(scope="module")
def training() -> Training:
    options = FinetuneOptions(train="head", device="cpu", amp="off")
    backbone = load_backbone(BackboneOptions(backbone="test_resnet", weights="random:0", size=32))
    schema = LabelSchema(("neck",), (("crew", "polo", "v"),), (True,))
    goal = objective(np.eye(3, dtype=np.uint8), np.ones((3, 3), np.bool_), schema, options)
    return Training(backbone, goal, schema, Augmentation.of(options, 0.0), options)


def state(training: Training) -> dict[str, Any]:
    held = training._state()
    groups = [dict(group) for group in held["optimizer"]["param_groups"]]
    moments = {
        0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3, 256), "exp_avg_sq": torch.zeros(3, 256)},
    }
    moments[0] |= {name: torch.zeros_like(held["model"]["heads.values.0.weight"]) for name in ("exp_avg", "exp_avg_sq")}
    model = dict(held["model"])
    optimizer = {"state": moments, "param_groups": groups}
    return {**held, "history": [{"epoch": 1, **RECORD}], "model": model, "best": dict(model), "optimizer": optimizer}


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    *way, last, value = path

    def change(content: dict[str, Any]) -> None:
        for name in way:
            content = content[name]
        content[last] = value

    return change


def test_a_sound_checkpoint_goes_on(training: Training, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(training))
    training._resume(tmp_path)
    assert training._history == [{"epoch": 1, **RECORD}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("history", 7), "history is 7; expected a list"),
        (put("history", 0, "train_loss", float("nan")), r"history\[0\].train_loss is nan; expected a finite number"),
        (put("history", 0, "epoch", 2), "history does not count the epochs from 1"),
        (
            put("model", "heads.values.0.bias", torch.zeros(4)),
            r"model.heads.* is no tensor .* shape \(3,\)",
        ),
        (
            put("best", "heads.values.0.bias", torch.full((3,), torch.nan)),
            "best.heads.* holds .* not finite",
        ),
        (put("average", {}), "average holds other tensors"),
        (put("best", {}), "best holds other tensors"),
        (put("optimizer", "param_groups", 0, "weight_decay", 0.5), r"param_groups\[0\].weight_decay is another"),
        (put("optimizer", "param_groups", []), "other groups"),
        (put("optimizer", "state", 0, "exp_avg", torch.zeros(7)), r"optimizer.exp_avg has the shape \(7,\)"),
        (put("scaler", {"scale": 1.0}), "scaler has other fields"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    training: Training, tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    content = state(training)
    change(content)
    save_checkpoint(tmp_path, content)
    with pytest.raises(RunError, match=rf"does not fit this training \(.*{said}.*\); remove it to start again"):
        training._resume(tmp_path)
