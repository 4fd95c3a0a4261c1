"""One YAML file for the whole flow: shared options at the top, one section per command below.

    backbone: resnet18          # every command that has this option
    extract:
      features: [pooled, levels]
    fit-heads:
      heads: [linear, mlp]

A section wins over the top; the command line wins over both. `weights`, `images` and `seed` at the top are the
backbone's, the catalogue's and the heads': predict, sample, demo and compare take theirs from their own section, as
finetune takes how it trains, and train its folder.
Paths are relative to the working directory.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import OptionError, nearest
from pipeline.options.forms.words import PROGRAM, by_initials, now_named
from pipeline.system import parsed, read_text, wrong_text

OWN_MEANING = {
    "train": ("out",),
    "predict": ("weights",),
    "sample": ("images", "seed"),
    "demo": ("images", "seed"),
    "compare": ("seed",),
    "finetune": (
        *("lr", "weight-decay", "momentum", "betas", "schedule", "epochs", "batch-size"),
        *("patience", "monitor", "seed", "memory", "near-duplicates", "regroup"),
        *("hidden", "dropout", "loss", "label-smoothing", "logit-adjust", "final"),
    ),
}
"""Options whose name means something else in these commands: only their own section sets them."""

PRESETS = Path(__file__).resolve().parents[3] / "configs"

MOST_BYTES = 2**20
"""Largest YAML file of options that is read."""

MOST_NODES, DEEPEST = 2_000_000, 50
"""Most values of a YAML file, those that aliases repeat counted each time, and the deepest nesting of them."""

LONGEST_TEXT = 131_072
"""Characters of the longest text in a YAML file; as many as a cell of a CSV file may have."""

MOST_VALUES = 1_000
"""Most values of one option of several: the command line's parser is quadratic in them."""

# Mappings merged into mappings grow by a factor each time.
_MOST_MERGED, _MOST_NAMES = 100, 10_000

# Beyond these a number takes long to become one, or cannot be written as decimals.
_LONGEST_NUMBER, _MOST_BITS = 5_000, 14_000


def read_config(path: Path, options_of: Mapping[str, Collection[str]]) -> dict[str, dict[str, Any]]:
    """Options per command, as the file states them.

    Args:
        options_of: Command -> the names of its options.

    Raises:
        OptionError: For a file that cannot be read, is not a mapping, names an option or command that does not exist
            (the nearest one is suggested), or names one twice.
    """
    content = load_yaml(path)
    if is_plan(content):
        raise OptionError(f"{path} is a plan of several runs; run it with: {PROGRAM} reproduce {path}")
    shared: dict[str, Any] = {}
    result: dict[str, dict[str, Any]] = {command: {} for command in options_of}
    everything = sorted({name for names in options_of.values() for name in names} | set(options_of))
    for name, value in all_now_named(content, str(path)).items():
        if name in options_of and (isinstance(value, dict) or value is None):
            section = all_now_named(value or {}, f"{path}, section {name}")
            for option in section:
                check_option(option, sorted(options_of[name]), f"{path}, section {name}")
            result[name] = section
        else:
            check_option(name, everything, str(path))
            shared[name] = value
    for command, names in options_of.items():
        own = OWN_MEANING.get(command, ())
        result[command] = {k: v for k, v in shared.items() if k in names and k not in own} | result[command]
    return result


def load_yaml(path: Path) -> dict[Any, Any]:
    """The mapping that a YAML file holds; OptionError when it cannot be read or holds something else."""
    with parsed(OptionError, f"cannot read the config file {path}: "):
        text = read_text(path, MOST_BYTES)
    with parsed(OptionError, f"{path} is not valid YAML: "):
        content = parse_yaml(text)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise OptionError(f"{path} holds a {type(content).__name__}; expected a mapping of option names to values")
    return content


def parse_yaml(text: str, text_only: bool = False) -> Any:
    """What a YAML text holds: plain values, lists and mappings.

    Args:
        text_only: Leave every value the text that was written, such as 06 and no.

    Raises:
        ValueError: A name stands twice in one mapping, a text cannot be written to a file, or there is too much of it.
        Exception: Whatever else the parser raises; to be read under `pipeline.system.parsed`.
    """
    import yaml

    content = yaml.load(text, Loader=_loader(text_only))
    _check_extent(content)
    return content


