"""How a run was made, as command lines: what run.json records of its options, put back into words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.options import BackboneOptions, CacheKeyOptions, DataOptions, ExtractOptions, FitOptions, SplitOptions
from pipeline.options.words import command, recorded

FIT_GROUPS = {"data": DataOptions, "key": CacheKeyOptions, "split": SplitOptions, "fit": FitOptions}
"""The parts of run.json's options, and where their defaults stand."""


@dataclass(frozen=True)
class Recipe:
    """One run: the commands that make it again, the versions it was made with, and the digests it must agree with.

    Attributes:
        run: Its name.
        commands: extract, then fit-heads; empty when run.json does not hold the options.
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
    options, cache_key, host = (_mapping(info.get(part)) for part in ("options", "cache_key", "host"))
    data, fit = _mapping(options.get("data")), _mapping(options.get("fit"))
    commands = (_extract(info, cache_key, data, fit), _fit_heads(options)) if data and fit else ()
    digests = {
        "data": info.get("data_digest"),
        "split": info.get("split_digest"),
        "cache key": info.get("cache_digest"),
        "backbone weights": cache_key.get("weights_sha256"),
    }
    digests |= {f"features {b.get('name')}": b.get("digest") for b in info.get("blocks") or () if isinstance(b, dict)}
    return Recipe(
        run=name,
        commands=commands,
        versions={str(package): str(version) for package, version in _mapping(info.get("versions")).items()},
        digests={what: str(digest) for what, digest in digests.items() if digest},
        host=", ".join(f"{what} {value}" for what, value in host.items()),
    )


def _extract(
    info: Mapping[str, Any], cache_key: Mapping[str, Any], data: Mapping[str, Any], fit: Mapping[str, Any]
) -> str:
    backbone = {"backbone": cache_key.get("architecture"), "weights": info.get("weights_source")}
    transform = {"size": cache_key.get("size"), "resize": cache_key.get("fit")}
    features = {
        "cache": fit.get("cache"),
        "features": [block["name"] for block in info.get("blocks") or ()],
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
