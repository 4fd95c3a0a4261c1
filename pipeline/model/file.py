"""The model file: one plain dict of Python builtins and NumPy arrays that joblib alone can read.

Fields (version 1): format "selvedge-model"; version; keys (the attributes); labels [(attribute, value)] in column
order; single (per attribute); gate {category: attributes} or None, and category_key, the attribute whose decided value
it looks up; blocks [{name, dim, order, digest}] and views, what X is made of; cache_key, the full key of the backbone
and transform as JSON; weights_source; members [{"kind": "dense", "layers": [(W, b), ...], "hidden": "relu"}, or
{"kind": "estimator", "estimator": object}]; links (per attribute "sigmoid" or "softmax", for members with layers);
thresholds (L,); decision, the policy that chose them; training, where the file says it, which photos had a part in the
model and how often each value was true (`pipeline.model.training`); selftest {X (4, d), P (4, L), decisions (4, L)};
info, what a person wants to know about its making; sealed, where the file ends in its own digest
(`pipeline.model.seal`).

Version 2 adds members {"kind": "kernel", "offset" (d,), "scale" (d,), "landmarks" (m, d) float16, "layers", "hidden"}:
the layers take exp(-|(x - offset) * scale - landmark|^2) for each landmark; and "weight" of any member: probabilities
are the average by these (1 where there is none). A file with neither still says version 1.

Version 3 is of several backbones: `sources`, a list of {cache_key, weights_source}, stands in place of these two
fields; each of `blocks` has the position of its own as `source`; X has the blocks in their order, that of the sources.
A member may have `columns` [start, stop]: the part of X that it takes.

joblib runs code on load: read only files you trust. The `.sha256` beside a file detects damage, not tampering. The same
model as a folder without pickle: `pipeline.model.folder`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Float, Float32
from pipeline.catalogue.labels import LabelSchema
from pipeline.errors import ModelFileError
from pipeline.evaluation.thresholds import decide
from pipeline.features.vectors.origin import Origin, as_fields, origins_of
from pipeline.heads.probabilities import mean_probabilities
from pipeline.model.check import FORMAT, VERSION, check_model
from pipeline.model.folder.read import folder_of, read_folder
from pipeline.model.seal import sealed, unsealed
from pipeline.model.training import TrainingRecord
from pipeline.system import digest_path, file_digest, open_regular, parsed, read_text, whole_file, write_digest

Model = dict[str, Any]

SEALED = "sealed"
"""Field of a model that carries its own digest; so a file that has lost it is not taken for one from before."""

_MOST_DIGEST_BYTES = 4096

TOLERANCE = 1e-4
"""Largest absolute difference of a self-test probability: other BLAS libraries round float32 differently."""


@dataclass(frozen=True)
class FeatureOrigin:
    """What the vectors are: blocks in model order ({name, dim, digest}), the full cache key, where the weights are."""

    blocks: Sequence[Mapping[str, Any]]
    cache_key: Mapping[str, Any]
    weights_source: str
    views: Sequence[str] = ("identity",)


@dataclass(frozen=True)
class Decision:
    """How probabilities become values: thresholds (L,) and the policy they come from."""

    thresholds: npt.ArrayLike
    policy: str


@dataclass(frozen=True)
class Parts:
    """What a fit produced: members as above, links per attribute, what is worth telling (`info`), its photos."""

    members: Sequence[Mapping[str, Any]]
    links: Sequence[str]
    info: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingRecord | None = None


def build_model(
    schema: LabelSchema, parts: Parts, decision: Decision, origin: FeatureOrigin | Sequence[FeatureOrigin], X: Float32
) -> Model:
    """A checked model dict.

    Args:
        schema: What it predicts.
        parts: What a fit produced.
        decision: How probabilities become values.
        origin: The backbone of its features, or several in the order of X, all in the same views.
        X: (n >= 1, d), rows of its own features; the first four become the self-test.

    Raises:
        ModelFileError: These do not fit together.
    """
    origins = (origin,) if isinstance(origin, FeatureOrigin) else tuple(origin)
    listed = len(origins) > 1 or any("columns" in member for member in parts.members)
    named = [Origin(_plain(o.cache_key), o.weights_source, tuple(o.blocks)) for o in origins]
    vectors = as_fields(named, listed)
    model: Model = {
        "format": FORMAT,
        "version": VERSION if listed else _least_version(parts.members),
        "keys": list(schema.attributes),
        "labels": list(schema.labels),
        "single": list(schema.single),
        "gate": None if schema.gate is None else {c: list(k) for c, k in schema.gate.items()},
        "category_key": schema.category_attribute,
        "blocks": [
            {**b, "name": str(b["name"]), "dim": int(b["dim"]), "order": i, "digest": str(b["digest"])}
            for i, b in enumerate(vectors.pop("blocks"))
        ],
        "views": list(origins[0].views),
        **vectors,
        "members": [_plain_member(member) for member in parts.members],
        "links": list(parts.links),
        "thresholds": np.asarray(decision.thresholds, np.float64),
        "decision": decision.policy,
        "info": _plain(parts.info),
    }
    if parts.training is not None:
        model["training"] = parts.training.to_model()
    rows = np.resize(np.arange(min(4, len(X))), 4)
    sample = np.array(X[rows], np.float32)
    check_model(model, "the new model")
    P = proba(model, sample)
    model["selftest"] = {"X": sample, "P": P, "decisions": decisions(model, P)}
    return model


def schema_of(model: Mapping[str, Any]) -> LabelSchema:
    """The label schema of a model dict."""
    values: dict[str, list[str]] = {attribute: [] for attribute in model["keys"]}
    for attribute, value in model["labels"]:
        values[attribute].append(value)
    return LabelSchema.from_json({**model, "values": list(values.values())})


def proba(model: Mapping[str, Any], X: Float) -> Float32:
    """Probabilities (n, L) of features X (n, d): the mean over members.

    Raises:
        ModelFileError: X has another width than the model expects.
    """
    check_width(model, X)
    return mean_probabilities(model["members"], model["links"], schema_of(model).slices, X)


def decisions(model: Mapping[str, Any], P: Float) -> Bool:
    """Decisions (n, L) of probabilities (n, L) under the model's thresholds and gate."""
    return decide(P, schema_of(model), model["thresholds"])