@cache
def _parts_of_loader(text_only: bool) -> tuple[Any, ...]:
    """The classes that a loader is made of: where libyaml is installed, it finds the tokens, several times faster."""
    import yaml
    from yaml import composer, constructor, resolver

    if not yaml.__with_libyaml__:
        return (yaml.BaseLoader if text_only else yaml.SafeLoader,)
    from yaml import cyaml

    kinds = (
        (constructor.BaseConstructor, resolver.BaseResolver)
        if text_only
        else (constructor.SafeConstructor, resolver.Resolver)
    )
    return (
        composer.Composer,
        cyaml.CParser,  # type: ignore[attr-defined]
        *kinds,
    )


@cache
def _loader(text_only: bool) -> Any:
    import yaml

    class Loader(*_parts_of_loader(text_only)):  # type: ignore[misc]
        """Refuses a name that stands twice; YAML forbids it, and PyYAML takes the last."""

        def __init__(self, stream: str) -> None:
            for part in _parts_of_loader(text_only):
                part.__init__(self, *((stream,) if hasattr(part, "get_event") else ()))

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            seen: set[tuple[str, str]] = set()
            for name, value in node.value:
                if not isinstance(name, yaml.ScalarNode):
                    continue  # No constructor of plain values makes a name of it.
                if (name.tag, name.value) in seen:
                    raise yaml.composer.ComposerError(None, None, f"{name.value!r} is there twice", name.start_mark)
                seen.add((name.tag, name.value))
                if isinstance(value, yaml.SequenceNode) and len(value.value) > _MOST_MERGED and name.value == "<<":
                    raise yaml.composer.ComposerError(None, None, "too many mappings are merged", value.start_mark)
            return node

        def compose_scalar_node(self, anchor: Any) -> Any:
            node = super().compose_scalar_node(anchor)
            if node.tag.endswith((":int", ":float")) and len(node.value) > _LONGEST_NUMBER:
                problem = f"a number of {len(node.value)} characters"
                raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
            return node

        def flatten_mapping(self, node: Any) -> None:
            super().flatten_mapping(node)
            if len(node.value) > _MOST_NAMES:
                problem = f"merged, it has more than {_MOST_NAMES} names"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)

    return Loader


def _check_extent(content: object) -> None:
    """ValueError for content that is nested too deeply, or in itself, has too many values, or a text that is none."""
    stack, left = [(content, 0)], MOST_NODES
    while stack:
        value, depth = stack.pop()
        inside = (*value, *value.values()) if isinstance(value, dict) else value
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} times, or holds itself by an alias")
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            raise ValueError(f"a text in it has {len(value)} characters; expected at most {LONGEST_TEXT}")
        if isinstance(value, str) and (wrong := wrong_text(value)):
            raise ValueError(f"the text {value[:60]!a} holds {wrong}")
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise ValueError("a number in it has too many digits")
        if isinstance(inside, list | tuple | set):
            left -= len(inside)
            if left < 0:
                raise ValueError(f"it holds more than {MOST_NODES} values, those that aliases repeat counted each time")
            stack.extend((each, depth + 1) for each in inside)


def all_now_named(content: Mapping[Any, Any], place: str) -> dict[str, Any]:
    """Options by the names the command line has now.

    Raises:
        OptionError: Two names are one option's.
    """
    named: dict[str, Any] = {}
    for written, value in content.items():
        name = now_named(str(written))
        if name in named:
            raise OptionError(f"{place}: the option {name!r} is there twice, under two spellings; keep one of them")
        named[name] = value
    return named


def is_plan(content: Mapping[Any, Any]) -> bool:
    """Whether this is what `reproduce` runs, and no set of options."""
    return "extractions" in content and "runs" in content


def check_count(name: str, value: object, where: str) -> None:
    """OptionError for an option with more values than `MOST_VALUES`."""
    if isinstance(value, list) and len(value) > MOST_VALUES:
        raise OptionError(f"{where}: the option {name!r} has {len(value)} values; expected at most {MOST_VALUES}")


def find_preset(name: str) -> Path:
    """The file of a named preset; OptionError lists the presets there are."""
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml") if not is_plan(load_yaml(p)))) or "none"
        raise OptionError(f"no preset named {name!r}; there are: {there}")
    return path


def check_option(name: str, options: Collection[str], place: str) -> None:
    """OptionError, with the nearest of these, for one that is not among them."""
    if name not in options:
        near = by_initials(name, options) or nearest(name, options)
        hint = f"; did you mean {near!r}?" if near else f"; known: {', '.join(options)}"
        raise OptionError(f"{place}: unknown option {name!r}{hint}")
