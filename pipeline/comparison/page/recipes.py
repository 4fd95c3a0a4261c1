"""How a run was made, as command lines: what run.json records of its options, put back into words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.features.vectors.origin import Origin, origins_of
from pipeline.options import (
    BackboneOptions,
    CacheKeyOptions,
    DataOptions,
    EvaluateOptions,
    ExtractOptions,
    FitOptions,
    SplitOptions,
)
from pipeline.options.forms.words import command, recorded

FIT_GROUPS = {"data": DataOptions, "key": CacheKeyOptions, "split": SplitOptions, "fit": FitOptions}
"""The parts of run.json's options, and where their defaults stand."""


@dataclass(frozen=True)
class Recipe:
    """One run: the commands that make it again, the versions it was made with, and the digests it must agree with.

    Attributes:
        run: Its name.
        commands: extract, then fit-heads, or evaluate alone; empty when run.json does not hold the options.
        versions: Package to version.
        digests: What was digested to its SHA-256 in hexadecimal.
        host: Processor and cores.
    """

    run: str
    commands: tuple[str, ...]
    versions: Mapping[str, str]
    digests: Mapping[str, str]
    host: str


def recipe(name: str, info: Mapping[str, Any]) -> Recipe:
    """The recipe of a run.

    Args:
        name: Of the run.
        info: Its run.json; what it lacks is left out.

    Returns:
        The recipe.
    """
    options, host = (_mapping(info.get(part)) for part in ("options", "host"))
    data, fit, origins = _mapping(options.get("data")), _mapping(options.get("fit")), origins_of(info)
    commands: tuple[str, ...] = ()
    if data and fit:
        commands = (*(_extract(info, origin, data, fit) for origin in origins), _fit_heads(options))
    if tried := _mapping(options.get("evaluate")):
        commands = (command("evaluate", recorded(DataOptions, data) | recorded(EvaluateOptions, tried)),)
    digests = {"data": info.get("data_digest"), "split": info.get("split_digest")}
    for origin, source in zip(origins, info.get("sources") or [info], strict=True):
        of = f" of {origin}" if len(origins) > 1 else ""
        digests[f"cache key{of}"] = source.get("cache_digest")
        digests[f"backbone weights{of}"] = origin.cache_key.get("weights_sha256")
        digests |= {f"features {block['name']}{of}": block.get("digest") for block in origin.blocks}
    return Recipe(
        run=name,
        commands=commands,
        versions={str(package): str(version) for package, version in _mapping(info.get("versions")).items()},
        digests={what: str(digest) for what, digest in digests.items() if digest},
        host=", ".join(f"{what} {value}" for what, value in host.items()),
    )


def _extract(info: Mapping[str, Any], origin: Origin, data: Mapping[str, Any], fit: Mapping[str, Any]) -> str:
    cache_key = origin.cache_key
    backbone = {"backbone": cache_key.get("architecture"), "weights": origin.weights_source or None}
    transform = {"size": cache_key.get("size"), "resize": cache_key.get("fit")}
    features = {
        "cache": fit.get("cache"),
        "features": [block["name"] for block in origin.blocks],
        "views": info.get("views"),
        "precision": cache_key.get("precision"),
    }
    # The backbone is said even where it is the default: it is what a reader looks for first.
    options = recorded(DataOptions, data) | backbone | recorded(BackboneOptions, transform)
    return command("extract", options | recorded(ExtractOptions, features))


def _fit_heads(options: Mapping[str, Any]) -> str:
    words: dict[str, Any] = {}
    for group, kind in FIT_GROUPS.items():
        words |= recorded(kind, _mapping(options.get(group)))
    return command("fit-heads", words)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
