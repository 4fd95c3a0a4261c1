"""What a cache folder remembers of networks that were loaded for it, so that the next start needs no PyTorch and timm.

    runtimes/<digest of what was asked for>.json
        {"asked": {...}, "made_with": {...}, "weights": {"sha256": ..., "hub": ...}, "network": {...}, "checksum": ...}

It is believed only if all of it is as it was: the same words (backbone, weights, size, resize mode), the same bytes in
the weights file, the same versions of PyTorch, timm and NumPy and of the code around this file, and its own checksum.
Anything else is loaded the whole way, which writes it anew. Weights drawn at random have no file, so they are never
remembered; nor is anything under a PyTorch whose resize NumPy does not repeat bit by bit, because a start without
PyTorch resizes with NumPy.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

from cache import Block, digest_of
from pipeline import shapes
from pipeline.errors import PipelineError
from pipeline.features.backbone.network.weights_file import HubFile, digest_of_file, weights_file
from pipeline.features.backbone.resize import is_exact
from pipeline.features.backbone.transform import Transform
from pipeline.features.converted_models import store_record
from pipeline.options import BackboneOptions
from pipeline.system import parsed, read_text

_MOST_BYTES = 2**20
_TRANSFORM = {
    "size": shapes.whole(1),
    "resize_mode": shapes.text,
    "interpolation": shapes.text,
    "mean": shapes.sequence(shapes.number()),
    "std": shapes.sequence(shapes.number()),
    "crop_pct": shapes.number(0),
}
_BLOCK = {"name": shapes.text, "dim": shapes.whole(1), "params": shapes.mapping(shapes.anything)}
_NETWORK = {
    "weights_sha256": shapes.text,
    "transform": shapes.record(_TRANSFORM),
    "blocks": shapes.sequence(shapes.record(_BLOCK)),
}
_HUB = {"repo": shapes.text, "name": shapes.text, "revision": shapes.text}
_RECORD = shapes.record(
    {
        "asked": shapes.mapping(shapes.anything),
        "made_with": shapes.mapping(shapes.text),
        "weights": shapes.record({"sha256": shapes.text, "hub": shapes.optional(shapes.record(_HUB))}),
        "network": shapes.record(_NETWORK),
        "checksum": shapes.text,
    }
)


class _Distrusted(PipelineError):
    """A record that is damaged, or of something else than is there now."""


@dataclass(frozen=True)
class Known:
    """What names the vectors of a network.

    Attributes:
        weights_sha256: Canonical digest of its weights.
        transform: How photos are shown to it.
        blocks: What it gives.
    """

    weights_sha256: str
    transform: Transform
    blocks: tuple[Block, ...]


def recall(store: Path, asked: BackboneOptions) -> Known | None:
    """What is remembered of this network, if everything is as it was; else None."""
    try:
        with parsed(_Distrusted, ""):
            record = json.loads(read_text(_place(store, asked), _MOST_BYTES))
            _RECORD(record, "")
            _require_unchanged(record, asked)
            return _from_json(record["network"])
    except PipelineError:
        return None


def remember(store: Path, asked: BackboneOptions, known: Known, weights: tuple[str, HubFile | None]) -> None:
    """Write down what was found, for `recall`.

    Args:
        store: The folder of converted models.
        asked: The words that it was found by.
        known: What was found.
        weights: SHA-256 of the file that the weights were read from, and which one of the hub that is.
    """
    sha256, hub = weights
    if not is_exact():
        return
    # A version or a store that cannot be had is no reason to stop: the next start takes as long as this one.
    with contextlib.suppress(OSError, metadata.PackageNotFoundError):
        content = {
            "asked": asdict(asked),
            "made_with": made_with(),
            "weights": {"sha256": sha256, "hub": asdict(hub) if hub else None},
            "network": _to_json(known),
        }
        store_record(_place(store, asked), json.dumps({**content, "checksum": digest_of(content)}, indent=1) + "\n")


def _require_unchanged(record: Mapping[str, Any], asked: BackboneOptions) -> None:
    content = {name: part for name, part in record.items() if name != "checksum"}
    if record["checksum"] != digest_of(content) or record["asked"] != asdict(asked):
        raise _Distrusted("damaged, or of another network")
    if record["made_with"] != made_with():
        raise _Distrusted("made with other versions")
    hub = record["weights"]["hub"]
    path = weights_file(asked.backbone, asked.weights, HubFile(**hub) if hub else None)
    if digest_of_file(path) != record["weights"]["sha256"]:
        raise _Distrusted("the weights file is another one, or gone")


def made_with() -> dict[str, str]:
    """What turns a weights file, a name and a photo into a vector, besides those: versions and our code."""
    return {
        "torch": torch_version(),
        "timm": metadata.version("timm"),
        "numpy": metadata.version("numpy"),
        "machine": platform.machine(),
        "code": code_digest(Path(__file__).resolve().parents[1]),
    }


@lru_cache(1)
def torch_version() -> str:
    """The installed PyTorch, with its build (2.15.0+cpu), read without importing it."""
    if "torch" not in sys.modules and (spec := util.find_spec("torch")) and spec.origin:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
        if found := re.search(r"^__version__ = ['\"]([^'\"]+)['\"]", text, re.MULTILINE):
            return found[1]
    import torch

    return str(torch.__version__)


@lru_cache
def code_digest(folder: Path) -> str:
    """SHA-256 (hex) of the Python files in a folder and those below it."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        total.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()


def _place(store: Path, asked: BackboneOptions) -> Path:
    return store / f"{digest_of(asdict(asked))[:32]}.json"


def _to_json(known: Known) -> dict[str, Any]:
    blocks = [block.to_json() for block in known.blocks]
    return {"weights_sha256": known.weights_sha256, "transform": asdict(known.transform), "blocks": blocks}


def _from_json(network: Mapping[str, Any]) -> Known:
    said: dict[str, Any] = {**network["transform"]}
    transform = Transform(**{**said, "mean": tuple(said["mean"]), "std": tuple(said["std"])})
    blocks = tuple(Block.from_json(block) for block in network["blocks"])
    return Known(network["weights_sha256"], transform, blocks)