def check_width(model: Mapping[str, Any], X: npt.NDArray[Any]) -> None:
    """Raises ModelFileError unless X is (n, d) with the model's d."""
    expected = sum(block["dim"] for block in model["blocks"])
    if X.ndim != 2 or X.shape[1] != expected:
        made_of = " + ".join(f"{b['name']} {b['dim']}" for b in model["blocks"])
        named = (str(origin.cache_key.get("architecture", "its backbone")) for origin in origins_of(model))
        backbone = " + ".join(named)
        raise ModelFileError(
            f"the model expects vectors of {expected} numbers ({made_of} of {backbone}), these have shape"
            f" {tuple(X.shape)}: features of another backbone or of other blocks"
        )


def save_model(model: Model, path: Path) -> str:
    """Write the model and `<name>.sha256` beside it, each whole or not at all; returns the SHA-256."""
    import joblib

    stream = io.BytesIO()
    joblib.dump({**model, SEALED: True}, stream)
    with whole_file(path) as partial:
        partial.write_bytes(sealed(stream.getvalue(), _compression_pays(model)))
        digest = file_digest(partial)
        # Without a digest file the model is merely unverified; with an old one it would look damaged.
        digest_path(path).unlink(missing_ok=True)
    write_digest(path, digest)
    return digest


def read_model(path: Path, sha256: str | None = None) -> Model:
    """Read, check and self-test a model file, or a folder that `export` wrote, of which nothing is ever unpickled.

    Args:
        path: The file, or the folder or its `model.json`.
        sha256: A digest you trust, of a folder that of its `model.json`; nothing is loaded unless it matches.

    Raises:
        ModelFileError: It says what is wrong with it.
    """
    folder = folder_of(path)
    model = check_model(_read_file(path, sha256) if folder is None else read_folder(folder, sha256), str(path))
    if "selftest" not in model:
        raise ModelFileError(f"{path} has no 'selftest'; it is not whole")
    _self_test(model, path)
    return model


