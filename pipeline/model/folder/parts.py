"""A model dict as what JSON can say, arrays by name, and texts by file name; and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.errors import ModelFileError
from pipeline.heads.baselines.plain import LogisticColumns, TreeColumns, plain_estimator
from pipeline.model.training import FIELDS, GROUPS
from pipeline.shapes import anything, either, flag, mapping, number, one_of, optional, record, sequence, text, whole

Array = np.ndarray[Any, Any]

_LOGISTIC, _LIGHTGBM = "logistic", "lightgbm"
_KERNEL = ("offset", "scale", "landmarks")
_TEST = ("X", "P", "decisions")
_EXTRA = {"weight": number(0.0), "columns": sequence(whole(), least=2, most=2)}
_LAYERED = record({"kind": one_of("dense", "kernel"), "layers": whole(1, 1000), "hidden": text}, _EXTRA)
_ESTIMATOR = record({"kind": one_of("estimator"), "estimator": one_of(_LOGISTIC)}, _EXTRA)
_TREES = record(
    {
        "kind": one_of("estimator"),
        "estimator": one_of(_LIGHTGBM),
        "width": whole(1),
        "constants": sequence(optional(whole(0, 1)), least=1),
    },
    _EXTRA,
)
FIELDS_OF_JSON = record(
    {
        "members": sequence(record({"kind": one_of("dense", "kernel", "estimator")}), least=1),
        "thresholds": sequence(number(), least=1),
        "labels": sequence(sequence(text, least=2, most=2), least=1),
        "blocks": sequence(record({"dim": whole(1)}), least=1),
    },
    {"training": optional(record({GROUPS: flag})), "selftest": flag, "info": optional(mapping(anything))},
)
"""What putting together relies on; `pipeline.model.check` looks at the whole."""


@dataclass(frozen=True)
class ModelParts:
    """A model in parts.

    Attributes:
        fields: What `model.json` holds of it.
        arrays: Name to array.
        texts: Name of a file in the folder to its text.
    """

    fields: dict[str, Any]
    arrays: dict[str, Array] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def take_apart(model: Mapping[str, Any]) -> ModelParts:
    """The parts of a checked model dict.

    Raises:
        HeadError: One of its members is an object that no array or text stands for.
    """
    parts = ModelParts({name: value for name, value in model.items() if name not in ("sealed", "selftest")})
    parts.fields["labels"] = [list(label) for label in model["labels"]]
    parts.fields["thresholds"] = np.asarray(model["thresholds"], np.float64).tolist()
    parts.fields["members"] = [
        _member_apart(member, f"members.{i}", parts) for i, member in enumerate(model["members"])
    ]
    parts.fields["info"] = _finite(model.get("info"))
    parts.fields["selftest"] = "selftest" in model
    parts.arrays.update({f"selftest.{name}": model["selftest"][name] for name in _TEST if "selftest" in model})
    training = model.get("training")
    if training is not None:
        parts.fields["training"] = {GROUPS: training.get(GROUPS) is not None}
        there = {name: training[name] for name in (*FIELDS, GROUPS) if training.get(name) is not None}
        parts.arrays.update({f"training.{name}": array for name, array in there.items()})
    return parts


def put_together(parts: ModelParts, name: str) -> dict[str, Any]:
    """The model dict of parts, for `pipeline.model.check.check_model`; it takes every array and text.

    Args:
        parts: As they were read.
        name: The folder's, for errors.

    Raises:
        ModelFileError: A part is missing, of another kind, or one too many.
        WrongShape: A field is of another kind.
    """
    FIELDS_OF_JSON(parts.fields, "model")
    left = ModelParts(dict(parts.fields), dict(parts.arrays), dict(parts.texts))
    model = left.fields
    model["labels"] = [(attribute, value) for attribute, value in model["labels"]]
    model["thresholds"] = np.array(model["thresholds"], np.float64)
    model["members"] = [_member_together(member, i, left, name) for i, member in enumerate(model["members"])]
    if model.pop("selftest", False):
        model["selftest"] = {each: _array(left, f"selftest.{each}", name) for each in _TEST}
    if (training := model.pop("training", None)) is not None:
        there = (*FIELDS, GROUPS) if training[GROUPS] else FIELDS
        model["training"] = {each: _array(left, f"training.{each}", name) for each in there}
    if strange := [*left.arrays, *left.texts]:
        raise ModelFileError(f"{name} holds {strange[0]!r:.80}, which its model.json does not name")
    return model


def _member_apart(member: Mapping[str, Any], name: str, parts: ModelParts) -> dict[str, Any]:
    said = {each: member[each] for each in ("kind", "weight", "columns") if each in member}
    if member["kind"] != "estimator":
        kernel = _KERNEL if member["kind"] == "kernel" else ()
        parts.arrays.update({f"{name}.{each}": _as_kept(member, each) for each in kernel})
        for j, (W, b) in enumerate(member["layers"]):
            parts.arrays.update({f"{name}.layers.{j}.weight": W, f"{name}.layers.{j}.bias": b})
        return {**said, "layers": len(member["layers"]), "hidden": member["hidden"]}
    plain = plain_estimator(member["estimator"])
    if isinstance(plain, LogisticColumns):
        parts.arrays.update({f"{name}.weight": plain.weights, f"{name}.bias": plain.bias})
        return {**said, "estimator": _LOGISTIC}
    place = name.rpartition(".")[2]
    texts = {_text_name(place, i): each for i, each in enumerate(plain.columns) if isinstance(each, str)}
    parts.texts.update(texts)
    constants = [None if isinstance(each, str) else each for each in plain.columns]
    return {**said, "estimator": _LIGHTGBM, "width": plain.n_features_in_, "constants": constants}


def _as_kept(member: Mapping[str, Any], name: str) -> Array:
    """Landmarks in the half precision of the model file, from which the check has made single."""
    array: Array = member[name]
    return array.astype(np.float16) if name == "landmarks" else array


def _member_together(said: Mapping[str, Any], place: int, left: ModelParts, folder: str) -> dict[str, Any]:
    name = f"members.{place}"
    either(_LAYERED, _ESTIMATOR, _TREES)(said, f"model.{name}")
    member = {each: said[each] for each in ("kind", "weight", "columns") if each in said}
    if said["kind"] != "estimator":
        kernel = {each: _array(left, f"{name}.{each}", folder) for each in _KERNEL if said["kind"] == "kernel"}
        layers = [
            tuple(_array(left, f"{name}.layers.{j}.{each}", folder) for each in ("weight", "bias"))
            for j in range(said["layers"])
        ]
        return {**member, **kernel, "layers": layers, "hidden": said["hidden"]}
    return {**member, "estimator": _estimator(said, name, left, folder)}


def _estimator(said: Mapping[str, Any], name: str, left: ModelParts, folder: str) -> LogisticColumns | TreeColumns:
    start, stop = said.get("columns", (0, sum(block["dim"] for block in left.fields["blocks"])))
    width, labels = stop - start, len(left.fields["labels"])
    if said["estimator"] == _LOGISTIC:
        weights, bias = (_array(left, f"{name}.{each}", folder) for each in ("weight", "bias"))
        numbers = weights.dtype == bias.dtype == np.float64 and np.isfinite(weights).all() and np.isfinite(bias).all()
        if weights.shape != (width, labels) or bias.shape != (labels,) or not numbers:
            raise ModelFileError(
                f"{folder}: {name} has arrays of {weights.dtype} {weights.shape} and {bias.dtype} {bias.shape};"
                f" expected finite ones of float64 ({width}, {labels}) and ({labels},)"
            )
        return LogisticColumns(weights, bias)
    if said["width"] != width or len(said["constants"]) != labels:
        raise ModelFileError(
            f"{folder}: {name} has {len(said['constants'])} columns of {said['width']} features; expected {labels} of"
            f" {width}"
        )
    place = name.rpartition(".")[2]
    columns = [_text(left, _text_name(place, i), each, folder) for i, each in enumerate(said["constants"])]
    return _read(TreeColumns(columns, width), f"{folder}: {name}")


def _read(trees: TreeColumns, name: str) -> TreeColumns:
    try:
        _ = trees.trees
    except ValueError as error:
        raise ModelFileError(f"{name} has trees that cannot be read: {str(error)[:200]}") from error
    return trees


def _text(left: ModelParts, file: str, constant: int | None, folder: str) -> str | int:
    if constant is not None:
        return constant
    if file not in left.texts:
        raise ModelFileError(f"{folder} has no {file}; it is not whole")
    return left.texts.pop(file)


def _text_name(member: str, column: int) -> str:
    return f"trees/{member}-{column}.txt"


def _array(left: ModelParts, name: str, folder: str) -> Array:
    if name not in left.arrays:
        raise ModelFileError(f"{folder}: weights.safetensors has no {name!r}; it is not whole")
    return left.arrays.pop(name)


def _finite(value: Any) -> Any:
    """The same with null where a number is none that JSON has."""
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
