"""Whether a loaded object is a model file's dict: format, version, fields, shapes, in words a user can act on."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.catalogue.labels import LabelSchema, wrong_labels
from pipeline.errors import ModelFileError
from pipeline.features.vectors.origin import MOST_SOURCES
from pipeline.model.training import FIELDS, GROUPS, UInt64
from pipeline.shapes import (
    Shape,
    WrongShape,
    anything,
    flag,
    mapping,
    one_of,
    optional,
    record,
    sequence,
    text,
    whole,
)

FORMAT = "selvedge-model"
VERSION = 3
"""Newest version of the format. A file says 1, or 2, as long as readers of that version can use it."""

LINKS = ("sigmoid", "softmax")

WIDEST = 2**24
"""Numbers of the widest block; far more than any backbone gives."""

MODEL = record(
    {
        "keys": sequence(text, least=1),
        "labels": sequence(sequence(text, least=2, most=2), least=1),
        "single": sequence(flag),
        "gate": optional(mapping(sequence(text))),
        "category_key": optional(text),
        "blocks": sequence(record({"name": text, "dim": whole(1, WIDEST), "digest": text}), least=1),
        "views": sequence(text, least=1),
        "members": sequence(record({"kind": text}), least=1),
        "links": sequence(one_of(*LINKS)),
        "thresholds": anything,
        "decision": text,
    },
    {
        "info": optional(mapping(anything)),
        "selftest": record(dict.fromkeys(("X", "P", "decisions"), anything)),
        "training": optional(record(dict.fromkeys(FIELDS, anything), {GROUPS: anything})),
    },
)
"""What every part of the program that takes a model relies on; arrays are checked one by one below."""

SOURCE = record(
    {
        "cache_key": record({}, {"architecture": text, "size": whole(1), "fit": text, "precision": text}),
        "weights_source": text,
    }
)
"""A backbone; before version 3 the model itself has these fields, since then each of its `sources`."""

SEVERAL = record(
    {"sources": sequence(SOURCE, least=1, most=MOST_SOURCES), "blocks": sequence(record({"source": whole()}))}
)


def check_model(content: object, name: str) -> dict[str, Any]:
    """`content` as a model dict with its arrays in native byte order, or a ModelFileError that names the field.

    Args:
        content: Whatever a file held.
        name: The file's, for errors.
    """
    format_ = content.get("format") if isinstance(content, dict) else type(content).__name__
    if not isinstance(content, dict) or not isinstance(format_, str) or format_ != FORMAT:
        raise ModelFileError(
            f"{name} is not a model file of this program (format {FORMAT!r} expected, found {format_!r:.60})"
        )
    version = content.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        newer = isinstance(version, int) and version > VERSION
        advice = "update this program" if newer else "fit the model again"
        raise ModelFileError(f"{name} has model file version {version!r:.60}, this program reads {VERSION}; {advice}")
    _check_shape(content, MODEL, name)
    model = _check_sources(dict(content), name)
    _check_labels(model, name)
    model["thresholds"] = _array(model["thresholds"], (len(model["labels"]),), f"{name}: thresholds", np.float64)
    model["members"] = [
        _check_member(member, model, f"{name}: member {i}") for i, member in enumerate(model["members"])
    ]
    if model.get("training") is not None:
        model["training"] = _check_training(model, f"{name}: training")
    if "selftest" in model:
        model["selftest"] = _check_selftest(model, f"{name}: selftest")
    return model


def _check_shape(model: dict[Any, Any], shape: Shape, name: str) -> None:
    try:
        shape(model, "")
    except WrongShape as error:
        raise ModelFileError(f"{name}: {error}") from error


def _check_sources(model: dict[str, Any], name: str) -> dict[str, Any]:
    """The model; fields of a newer version, which only chance can have put into an older file, are left out."""
    if model["version"] < 3:
        _check_shape(model, SOURCE, name)
        blocks = [{field: value for field, value in block.items() if field != "source"} for block in model["blocks"]]
        return {field: value for field, value in model.items() if field != "sources"} | {"blocks": blocks}
    _check_shape(model, SEVERAL, name)
    found, count = [block["source"] for block in model["blocks"]], len(model["sources"])
    if found != sorted(found) or set(found) != set(range(count)):
        raise ModelFileError(
            f"{name}: blocks are of the sources {found}; expected 0 to {count - 1}, each, in this order"
        )
    return model


def _check_labels(model: dict[str, Any], name: str) -> None:
    attributes = model["keys"]
    for field in ("single", "links"):
        if len(model[field]) != len(attributes):
            raise ModelFileError(f"{name}: {len(attributes)} attributes, {len(model[field])} entries in {field!r}")
    order = [
        attribute
        for i, (attribute, _) in enumerate(model["labels"])
        if i == 0 or attribute != model["labels"][i - 1][0]
    ]
    if missing := [attribute for attribute in attributes if attribute not in order]:
        raise ModelFileError(f"{name}: attribute {missing[0]!r} has no values")
    if order != list(attributes):
        raise ModelFileError(f"{name}: labels are not grouped in the order of attributes")
    values = tuple(tuple(value for of, value in model["labels"] if of == attribute) for attribute in attributes)
    if wrong := wrong_labels(LabelSchema(tuple(attributes), values, tuple(model["single"]))):
        raise ModelFileError(f"{name}: {wrong}")


def _check_member(member: Any, model: dict[str, Any], name: str) -> dict[str, Any]:
    kind, weight = member["kind"], member.get("weight", 1.0)
    if not isinstance(weight, int | float) or not 0.0 < weight < float("inf"):
        raise ModelFileError(f"{name} has the weight {weight!r:.60}; expected a number above 0")
    width = _width_taken(member, sum(block["dim"] for block in model["blocks"]), name)
    if kind == "estimator" and hasattr(member.get("estimator"), "predict_proba"):
        return dict(member)
    _check_shape(member, record({}, {"layers": sequence(sequence(anything, least=2, most=2)), "hidden": text}), name)
    if kind not in ("dense", "kernel") or not member.get("layers"):
        raise ModelFileError(f"{name} is neither 'dense' or 'kernel' with layers nor 'estimator' (kind {kind!r})")
    if member.get("hidden") != "relu":
        raise ModelFileError(f"{name} has hidden layers of kind {member.get('hidden')!r}; this program knows 'relu'")
    layers = []
    if kind == "kernel":
        member = _check_kernel(member, width, name)
        width = len(member["landmarks"])
    for i, (W, b) in enumerate(member["layers"]):
        shapes = tuple(getattr(part, "shape", None) for part in (W, b))
        if not isinstance(shapes[0], tuple) or len(shapes[0]) != 2 or shapes != ((width, shapes[0][1]), shapes[0][1:]):
            raise ModelFileError(f"{name}, layer {i}: expected W ({width}, m) and b (m,), found {shapes[0]} and"
                                 f" {shapes[1]}")  # fmt: skip
        W, b = (_array(part, shape, f"{name}, layer {i}") for part, shape in zip((W, b), shapes, strict=True))
        layers.append((W, b))
        width = W.shape[1]
    if width != len(model["labels"]):
        raise ModelFileError(f"{name}: {width} outputs for {len(model['labels'])} labels")
    return {**member, "layers": layers}


def _width_taken(member: dict[str, Any], width: int, name: str) -> int:
    """How many of the features the member takes."""
    if "columns" not in member:
        return width
    _check_shape(member, record({"columns": sequence(whole(0, width), least=2, most=2)}), name)
    start, stop = member["columns"]
    if start >= stop:
        raise ModelFileError(f"{name} takes the columns from {start} to {stop}; expected a part of {width} features")
    return int(stop) - int(start)


def _check_kernel(member: dict[str, Any], width: int, name: str) -> dict[str, Any]:
    landmarks = member.get("landmarks")
    count = len(landmarks) if isinstance(landmarks, np.ndarray) and landmarks.ndim == 2 else 0
    return {
        **member,
        "offset": _array(member.get("offset"), (width,), f"{name}: offset"),
        "scale": _array(member.get("scale"), (width,), f"{name}: scale"),
        # In single precision once and for all: every batch of photos is compared with all of them.
        "landmarks": _array(landmarks, (count, width), f"{name}: landmarks"),
    }


def _check_selftest(model: dict[str, Any], name: str) -> dict[str, Any]:
    test, width = model["selftest"], sum(block["dim"] for block in model["blocks"])
    rows = test["X"].shape[0] if isinstance(test["X"], np.ndarray) and test["X"].ndim else 0
    if not rows:
        raise ModelFileError(f"{name}: X is not there; the file is not whole")
    labels = (rows, len(model["labels"]))
    arrays = {"X": _array(test["X"], (rows, width), f"{name}: X"), "P": _array(test["P"], labels, f"{name}: P")}
    return {**test, **arrays, "decisions": _array(test["decisions"], labels, f"{name}: decisions", np.bool_)}


def _check_training(model: dict[str, Any], name: str) -> dict[str, Any]:
    found, labels = model["training"], (len(model["labels"]),)
    seen = _beginnings(found["seen"], f"{name}: seen", "content ids")
    named = {}
    if found.get(GROUPS) is not None:
        named = {GROUPS: _beginnings(found[GROUPS], f"{name}: {GROUPS}", "digests of products' names")}
    counts = {field: _array(found[field], labels, f"{name}: {field}", np.int64) for field in ("positives", "known")}
    if (counts["positives"] < 0).any() or (counts["positives"] > counts["known"]).any():
        raise ModelFileError(f"{name}: positives are not within known")
    return {**found, "seen": seen, **named, **counts}


def _beginnings(value: object, name: str, of: str) -> UInt64:
    """Sorted numbers (n,), or a ModelFileError that names the field."""
    if not isinstance(value, np.ndarray) or value.dtype != np.uint64 or value.ndim != 1:
        raise ModelFileError(f"{name} is no list of 8-byte beginnings of {of}")
    return np.sort(value.astype(np.uint64))


def _array(value: object, shape: Any, name: str, dtype: Any = np.float32) -> Any:
    """A finite array of this shape and kind of numbers, in native byte order and without gaps.

    Files written on a machine of the other byte order load as such; NumPy is slow on them.
    """
    if not isinstance(value, np.ndarray) or value.dtype.kind not in ("b" if dtype is np.bool_ else "fiu"):
        kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise ModelFileError(
            f"{name} is {kind}; expected an array of {'true and false' if dtype is np.bool_ else 'numbers'}"
        )
    if value.shape != shape:
        raise ModelFileError(f"{name} has the shape {value.shape}; expected {shape}")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(value, dtype)
    if not np.isfinite(array).all():
        raise ModelFileError(f"{name}: not all numbers are finite; the fit diverged")
    return array
