"""What the parameters of several commands share: how dataclasses become options, and options from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

Flat = Parameter(name="*")


NO_NEGATIVE = Parameter(negative=())


@dataclass(frozen=True)
class FileOptions:
    """Options from files.

    Attributes:
        config: YAML file with options for the whole flow; the command line wins over it.
        preset: A named set of options from the configs folder, such as best; --config and the command line win.
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
