"""Help for people: the options most of them need first, in groups; all of them where all are asked for."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pipeline.cli.output import say
from pipeline.cli.parameters import HANDED_ON
from pipeline.options import BackboneOptions, CacheKeyOptions, DataOptions, SplitOptions
from pipeline.options.forms.words import PROGRAM, as_text

if TYPE_CHECKING:
    from cyclopts import App, Argument

ALL = "--help-all"
"""The word that asks for every option."""

_WIDEST, _INDENT = 100, 26

_CATALOGUE = ("data", "images", "image-name")
FIRST: dict[str, tuple[str, ...]] = {
    "train": (*_CATALOGUE, "attributes", "split", "preset", "backbone", "out", "init", "config"),
    "extract": (*_CATALOGUE, "backbone", "weights", "features", "views", "cache", "preset", "device"),
    "fit-heads": (*_CATALOGUE, "split", "heads", "optimizers", "lr", "threshold", "preset", "out"),
    "finetune": ("attribute", "data", "images", "train", "lr", "epochs", "backbone", "weights", "split", "out"),
    "evaluate": ("model", *_CATALOGUE, "cache", "at-precision", "include-fitted", "out", "report", "csv"),
    "audit": (*_CATALOGUE, "head", "min-support", "near", "gallery", "cache", "group-column", "out"),
    "map": (*_CATALOGUE, "run", "model", "layout", "cache", "use", "pictures", "out"),
    "similar": (*_CATALOGUE, "cache", "use", "count", "where", "out", "report", "backbone"),
    "vocabulary": (*_CATALOGUE, "attributes", "separator", "values", "similar", "min-support", "mapping", "out"),
    "next": (*_CATALOGUE, "attributes", "model", "pool", "count", "to", "cache", "out"),
    "labels": (*_CATALOGUE, "labels", "out", "table", "single", "multi"),
    "reproduce": (*_CATALOGUE, "attributes", "format", "mapping", "backbone", "weights", "cache", "out"),
    "serve": ("model", "host", "port", "allow-paths", "reload", "queue", "sha256", "weights", "threshold"),
    "cache export": ("out", "cache", "use", "view", "model", *_CATALOGUE, "backbone", "weights"),
    "cache prune": ("yes", *_CATALOGUE, "drop-cache-key", "quarantine", "cache"),
}
"""Command -> the ten options or so that most people need first; a command that is not here shows all of its few."""

_HEADS = (
    *(
        "heads",
        "head",
        "optimizers",
        "lr",
        "weight-decay",
        "epochs",
        "batch-size",
        "loss",
        "schedule",
        "hidden",
        "dropout",
    ),
    *("seed", "baselines", "ensemble", "ensemble-from", "refit", "final", "train", "attribute"),
)
_DECISIONS = ("threshold", "calibrate", "choose", "na", "gate", "at-precision", "layout", "probabilities")


def _names(*classes: type[Any]) -> tuple[str, ...]:
    return tuple(field.name.replace("_", "-") for each in classes for field in fields(each))


GROUPS: dict[str, tuple[str, ...]] = {
    "Data": (*_names(DataOptions), "model", "pool"),
    "Recipe and result": ("preset", "config", "count", "per", "to", "out", "table", "init", "report", "json", "csv"),
    "Split": _names(SplitOptions),
    "Vectors": (*_names(BackboneOptions, CacheKeyOptions), "features", "views", "view", "use", "cache"),
    "Heads": _HEADS,
    "Decisions": _DECISIONS,
    "Server": ("host", "port", "allow-paths", "reload", "queue"),
}
"""Groups in the order in which they are shown; an option is in the first that has it, or among the advanced ones."""

ADVANCED = "Advanced"


@dataclass(frozen=True)
class _Option:
    """One option, as it is shown: the word and what stands for its value, and what it does."""

    name: str
    usage: str
    text: str


def show_help(app: App, command: Sequence[str], everything: bool) -> None:
    """Print the help of a command, or of the program."""
    say(help_text(app, command, everything))


def help_text(app: App, command: Sequence[str], everything: bool) -> str:
    """What a command does and its options.

    Args:
        app: The program.
        command: Words that name it, none for the program; a word that names nothing ends it.
        everything: Every option, not only those that most people need first.
    """
    chosen, named = app, list[str]()
    for word in command:
        if word not in chosen or word.startswith("-"):
            break
        chosen, named = chosen[word], [*named, word]
    inside = [name for name in chosen if not name.startswith("-")]
    lines = _commands(chosen, named, inside) if inside else _options(chosen, named, everything)
    return "\n".join(lines)


def _commands(app: App, named: Sequence[str], inside: Sequence[str]) -> Iterator[str]:
    yield from _head(app, [*named, "COMMAND"])
    yield "Commands:"
    for name in inside:
        yield from _entry(name, _first_line(app[name]))
    yield ""
    yield f"{' '.join([PROGRAM, *named, 'COMMAND'])} --help says more."


def _options(app: App, named: Sequence[str], everything: bool) -> Iterator[str]:
    arguments = [a for a in app.assemble_argument_collection(parse_docstring=True) if a.name.startswith("--")]
    places = [a for a in arguments if (a.required and get_origin(a.hint) is list) or _is_place(a)]
    words = [f"{_bare(a).upper()}{'...' if get_origin(a.hint) is list else ''}" for a in places]
    options = _by_name([a for a in arguments if a not in places], named)
    yield from _head(app, [*named, *words, "[OPTIONS]"])
    for argument, word in zip(places, words, strict=True):
        yield from _entry(word, argument.parameter.help or "")
    if places:
        yield ""
    first, handed_on = FIRST.get(" ".join(named), ()), HANDED_ON.get(" ".join(named), ())
    if not first:
        yield "Options:"
        yield from (line for option in options.values() for line in _entry(option.usage, option.text))
        return
    shown = [options[name] for name in (options if everything else first) if name in options]
    yield from _groups(shown)
    if left := len(options) - len(shown):
        yield f"{left} more options: {' '.join([PROGRAM, *named, ALL])}"
    if handed_on:
        yield f"What is not said is as the recipe has it, else as {', '.join(handed_on)} have it."


def _by_name(arguments: Sequence[Argument], named: Sequence[str]) -> dict[str, _Option]:
    """Options by name; of several that have one name, the first one's. What is handed on has no default of its own."""
    handed_on = " ".join(named) in HANDED_ON
    options: dict[str, _Option] = {}
    for argument in arguments:
        options.setdefault(_bare(argument), _option(argument, with_default=not handed_on))
    return options


