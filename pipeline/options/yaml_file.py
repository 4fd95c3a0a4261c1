"""One YAML file for the whole flow: shared options at the top, one section per command below.

    backbone: resnet18          # every command that has this option
    extract:
      features: [pooled, levels]
    fit-heads:
      heads: [linear, mlp]

A section wins over the top; the command line wins over both. `weights`, `images` and `seed` at the top are the
backbone's, the catalogue's and the heads': predict, sample, demo and compare take theirs from their own section, as
finetune takes how it trains.
Paths are relative to the working directory.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import OptionError, nearest
from pipeline.options.words import FORMER_NAMES, PROGRAM

OWN_MEANING = {
    "predict": ("weights",),
    "sample": ("images", "seed"),
    "demo": ("images", "seed"),
    "compare": ("seed",),
    "finetune": (
        *("lr", "weight-decay", "momentum", "betas", "schedule", "epochs", "batch-size"),
        *("patience", "monitor", "seed", "memory"),
    ),
}
"""Options whose name means something else in these commands: only their own section sets them."""

PRESETS = Path(__file__).resolve().parents[2] / "configs"


def read_config(path: Path, known: Mapping[str, Collection[str]]) -> dict[str, dict[str, Any]]:
    """Options per command, as the file states them.

    Args:
        known: Command -> the names of its options.

    Raises:
        OptionError: For a file that cannot be read, is not a mapping, or names an option or command that does not exist
            (the nearest one is suggested).
    """
    content = load_yaml(path)
    if is_plan(content):
        raise OptionError(f"{path} is a plan of several runs; run it with: {PROGRAM} reproduce {path}")
    shared: dict[str, Any] = {}
    result: dict[str, dict[str, Any]] = {command: {} for command in known}
    everything = sorted({name for names in known.values() for name in names} | set(known))
    for raw, value in content.items():
        name = now_named(str(raw))
        if name in known and (isinstance(value, dict) or value is None):
            section = {now_named(str(k)): v for k, v in (value or {}).items()}
            for option in section:
                check_option(option, sorted(known[name]), f"{path}, section {name}")
            result[name] = section
        else:
            check_option(name, everything, str(path))
            shared[name] = value
    for command, names in known.items():
        own = OWN_MEANING.get(command, ())
        result[command] = {k: v for k, v in shared.items() if k in names and k not in own} | result[command]
    return result


def load_yaml(path: Path) -> dict[Any, Any]:
    """The mapping that a YAML file holds; OptionError when it cannot be read or holds something else."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"cannot read the config file {path}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Beside wrong syntax: a number of thousands of digits, an impossible date, brackets nested a thousand times.
        raise OptionError(f"{path} is not valid YAML: {error}") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise OptionError(f"{path} holds a {type(content).__name__}; expected a mapping of option names to values")
    return content


def now_named(option: str) -> str:
    """The name of an option as the command line has it now."""
    name = option.replace("_", "-")
    return FORMER_NAMES.get(name, name)


def is_plan(content: Mapping[Any, Any]) -> bool:
    """Whether this is what `reproduce` runs, and no set of options."""
    return "extractions" in content and "runs" in content


def find_preset(name: str) -> Path:
    """The file of a named preset; OptionError lists the presets there are."""
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml") if not is_plan(load_yaml(p)))) or "none"
        raise OptionError(f"no preset named {name!r}; there are: {there}")
    return path


def check_option(name: str, known: Collection[str], where: str) -> None:
    """OptionError, with the nearest of the known options, for one that is not among them."""
    if name not in known:
        near = nearest(name, known)
        hint = f"; did you mean {near!r}?" if near else f"; known: {', '.join(known)}"
        raise OptionError(f"{where}: unknown option {name!r}{hint}")
