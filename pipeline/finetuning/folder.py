"""The folder of a training: where it is, whether it may go on there, and what its files say of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pipeline.catalogue import write_split
from pipeline.catalogue.split_digest import move_split, remove_split
from pipeline.errors import RunError
from pipeline.features.backbone.network import Backbone
from pipeline.finetuning.checkpoint import NAME, require_same
from pipeline.finetuning.examples import Examples, TrainingRows
from pipeline.finetuning.network.model import autocast_type
from pipeline.machine import choose_device
from pipeline.options import BackboneOptions, FinetuneOptions
from pipeline.options.forms.words import now_named
from pipeline.system import file_digest, parsed, read_text, write_text

WEIGHTS, SPLIT, RUN, HISTORY = "backbone.safetensors", "split.csv", "run.json", "history.csv"
_STARTED = "started.json"
_MOST_BYTES = 2**20
_ELSEWHERE = ("out", "memory", "workers", "device", "refit", "final")
"""Options that change where or how fast a training runs, not its numbers."""


def folder_of(backbone: BackboneOptions, options: FinetuneOptions) -> Path:
    """Where this training lives: what was asked for, else a name that the same command gives again."""
    on = "-".join(options.attribute) or "all"
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{backbone.backbone}-{on}")[:100]
    folder = options.out or Path("finetuned") / name
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "lock").exists())):
        raise RunError(f"{folder} already exists and holds no training; name another folder with --out, or remove it")
    return folder


def made_with(
    folder: Path, backbone: Backbone, rows: TrainingRows, options: FinetuneOptions, learnt: Sequence[Examples]
) -> dict[str, Any]:
    """What decides the numbers, as JSON values; split.csv is written beside its final place and renamed later."""
    new = folder / f".{SPLIT}.new"
    write_split(new, rows.catalogue.filenames, rows.photos.ids, rows.groups, rows.split)
    labels = hashlib.sha256(repr((rows.schema.labels, rows.schema.single)).encode())
    for part in learnt:
        labels.update(part.rows.tobytes() + part.Y.tobytes() + part.mask.tobytes())
    chosen = {name: value for name, value in asdict(options).items() if name not in _ELSEWHERE}
    facts = {
        "backbone": backbone.name,
        "start": backbone.weights_sha256,
        "transform": asdict(backbone.transform),
        "split": file_digest(new),
        "labels": labels.hexdigest(),
        **chosen,
        "amp": _precision(options),
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def _precision(options: FinetuneOptions) -> str:
    """The number type that this machine computes in, so that no other one goes on with it in another."""
    kind = autocast_type(options.amp, torch.device(choose_device(options.device)))
    return "off" if kind is None else str(kind).removeprefix("torch.")


def begin(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Start or go on in the folder; True when the training it holds is finished.

    Raises:
        OptionError: The folder holds another training.
        RunError: What the folder says of its training cannot be read.
    """
    new, finished = folder / f".{SPLIT}.new", (folder / RUN).is_file() and (folder / WEIGHTS).is_file()
    try:
        if (finished or (folder / NAME).is_file()) and (folder / _STARTED).is_file():
            with parsed(RunError, f"{folder / _STARTED} is damaged (", "); name another folder with --out"):
                held = json.loads(read_text(folder / _STARTED, _MOST_BYTES))
                named = {now_named(name).replace("-", "_"): value for name, value in held.items()}
            require_same(folder, facts, named)
        if finished:
            (folder / NAME).unlink(missing_ok=True)
            return True
        move_split(new, folder / SPLIT)
    finally:
        remove_split(new)
    text = json.dumps(facts, indent=1)
    write_text(folder / _STARTED, text)
    return False