def _head(app: App, words: Sequence[str]) -> Iterator[str]:
    yield f"Usage: {' '.join([PROGRAM.removeprefix('python '), *words])}"
    yield ""
    yield from textwrap.wrap(_first_line(app), _width(), break_on_hyphens=False)
    yield ""


def _groups(options: Sequence[_Option]) -> Iterator[str]:
    """The options in groups."""
    group_of = {name: group for group, names in reversed(GROUPS.items()) for name in names}
    groups = {group: [o for o in options if group_of.get(o.name, ADVANCED) == group] for group in (*GROUPS, ADVANCED)}
    for group, members in groups.items():
        if members:
            yield f"{group}:"
            for option in members:
                yield from _entry(option.usage, option.text)
            yield ""


def _entry(name: str, text: str) -> Iterator[str]:
    """A name and what it is, side by side where the name leaves room."""
    lines = textwrap.wrap(text, _width() - _INDENT, break_on_hyphens=False) or [""]
    if len(name) + 4 > _INDENT:
        yield f"  {name}"
        yield from (f"{' ' * _INDENT}{line}" for line in lines)
        return
    yield f"  {name}".ljust(_INDENT) + lines[0]
    yield from (f"{' ' * _INDENT}{line}" for line in lines[1:])


def _option(argument: Argument, with_default: bool) -> _Option:
    text = " ".join((argument.parameter.help or "").split())
    default = argument.field_info.default
    stated = isinstance(default, str | int | float | tuple | Path) and not isinstance(default, bool)
    if argument.required:
        text += " Needed."
    elif with_default and stated and as_text(default) and "(default" not in text:
        text += f" [{as_text(default)}]"
    return _Option(_bare(argument), f"{argument.name}{_value(argument.hint)}", text)


def _value(hint: Any) -> str:
    """What stands for the value of an option: its choices, or the kind of thing."""
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind not in (type(None), Ellipsis)]
    if get_origin(hint) is tuple:
        return f"{_value(kinds[0])},..."
    words = [word for kind in (kinds if kinds else [hint]) for word in (get_args(kind) or (kind,))]
    if all(isinstance(word, str) for word in words):
        return f" {'|'.join(words)}"
    if bool in words:
        return ""
    return " PATH" if Path in words else " N" if {int, float} & set(words) else " TEXT"


def _bare(argument: Argument) -> str:
    return argument.name.removeprefix("--")


def _is_place(argument: Argument) -> bool:
    """Whether it is given by its place, not by its name."""
    return bool(argument.field_info.is_positional)


def _first_line(app: App) -> str:
    return (app.help or "").strip().split("\n\n")[0].replace("\n", " ")


def _width() -> int:
    return min(_WIDEST, shutil.get_terminal_size().columns)
