"""Which recipe a training follows, and why: the one that was asked for, or the one that suits the catalogue."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.catalogue import Catalogue, coded
from pipeline.cli.parameters import FileOptions
from pipeline.errors import BadImage, counted
from pipeline.features.backbone.decoding import decode
from pipeline.features.backbone.photo_file import read_photo
from pipeline.machine import memory_limit
from pipeline.options.forms.yaml_file import all_now_named, find_preset, load_yaml

FEW_PHOTOS = 300
"""Below so many the validation part has some 50 photos, too few to tell an elaborate recipe from a plain one."""

FEW_PER_VALUE = 300
"""Photos per value up to which one single-valued attribute gets the category head; it was chosen on a hundred or so."""

LARGER_SQUARE = 160
"""Side that a network is trained at for photos which are no thumbnails: 2.8 times the work of the preset's 96."""

_LOOKED_AT, _SMALL = 32, 112

_BYTES_PER_PHOTO = 64 * 1024
"""Vectors of `best` (some 3,900 numbers in two views) and their copies in memory, rounded up."""


@dataclass(frozen=True)
class Recipe:
    """What a training follows.

    Attributes:
        preset: Name of a preset; None for what --config, the words and the defaults say.
        why: Why this one, to be said.
        sections: Commands that its files have a section for.
        square: What `finetune` sees, where nobody has said and the preset's own would waste the photos.
    """

    preset: str | None
    why: str
    sections: frozenset[str] = frozenset()
    square: int | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return self.preset or "your own"


def choose_recipe(files: FileOptions, catalogue: Catalogue, begun: Recipe | None = None) -> Recipe:
    """The recipe of a training.

    Args:
        files: The preset and the config file asked for. A config file that says how heads are fit is a recipe itself.
        catalogue: What is to be learnt.
        begun: What the folder was begun with: months are compared by one recipe, whatever new photos look like.

    Raises:
        OptionError: There is no such preset, or a file cannot be read.
    """
    stated = {} if files.config is None else _content(files.config)
    if files.preset is not None:
        sections = _sections(find_preset(files.preset)) | stated.keys()
        return Recipe(files.preset, "as asked for", sections, _square(sections, stated, catalogue, begun))
    if "fit-heads" in stated:
        return Recipe(None, f"{files.config} says how heads are fit", frozenset(stated))
    if begun is None or begun.preset is None:
        preset, why = suited(catalogue, memory_limit(None))
        return Recipe(preset, why, _sections(find_preset(preset)) | stated.keys())
    sections = _sections(find_preset(begun.preset)) | stated.keys()
    return Recipe(begun.preset, "as this folder was begun", sections, _square(sections, stated, catalogue, begun))


def _square(
    sections: frozenset[str], stated: Mapping[str, Any], catalogue: Catalogue, begun: Recipe | None
) -> int | None:
    if "finetune" not in sections or "size" in stated or "size" in (stated.get("finetune") or {}):
        return None
    if begun is not None:
        return begun.square
    return None if thumbnails(catalogue) else LARGER_SQUARE


def thumbnails(catalogue: Catalogue) -> bool:
    """Whether the photos are too small to show more in a larger square: half of those looked at, or more, are."""
    looked_at = np.unique(np.linspace(0, len(catalogue) - 1, _LOOKED_AT).astype(np.int64))
    sides = []
    for row in looked_at.tolist():
        with contextlib.suppress(BadImage, OSError):
            sides.append(min(decode(read_photo(catalogue.paths[row]), enough=_SMALL + 1).shape[:2]))
    return not sides or float(np.median(sides)) <= _SMALL


def suited(catalogue: Catalogue, memory: int) -> tuple[str, str]:
    """The preset that suits a catalogue, and why.

    Args:
        catalogue: Its photos and labels.
        memory: Bytes that vectors may take.
    """
    photos, attributes = len(catalogue), catalogue.attributes
    if photos < FEW_PHOTOS:
        return "quick", f"{counted(photos, 'photo')} are too few to tell an elaborate recipe from a plain one"
    if photos * _BYTES_PER_PHOTO > memory:
        return "quick", f"the vectors of {counted(photos, 'photo')} for best do not fit into memory"
    values = {value for cell in _cells(catalogue, attributes[0]) for value in cell or ()}
    single = all(len(cell or ()) < 2 for cell in _cells(catalogue, attributes[0]))
    if len(attributes) == 1 and single and photos <= FEW_PER_VALUE * len(values):
        return "category-head", f"one attribute of {counted(len(values), 'value')}, one value per photo"
    return "best", f"{counted(photos, 'photo')}, {counted(len(attributes), 'attribute')}"


def _cells(catalogue: Catalogue, attribute: str) -> list[tuple[str, ...] | None]:
    return list(coded(catalogue.cells[attribute]).compact().table)


def _sections(path: Path) -> frozenset[str]:
    return frozenset(_content(path))


def _content(path: Path) -> dict[str, Any]:
    return all_now_named(load_yaml(path), str(path))
