"""What the parameters of several commands share: how dataclasses become options, and options from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.options import BackboneOptions, DataOptions, ExtractOptions, FitOptions, SplitOptions

Flat = Parameter(name="*")


NO_NEGATIVE = Parameter(negative=())

WordsByOption = Mapping[str, tuple[str, ...]]
"""Option (without its dashes) -> the words that gave it on the command line."""

Typed = Annotated[WordsByOption, Parameter(parse=False)]
"""What was typed, for a command that hands its words on; nothing that a file states is among it."""

HANDED_ON = {"train": ("extract", "fit-heads", "finetune")}
"""Commands that hand what was typed on to others, which take their own sections of a file."""

OWN = frozenset({"out"})
"""Options of those that such a command keeps to itself."""

NOTHING_TYPED: WordsByOption = {}


@dataclass(frozen=True)
class FileOptions:
    """Options from files.

    Attributes:
        config: YAML file with options for the whole flow; the command line wins over it.
        preset: A named set of options from the configs folder, such as quick or best; --config and the command line
            win.
    """

    config: Path | None = None
    preset: str | None = None


@dataclass(frozen=True)
class DemoOptions:
    """What the demo does.

    Attributes:
        out: Folder for everything the demo makes.
        images: Number of photos in the generated catalogue.
        seed: Seed of the generated catalogue.
    """

    out: Path = Path("demo")
    images: int = 600
    seed: int = 0


@dataclass(frozen=True)
class StepOptions:
    """What a training hands on to its steps, which read it from the words that were typed.

    Attributes:
        data: Where the photos and their labels are.
        split: How they are divided.
        backbone: Which network sees them.
        heads: What is fit on their vectors; before the extraction, whose --batch-size it hides.
        extraction: How they become vectors.
    """

    data: Annotated[DataOptions, Flat] = field(default_factory=DataOptions)
    split: Annotated[SplitOptions, Flat] = field(default_factory=SplitOptions)
    backbone: Annotated[BackboneOptions, Flat] = field(default_factory=BackboneOptions)
    heads: Annotated[FitOptions, Flat] = field(default_factory=FitOptions)
    extraction: Annotated[ExtractOptions, Flat] = field(default_factory=ExtractOptions)


@dataclass(frozen=True)
class TrainOptions:
    """What one training makes.

    Attributes:
        out: Folder for everything it makes (default: runs/train- and the catalogue's name); an interrupted one goes on
            in it.
        baselines: Heads that are fit beside the recipe, on the pooled vectors alone, to be compared with it; none for
            no such run.
        beside: Frozen backbones beside the recipe's own, with weights of the same name: a recipe that averages heads
            fits them on the vectors of each, another one on those of all.
        init: Train nothing: write a YAML file of the catalogue that was found, to look at and change, for --config.
    """

    out: Path | None = None
    baselines: tuple[str, ...] = ("logreg",)
    beside: tuple[str, ...] = ()
    init: bool = False
