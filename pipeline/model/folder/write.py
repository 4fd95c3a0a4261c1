"""Writing a model as a folder, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.features.vectors.origin import origins_of
from pipeline.model.folder.parts import take_apart
from pipeline.model.folder.preprocessing import preprocessing
from pipeline.model.folder.read import FORMAT, MODEL, SEAL, VERSION, WEIGHTS, seal_of


def write_parts(model: Mapping[str, Any], folder: Path, onnx: Mapping[str, Any] | None = None) -> str:
    """Write `model.json`, `weights.safetensors` and the texts of trees into a folder that is there.

    Args:
        model: A checked model dict.
        folder: The folder.
        onnx: What is to be said of ONNX files beside them.

    Returns:
        SHA-256 of `model.json`, which has those of the others.

    Raises:
        HeadError: A member of the model is an object that can only be pickled.
    """
    from safetensors.numpy import save

    parts = take_apart(model)
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "model": parts.fields,
        "preprocessing": [preprocessing(origin.cache_key) for origin in origins_of(model)],
    }
    content |= {"onnx": dict(onnx)} if onnx else {}
    # As it will be read: tuples become lists, and every number its shortest text.
    content = json.loads(json.dumps(content, allow_nan=False))
    seal = np.frombuffer(seal_of(content), np.uint8)
    arrays = {name: np.ascontiguousarray(array) for name, array in parts.arrays.items()}
    files = {WEIGHTS: save({**arrays, SEAL: seal})}
    files |= {name: text.encode("utf-8") for name, text in parts.texts.items()}
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    text = json.dumps({**content, "files": digests}, indent=1, ensure_ascii=False) + "\n"
    (folder / MODEL).write_text(text, encoding="utf-8", newline="\n")
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
