"""Options as the words of a command line, for commands that are shown to be typed."""

from __future__ import annotations

import shlex
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from pipeline.options import BackboneOptions, DataOptions, KeyOptions, SplitOptions


def words_of(*every: Any) -> str:
    """The options of these dataclasses that differ from their defaults, quoted for a shell."""
    words: list[str] = []
    for options in every:
        for field in fields(options):
            value = getattr(options, field.name)
            if value != field.default:
                text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                words += [f"--{field.name.replace('_', '-')}", shlex.quote(text)]
    return " ".join(words)


def commands_to_compare(
    data: DataOptions, backbone: BackboneOptions, split: SplitOptions, weights: Path
) -> tuple[str, ...]:
    """Commands that put a frozen backbone and the same one fine-tuned, then frozen, into one table.

    weights : the fine-tuned file; split.csv lies beside it.
    """
    photos = words_of(data)
    same_split = words_of(replace(SplitOptions(), split_from=weights.parent, **_groups(split)))
    commands, runs = [], []
    for name, source in (("frozen", backbone.weights), ("fine-tuned", str(weights))):
        key = words_of(KeyOptions(**asdict(replace(backbone, weights=source))))
        runs.append(shlex.quote(f"runs/{weights.parent.name}-{name}"))
        commands.append(f"python run.py extract {photos} {key}")
        commands.append(f"python run.py fit-heads {photos} {key} {same_split} --out {runs[-1]}")
    return (*commands, f"python run.py compare {' '.join(runs)}")


def _groups(split: SplitOptions) -> dict[str, Any]:
    return {"group_column": split.group_column, "group_regex": split.group_regex}
