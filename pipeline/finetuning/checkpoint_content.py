"""Whether a checkpoint is one of this training: what it holds goes into weights, so nothing in it is taken on trust."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from pipeline.shapes import WrongShape, anything, number, record, sequence, whole

_RECORD = record(
    {"epoch": whole(1), **dict.fromkeys(("lr", "train_loss", "seconds"), number())},
    dict.fromkeys(("validation_loss", "validation_score"), number()),
)
_PARTS = ("model", "average", "best", "optimizer", "scaler")
_STATE = record({"history": sequence(_RECORD), **dict.fromkeys(_PARTS, anything)})
_OWN = ("params", "lr")
"""Of a group of parameters: what is compared otherwise, and what the schedule sets."""


def check_state(held: Mapping[str, Any], fresh: Mapping[str, Any]) -> None:
    """Compare the content of a checkpoint with the state of the training that is to go on from it.

    Raises:
        WrongShape: An epoch, a tensor or a setting is missing or of another kind; with its place.
    """
    _STATE(held, "")
    if [each["epoch"] for each in held["history"]] != list(range(1, len(held["history"]) + 1)):
        raise WrongShape("history does not count the epochs from 1")
    if len({"validation_loss" in each for each in held["history"]}) > 1:
        raise WrongShape("history has epochs that were judged and others that were not")
    for place in ("model", "average"):
        _check_tensors(held[place], fresh[place], place)
    if held["best"] or held["history"]:
        _check_tensors(held["best"], fresh["model"], "best")
    for place in ("optimizer", "scaler"):
        if not isinstance(held[place], dict):
            raise WrongShape.at(place, held[place], "an object")
    if not isinstance(held["optimizer"].get("state"), dict):
        raise WrongShape.at("optimizer.state", held["optimizer"].get("state"), "an object")
    if set(held["scaler"]) != set(fresh["scaler"]):
        raise WrongShape("scaler has other fields than this training's")
    _check_groups(held["optimizer"].get("param_groups"), fresh["optimizer"]["param_groups"])


def check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Raise WrongShape unless each moment of a parameter has its shape, or is one number, and all are finite."""
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items() if isinstance(moments, dict) else [("state", moments)]:
            if value is not None and not isinstance(value, torch.Tensor):
                raise WrongShape.at(f"optimizer.{name}", value, "a tensor")
            if value is not None and value.ndim and value.shape != getattr(parameter, "shape", None):
                raise WrongShape(f"optimizer.{name} has the shape {tuple(value.shape)}, its parameter another")
            if value is not None and not value.isfinite().all():
                raise WrongShape(f"optimizer.{name} holds numbers that are not finite")


def _check_tensors(held: object, fresh: Mapping[str, torch.Tensor], place: str) -> None:
    if not isinstance(held, dict) or set(held) != set(fresh):
        raise WrongShape(f"{place} holds other tensors than this training's")
    for name, tensor in fresh.items():
        value = held[name]
        if not isinstance(value, torch.Tensor) or (value.shape, value.dtype) != (tensor.shape, tensor.dtype):
            raise WrongShape(f"{place}.{name} is no tensor of {tensor.dtype} with the shape {tuple(tensor.shape)}")
        if not value.isfinite().all():
            raise WrongShape(f"{place}.{name} holds numbers that are not finite")


def _check_groups(held: object, fresh: list[dict[str, Any]]) -> None:
    if not isinstance(held, list) or len(held) != len(fresh):
        raise WrongShape("optimizer.param_groups has other groups than this training's")
    for i, (group, ours) in enumerate(zip(held, fresh, strict=True)):
        if not isinstance(group, dict) or group.get("params") != ours["params"]:
            raise WrongShape(f"optimizer.param_groups[{i}] has other parameters than this training's")
        for name, value in ours.items():
            there = group.get(name, value)
            if name not in _OWN and (type(there) is not type(value) or there != value):
                raise WrongShape(f"optimizer.param_groups[{i}].{name} is another than this training's")
