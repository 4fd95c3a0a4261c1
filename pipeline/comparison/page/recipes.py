"""How a run was made, as command lines: what run.json records of its options, put back into words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from pipeline.options import BackboneOptions, DataOptions, ExtractOptions, FitOptions, KeyOptions, SplitOptions

FIT_GROUPS = {"data": DataOptions, "key": KeyOptions, "split": SplitOptions, "fit": FitOptions}
"""The parts of run.json's options, and where their defaults stand."""


@dataclass(frozen=True)
class Recipe:
    """One run: the commands that make it again, the versions it was made with, and the digests it must agree with.

    commands : extract, then fit-heads; empty when run.json does not hold the options. host : processor and cores.
    """

    run: str
    commands: tuple[str, ...]
    versions: Mapping[str, str]
    digests: Mapping[str, str]
    host: str


def recipe(name: str, info: Mapping[str, Any]) -> Recipe:
    """The recipe of a run, from its run.json."""
    options, key, host = _mapping(info.get("options")), _mapping(info.get("cache_key")), _mapping(info.get("host"))
    data, fit = _mapping(options.get("data")), _mapping(options.get("fit"))
    commands = (_extract(info, key, data, fit), _fit_heads(options)) if data and fit else ()
    digests = {
        "data": info.get("data_digest"),
        "split": info.get("split_digest"),
        "cache key": info.get("cache_digest"),
        "backbone weights": key.get("weights_sha256"),
    }
    digests |= {f"features {b.get('name')}": b.get("digest") for b in info.get("blocks") or () if isinstance(b, dict)}
    return Recipe(
        run=name,
        commands=commands,
        versions={str(package): str(version) for package, version in _mapping(info.get("versions")).items()},
        digests={what: str(digest) for what, digest in digests.items() if digest},
        host=", ".join(f"{what} {value}" for what, value in host.items()),
    )


def _extract(info: Mapping[str, Any], key: Mapping[str, Any], data: Mapping[str, Any], fit: Mapping[str, Any]) -> str:
    backbone = {"backbone": key.get("architecture"), "weights": info.get("weights_source")}
    seen = {"size": key.get("size"), "fit": key.get("fit")}
    features = {
        "cache": fit.get("cache"),
        "features": [block["name"] for block in info.get("blocks") or ()],
        "views": info.get("views"),
        "precision": key.get("precision"),
    }
    words = ["extract", *_words(DataOptions, data)]
    # The backbone is said even where it is the default: it is what a reader looks for first.
    words += [word for name, value in backbone.items() if value for word in (f"--{name}", str(value))]
    words += [*_words(BackboneOptions, seen), *_words(ExtractOptions, features)]
    return f"python run.py {shlex.join(words)}"


def _fit_heads(options: Mapping[str, Any]) -> str:
    words = ["fit-heads"]
    for group, kind in FIT_GROUPS.items():
        words += _words(kind, _mapping(options.get(group)))
    return f"python run.py {shlex.join(words)}"


def _words(kind: type, given: Mapping[str, Any]) -> Iterator[str]:
    """`--name value` for every field of an options class whose recorded value is not its default."""
    for field in fields(kind):
        value = given.get(field.name)
        default = None if field.default is MISSING else field.default
        if value is None or _text(value) == _text(default):
            continue
        name = field.name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        else:
            yield from (f"--{name}", _text(value))


def _text(value: object) -> str:
    return ",".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
