"""Reading a model from a folder: JSON, safetensors and text, none of which can run anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ModelFileError
from pipeline.model.folder.parts import Array, ModelParts, put_together
from pipeline.shapes import anything, mapping, one_of, record, text, whole
from pipeline.system import open_regular, parsed

FORMAT, VERSION = "selvedge-folder", 1
MODEL, WEIGHTS = "model.json", "weights.safetensors"
SEAL = "sha256.model.json"
"""Array that carries the SHA-256 of what `model.json` says of the model: the two files are of each other."""

_MOST_JSON_BYTES = 64 * 2**20
_CONTENT = record(
    {
        "format": one_of(FORMAT),
        "version": whole(1),
        "model": mapping(anything),
        "files": record({WEIGHTS: text}),
    },
    {"preprocessing": anything, "onnx": mapping(anything)},
)


def folder_of(path: Path) -> Path | None:
    """The folder of a model that this path names, or one of its files; None where it names none."""
    if path.name in (MODEL, WEIGHTS):
        return path.parent
    return path if (path / MODEL).exists() or (path / MODEL).is_symlink() else None


def sealing_file(path: Path) -> Path:
    """The file whose digest stands for the model that a path names: a folder's `model.json`, else the file itself."""
    folder = folder_of(path)
    return path if folder is None else folder / MODEL


def read_folder(folder: Path, sha256: str | None = None) -> dict[str, Any]:
    """The model dict of a folder, for `pipeline.model.check.check_model`.

    Args:
        folder: The folder.
        sha256: A digest of its `model.json` that you trust; nothing else is opened unless it matches.

    Raises:
        ModelFileError: It is damaged, not whole, or no model; the text says which file.
    """
    path = folder / MODEL
    data = _bytes(path, _MOST_JSON_BYTES)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256.strip().lower():
        raise ModelFileError(f"{path} has SHA-256 {digest}, not {sha256} as asked; the model was not loaded")
    with parsed(ModelFileError, f"{path} cannot be read as a model's JSON (", "); export the model again"):
        content = json.loads(data.decode("utf-8"), parse_constant=_no_number)
        _CONTENT(content, "")
        if content["version"] > VERSION:
            raise ModelFileError(f"{path} has version {content['version']}, this program reads {VERSION}; update it")
        sealed = seal_of(content)
    arrays = _arrays(folder, content["files"])
    if (seal := arrays.pop(SEAL, None)) is None or bytes(seal) != sealed:
        raise ModelFileError(f"{path} and {WEIGHTS} are not of one model, or one of them is damaged; export it again")
    parts = ModelParts(content["model"], arrays, _texts(folder, content["files"]))
    with parsed(ModelFileError, f"{path}: ", ""):
        return put_together(parts, str(folder))


def seal_of(content: Mapping[str, Any]) -> bytes:
    """SHA-256 of all that `model.json` says but the digests of the other files, as canonical JSON."""
    body = {name: value for name, value in content.items() if name != "files"}
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).digest()


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _bytes(path: Path, most: int | None = None) -> bytes:
    with parsed(ModelFileError, f"{path} cannot be read (", "); export the model again"), open_regular(path) as file:
        data = file.read() if most is None else file.read(most + 1)
    if most is not None and len(data) > most:
        raise ModelFileError(f"{path} is larger than the {most} bytes that are read")
    return data


def _compared(folder: Path, name: str, wanted: str) -> bytes:
    """The bytes of one of the folder's files, which are those that were written with it."""
    data = _bytes(folder / name)
    if (digest := hashlib.sha256(data).hexdigest()) != wanted:
        raise ModelFileError(
            f"{folder / name} is not what {MODEL} says: its SHA-256 is {digest}, expected {wanted:.80}; export the"
            " model again"
        )
    return data


def _arrays(folder: Path, files: Mapping[str, str]) -> dict[str, Array]:
    from safetensors.numpy import load

    data = _compared(folder, WEIGHTS, files[WEIGHTS])
    with parsed(ModelFileError, f"{folder / WEIGHTS} cannot be read as safetensors (", "); export the model again"):
        found: dict[str, Array] = load(data)
        # Tensors of types that NumPy does not have come as something else.
        return {name: np.asarray(array) for name, array in found.items()}


def _texts(folder: Path, files: Mapping[str, str]) -> dict[str, str]:
    """The texts of trees; a name that leads out of their folder names none."""
    texts = {}
    for name, digest in files.items():
        if name == WEIGHTS:
            continue
        kind, _, file = name.partition("/")
        if kind != "trees" or not file.removesuffix(".txt").replace("-", "").isdigit() or not isinstance(digest, str):
            raise ModelFileError(f"{folder / MODEL} names the file {name!r:.80}, which is no part of a model")
        with parsed(ModelFileError, f"{folder / name} cannot be read (", "); export the model again"):
            texts[name] = _compared(folder, name, digest).decode("utf-8")
    return texts