def _read_file(path: Path, sha256: str | None) -> object:
    if not path.is_file():
        best = path / "models" / "best.joblib"
        hint = f"; {path} is a run folder, its best model is {best}" if best.is_file() else ""
        raise ModelFileError(f"no model file {path}{hint}")
    with parsed(ModelFileError, f"{path} cannot be read (", "); copy it again"), open_regular(path) as file:
        data = file.read()
    _check_digests(path, data, sha256)
    return _load(path, data)


def _least_version(members: Sequence[Mapping[str, Any]]) -> int:
    return 2 if any(m["kind"] == "kernel" or "weight" in m for m in members) else 1


def _plain_member(member: Mapping[str, Any]) -> dict[str, Any]:
    more: dict[str, Any] = {"weight": float(member["weight"])} if "weight" in member else {}
    if "columns" in member:
        more["columns"] = [int(column) for column in member["columns"]]
    if member["kind"] == "estimator":
        return {"kind": "estimator", "estimator": member["estimator"], **more}
    layers = [(np.ascontiguousarray(W, np.float32), np.ascontiguousarray(b, np.float32)) for W, b in member["layers"]]
    if member["kind"] == "kernel":
        vectors = {name: np.ascontiguousarray(member[name], np.float32) for name in ("offset", "scale")}
        landmarks = np.ascontiguousarray(member["landmarks"], np.float16)
        return {"kind": "kernel", **vectors, "landmarks": landmarks, "layers": layers, "hidden": "relu", **more}
    return {"kind": "dense", "layers": layers, "hidden": "relu", **more}


def _plain(value: Any) -> Any:
    """Builtins only: what another program can unpickle without any library of ours."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _compression_pays(model: Model) -> bool:
    """Trees and block-diagonal layers shrink several times; trained dense weights hardly at all."""
    if any(member["kind"] == "estimator" for member in model["members"]):
        return True
    weights = [W for member in model["members"] for W, _ in member["layers"]]
    zeros = sum(int(np.count_nonzero(W == 0)) for W in weights)
    return zeros > 0.3 * sum(int(W.size) for W in weights)


def _check_digests(path: Path, data: bytes, trusted: str | None) -> None:
    digest_file = digest_path(path)
    beside = digest_file.exists() or digest_file.is_symlink()
    if trusted is None and not beside:
        return
    digest = hashlib.sha256(data).hexdigest()
    if trusted is not None and digest != trusted.strip().lower():
        raise ModelFileError(f"{path} has SHA-256 {digest}, not {trusted} as asked; it was not loaded")
    if beside:
        with parsed(ModelFileError, f"{digest_file} cannot be read (", "); copy it again, or remove it"):
            recorded = read_text(digest_file, _MOST_DIGEST_BYTES).split()
        if not recorded or recorded[0].lower() != digest:
            expected = recorded[0] if recorded else "nothing"
            raise ModelFileError(
                f"{path} is damaged: its SHA-256 is {digest}, {digest_file.name} says {expected}; copy it again"
            )


def _load(path: Path, data: bytes) -> object:
    import joblib

    with parsed(ModelFileError, f"{path} cannot be read as a joblib file (", "); copy it again"):
        content, whole = unsealed(data, str(path))
        try:
            held = joblib.load(io.BytesIO(content))
        except ImportError as error:
            missing = error.name or str(error)
            raise ModelFileError(
                f"{path} needs the package {missing!r}, which is not installed; "
                "a baseline's model needs its own library"
            ) from error
    if isinstance(held, dict) and SEALED in held and not whole:
        raise ModelFileError(f"{path} is damaged: the digest at its end is gone; copy it again")
    return held


def _self_test(model: Model, path: Path) -> None:
    test = model["selftest"]
    # Layers are checked; an estimator is an object of another library, and of the version that made it.
    unlike = "); was it made with another version of its library? Install that one, or fit the model again"
    with parsed(ModelFileError, f"{path}: the estimator in it cannot predict (", unlike):
        P = proba(model, test["X"])
    gap = float(np.abs(P - test["P"]).max()) if P.shape == np.shape(test["P"]) else float("inf")
    if not gap <= TOLERANCE:
        raise ModelFileError(
            f"{path} fails its self-test: probabilities differ by {gap:.2g} (at most {TOLERANCE:g} is rounding)"
        )
    if not np.array_equal(decisions(model, test["P"]), test["decisions"]):
        raise ModelFileError(f"{path} fails its self-test: it decides other values than when it was made")
