"""Whether a loaded object is a model file's dict: format, version, fields, shapes, in words a user can act on."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.errors import ModelFileError

FORMAT = "selvedge-model"
VERSION = 1

LINKS = ("sigmoid", "softmax")
FIELDS: dict[str, type | tuple[type, ...]] = {
    "keys": list,
    "labels": list,
    "single": list,
    "gate": (dict, type(None)),
    "category_key": (str, type(None)),
    "blocks": list,
    "views": list,
    "cache_key": dict,
    "weights_source": str,
    "members": list,
    "links": list,
    "thresholds": np.ndarray,
    "decision": str,
}


def check_model(found: object, name: str) -> dict[str, Any]:
    """`found` as a model dict with its arrays in native byte order, or a ModelFileError that names the field."""
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        what = found.get("format") if isinstance(found, dict) else type(found).__name__
        raise ModelFileError(f"{name} is not a model file of this program (format {FORMAT!r} expected, found {what!r})")
    version = found.get("version")
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        advice = "update this program" if newer else "fit the model again"
        raise ModelFileError(f"{name} has model file version {version!r}, this program reads {VERSION}; {advice}")
    for field, kind in FIELDS.items():
        if field not in found:
            raise ModelFileError(f"{name} has no field {field!r}; it is not whole")
        if not isinstance(found[field], kind):
            raise ModelFileError(f"{name}: field {field!r} is a {type(found[field]).__name__}")
    model = dict(found)
    _check_labels(model, name)
    model["thresholds"] = np.asarray(model["thresholds"], np.float64)
    if model["thresholds"].shape != (len(model["labels"]),):
        raise ModelFileError(f"{name}: {len(model['labels'])} labels, thresholds of shape {model['thresholds'].shape}")
    if not model["members"]:
        raise ModelFileError(f"{name}: no members; there is nothing to predict with")
    model["members"] = [
        _check_member(member, model, f"{name}: member {i}") for i, member in enumerate(model["members"])
    ]
    return model


def _check_labels(model: dict[str, Any], name: str) -> None:
    attributes = model["keys"]
    for field in ("single", "links"):
        if len(model[field]) != len(attributes):
            raise ModelFileError(f"{name}: {len(attributes)} attributes, {len(model[field])} entries in {field!r}")
    wrong = [link for link in model["links"] if link not in LINKS]
    if wrong:
        raise ModelFileError(f"{name}: unknown link {wrong[0]!r}; there are {', '.join(LINKS)}")
    order = [
        attribute
        for i, (attribute, _) in enumerate(model["labels"])
        if i == 0 or attribute != model["labels"][i - 1][0]
    ]
    if order != attributes:
        missing = [attribute for attribute in attributes if attribute not in order]
        detail = (
            f"attribute {missing[0]!r} has no values"
            if missing
            else "labels are not grouped in the order of attributes"
        )
        raise ModelFileError(f"{name}: {detail}")
    for block in model["blocks"]:
        if not isinstance(block, dict) or not {"name", "dim", "digest"} <= set(block):
            raise ModelFileError(f"{name}: a block needs name, dim and digest, found {block!r}")


def _check_member(member: Any, model: dict[str, Any], name: str) -> dict[str, Any]:
    kind = member.get("kind") if isinstance(member, dict) else None
    if kind == "estimator" and hasattr(member.get("estimator"), "predict_proba"):
        return dict(member)
    if kind != "dense" or not member.get("layers"):
        raise ModelFileError(f"{name} is neither 'dense' with layers nor 'estimator' (kind {kind!r})")
    if member.get("hidden") != "relu":
        raise ModelFileError(f"{name} has hidden layers of kind {member.get('hidden')!r}; this program knows 'relu'")
    layers = []
    width = sum(block["dim"] for block in model["blocks"])
    for i, (W, b) in enumerate(member["layers"]):
        # Files written on a machine of the other byte order load as such; NumPy is slow on them.
        W, b = np.ascontiguousarray(W, np.float32), np.ascontiguousarray(b, np.float32)
        if W.ndim != 2 or W.shape[0] != width or b.shape != W.shape[1:]:
            raise ModelFileError(
                f"{name}, layer {i}: expected W ({width}, m) and b (m,), found {W.shape} and {b.shape}"
            )
        if not (np.isfinite(W).all() and np.isfinite(b).all()):
            raise ModelFileError(f"{name}, layer {i}: weights are not finite; the fit diverged")
        layers.append((W, b))
        width = W.shape[1]
    if width != len(model["labels"]):
        raise ModelFileError(f"{name}: {width} outputs for {len(model['labels'])} labels")
    return {**member, "layers": layers}
