"""Names: those that become a file or a folder, one component of a path on every system; those that people can say."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

SEPARATORS = "/\\:"
"""Characters that separate the parts of a path on some system."""

RESERVED = SEPARATORS + '*?"<>|'
"""Those, and characters that may not stand in a file name on some system."""

LONGEST = 200
"""Bytes of the longest name: most file systems allow 255, and endings such as `.parquet` are added."""

BEGUN = ".begun-by-reproduce"
"""A file in every run folder that a reproduction began. Only a folder with it is ever removed."""

REFIT = "-refit"
"""How the id of a configuration ends that is another one fit again on more photos: no configuration of its own."""


def refit_of(name: str) -> str:
    """What people call a configuration that was fit again, by what they call the configuration."""
    return f"{name} · refit"


def wrong_name(name: str, refused: str = RESERVED) -> str:
    """What keeps a text from being the name of a file or folder.

    Args:
        name: The text, from a file that anybody may have written.
        refused: Characters it may not hold; `SEPARATORS` for a file that is only read.

    Returns:
        The reason, to stand behind the name in an error; "" when the name is one component of a path.
    """
    if not name.strip():
        return "is empty"
    if name in (".", "..") or name.endswith((".", " ")) or name.startswith(" "):
        return "may not begin with a blank, end with a dot or blank, or be a folder's . or .."
    if wrong := next((letter for letter in name if letter in refused), ""):
        return f"holds {wrong!r}, which no part of a path may hold"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        return "holds a control character"
    if len(name.encode("utf-8")) > LONGEST:
        return f"is longer than {LONGEST} bytes"
    return ""


def tidied(name: str) -> str:
    """The name with a dash for every reserved character, such as those in `hf-hub:timm/resnet18`."""
    return name.translate(str.maketrans(RESERVED, "-" * len(RESERVED)))


_ALONE = ("head", "optimizer", "loss", "schedule", "backbone", "use", "na", "run")
"""Settings whose values say by themselves what they are."""

_FIRST = ("head", "optimizer", "lr", "C", "hidden", "dropout", "loss", "weight_decay")
"""Settings that are named before others, most telling first."""


def spoken(settings: Sequence[Mapping[str, object]]) -> list[str]:
    """What people call configurations: the head, then what tells it from those that are alike so far.

    Args:
        settings: Per configuration its settings by name, in the order in which they are to be said after `_FIRST`.

    Returns:
        Such as `linear · sgd · lr 0.01`; equal settings have equal names.
    """
    names = [[_said("head", each) or "?"] for each in settings]
    order = dict.fromkeys((*_FIRST, *(field for each in settings for field in each)))
    groups = _by(settings, range(len(settings)), "head")
    for field in order:
        split = [_by(settings, group, field) for group in groups]
        for parts in split:
            for i in (i for part in parts for i in part if len(parts) > 1):
                names[i].append(_said(field, settings[i]))
        groups = [part for parts in split for part in parts]
    return [" · ".join(filter(None, said)) for said in names]


def _by(settings: Sequence[Mapping[str, object]], group: Sequence[int], field: str) -> list[list[int]]:
    parts: dict[str, list[int]] = {}
    for i in group:
        parts.setdefault(str(settings[i].get(field, "")), []).append(i)
    return list(parts.values())


def _said(field: str, settings: Mapping[str, object]) -> str:
    value = str(settings.get(field, "")).removeprefix("(").removesuffix(")").removesuffix(",").removesuffix(".0")
    return value if not value or field in _ALONE else f"{field.replace('_', ' ')} {value}"
