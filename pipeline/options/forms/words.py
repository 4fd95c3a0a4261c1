"""Options as the words of a command line: for commands that are run, and for those that are shown to be typed."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from pipeline.options import BackboneOptions, DataOptions, FitOptions, SplitOptions, VectorKind

PROGRAM = "selvedge" if __name__.startswith("selvedge.") else "python run.py"
"""What a user types in front of a command: the installed program, or the script of a clone."""

FORMER_NAMES = {
    "keys": "attributes",
    "key": "attribute",
    "category-keys": "category-attributes",
    "fit": "resize",
    "drop-key": "drop-cache-key",
}
"""Options by the name they had before, which command lines, YAML files and run.json may still use."""


def now_named(option: str) -> str:
    """The name of an option as the command line has it now."""
    name = option.replace("_", "-")
    return FORMER_NAMES.get(name, name)


def by_initials(option: str, options: Collection[str]) -> str:
    """The option that the initials of an unknown one name, as lr of learning-rate; "" when there is none.

    The letters of others may be nearer to it.
    """
    words = option.replace("_", "-").split("-")
    initials = "".join(word[:1] for word in words)
    return initials if len(words) > 1 and initials in options else ""


def words_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Options by name as words; None and False are left out, several values are joined by commas."""
    words: list[str] = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words.append(as_text(value))
    return tuple(words)


def as_text(value: object) -> str:
    """The value of an option as it is typed."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def changed(*every: Any) -> dict[str, Any]:
    """The options of these dataclasses that differ from their defaults, by name."""
    return {
        field.name: getattr(options, field.name)
        for options in every
        for field in fields(options)
        if getattr(options, field.name) != field.default
    }


def recorded(kind: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a class that a JSON file records with other values than the defaults; former names are known."""
    now = {now_named(name).replace("-", "_"): value for name, value in given.items()}
    by_name = {field.name: field for field in fields(kind)}
    return {
        name: now[name]
        for name, field in by_name.items()
        if now.get(name) is not None and as_text(now[name]) != as_text(field.default)
    }


def command(name: str, options: Mapping[str, Any] | None = None) -> str:
    """One command as a line to be typed into a shell."""
    return typed((name, *words_of(options or {})))


def typed(words: Sequence[str]) -> str:
    """Words of one command as a line to be typed into a shell."""
    return f"{PROGRAM} {shlex.join(words)}"


def commands_to_compare(
    data: DataOptions, backbone: BackboneOptions, split: SplitOptions, weights: Path, own_heads: bool
) -> tuple[str, ...]:
    """Commands that put a frozen backbone and the same one fine-tuned, then frozen, into one table.

    Args:
        data: The catalogue.
        backbone: The frozen backbone.
        split: The split that the training was given; only how products are grouped is taken over.
        weights: The fine-tuned file; split.csv lies beside it.
        own_heads: Whether the heads that it was trained under know every attribute.
    """
    photos = changed(data)
    groups = SplitOptions(split_from=weights.parent, group_column=split.group_column, group_regex=split.group_regex)
    commands, runs = [], []
    for name, source in (("frozen", backbone.weights), ("fine-tuned", str(weights))):
        cache_key = changed(VectorKind(**asdict(replace(backbone, weights=source))))
        runs.append(f"runs/{weights.parent.name}-{name}")
        commands.append(command("extract", photos | cache_key))
        heads = {"heads": (*FitOptions().heads, "network")} if own_heads and source == str(weights) else {}
        commands.append(command("fit-heads", photos | cache_key | changed(groups) | heads | {"out": runs[-1]}))
    return (*commands, f"{command('compare')} {shlex.join(runs)}")
