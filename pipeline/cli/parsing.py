"""Words to a bound command: commas, former names, and the options of --preset and --config beneath the words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

from cyclopts import App, Argument
from cyclopts.config import Dict

from pipeline.cli.help import ALL, show_help
from pipeline.cli.parameters import HANDED_ON, OWN
from pipeline.errors import OptionError
from pipeline.options.forms.limits import check_options, check_text
from pipeline.options.forms.words import FORMER_NAMES

COMMANDS = (
    *("train", "demo", "sample", "vocabulary", "extract", "audit", "fit-heads", "compare", "predict", "evaluate"),
    *("finetune", "reproduce", "export", "similar", "map", "next", "labels", "serve"),
    *("cache export", "cache prune"),
)
"""The commands that take their options from files too."""

WITHOUT_FILES = ("cache info", "cache verify", "cache compact")
"""The commands that do not."""

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


def parse(app: App, tokens: Sequence[str]) -> partial[Any]:
    """The command that these words name, ready to be called.

    Raises:
        cyclopts.CycloptsError: wrong usage.
        OptionError: a preset or config file that cannot be used, or a value outside its option's limits.
    """
    words = list(tokens)
    command = " ".join(words[:2]) if words[:1] == ["cache"] else "".join(words[:1])
    app.config = []
    if {"--help", "-h", ALL} & set(words) or not words:
        # Help needs no values; binding them would take as long as the help itself.
        return partial(show_help, app, words, ALL in words)
    given: dict[str, tuple[str, ...]] = {}
    if command in (*COMMANDS, *WITHOUT_FILES):
        options = _options(app, command)
        words = list(_renamed(words, options))
        given = _words_by_option(words[1:], options)
        words = list(_split_commas(iter(words), options))
        settings = _file_settings(app, words, command) if command in COMMANDS else {}
        _check_texts([*_typed(words, options), *_stated(settings)], options)
        app.config = [Dict(_nested(settings, command), source="config")]
    chosen, bound, not_parsed = app.parse_args(words, exit_on_error=False, print_error=False)
    check_options(*bound.args, *bound.kwargs.values())
    return partial(chosen, *bound.args, **bound.kwargs, **dict.fromkeys(not_parsed, given))


def _nested(settings: dict[str, Any], command: str) -> dict[str, Any]:
    """Settings below the words of their command: at the top, the parser takes `cache` for the command of that name."""
    for word in reversed(command.split()):
        settings = {word: settings}
    return settings


def options_of(app: App, command: str) -> tuple[str, ...]:
    """Names of the options that a command has, without their dashes, in the order in which they are declared."""
    return tuple(_options(app, command))


@dataclass(frozen=True)
class _Given:
    """The text given for one option; the option of a word that belongs to none is ""."""

    option: str
    text: str


_of_command: dict[tuple[int, str], tuple[App, dict[str, Argument]]] = {}
"""What `_options` found: a file of options asks for those of every command, which takes the parser half a second."""


def _options(app: App, command: str) -> dict[str, Argument]:
    """The named options of a command, without their dashes."""
    found = _of_command.get((id(app), command))
    if found is None:
        # The program is kept beside its options, so that no other one gets its id.
        found = _of_command[id(app), command] = app, _assembled(app, command)
    return found[1]


def _assembled(app: App, command: str) -> dict[str, Argument]:
    chosen = app
    for word in command.split():
        chosen = chosen[word]
    arguments = chosen.assemble_argument_collection()
    return {a.name.removeprefix("--"): a for a in arguments if a.name.startswith("--")}


def _takes_several(argument: Argument) -> bool:
    return get_origin(argument.hint) is tuple


def _renamed(words: Sequence[str], options: dict[str, Argument]) -> Iterator[str]:
    """Words with the options' former names replaced, where the command has the option under its name of now."""
    for word in words:
        name, equals, value = word.partition("=")
        now = FORMER_NAMES.get(name.removeprefix("--").replace("_", "-"), "")
        is_former = name.startswith("--") and now in options
        yield f"--{now}{equals}{value}" if is_former else word


def _words_by_option(words: Sequence[str], options: Mapping[str, Argument]) -> dict[str, tuple[str, ...]]:
    """The words that give each option, in their order; those of no option are left out."""
    given: dict[str, tuple[str, ...]] = {}
    rest = iter(words)
    for word in rest:
        name, equals, _ = word.partition("=")
        option = name.removeprefix("--").replace("_", "-")
        if not name.startswith("--") or option not in options:
            continue
        alone = equals or options[option].hint is bool
        following = () if alone else tuple(value for value in (next(rest, None),) if value is not None)
        given[option] = (*given.get(option, ()), word, *following)
    return given


def _split_commas(words: Iterator[str], options: dict[str, Argument]) -> Iterator[str]:
    """`--heads linear,mlp` as the repeated option that the parser knows."""
    several = {f"--{name}" for name, argument in options.items() if _takes_several(argument)}
    for word in words:
        name, equals, value = word.partition("=")
        if name.replace("_", "-") not in several:
            yield word
            continue
        joined = value if equals else next(words, None)
        if joined is None:
            yield name
        else:
            yield from (f"{name}={part}" for part in _parts(joined))


def _parts(joined: str) -> list[str]:
    """The values that commas, and spaces beside them, separate."""
    return [part.strip() for part in joined.split(",")]


def _typed(words: Sequence[str], options: Mapping[str, Argument]) -> Iterator[_Given]:
    """What the words give."""
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        option = name.removeprefix("--").replace("_", "-") if name.startswith("--") else ""
        if option in options and options[option].hint is not bool:
            yield _Given(option, value if equals else next(rest, "no value, which the parser will say"))
        elif not option:
            yield _Given("", word)


def _stated(settings: Mapping[str, object]) -> Iterator[_Given]:
    """What the settings from files give, which may hold lists of values."""
    for name, value in settings.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str | int | float):
                yield _Given(name, str(each))


def _check_texts(every: Sequence[_Given], options: Mapping[str, Argument]) -> None:
    for given in every:
        if given.option in options:
            check_text(given.option.replace("-", "_"), given.text, options[given.option].hint)
        elif not given.text:
            raise OptionError("an empty word stands where the name of a file or folder was expected")


def _file_settings(app: App, words: Sequence[str], command: str) -> dict[str, Any]:
    """Options of one command from --preset and --config; the latter wins."""
    preset, config = _value_of(words, "--preset"), _value_of(words, "--config")
    if not (preset or config):
        return {}
    from pipeline.options.forms.yaml_file import check_count, find_preset, read_config

    options_of = {name: [o for o in _settable(app, name) if o not in ("config", "preset")] for name in COMMANDS}
    settings: dict[str, Any] = {}
    for path in ([find_preset(preset)] if preset else []) + ([Path(config)] if config else []):
        stated = read_config(path, options_of)[command]
        settings |= stated
        if "model" in options_of[command] and not {"--model", "--sha256"} & {word.partition("=")[0] for word in words}:
            _require_digest(path, stated)
            _require_digest(path, settings)
    options = _options(app, command)
    several = {name for name, value in settings.items() if isinstance(value, str | int | float)}
    several = {name for name in several if name in options and _takes_several(options[name])}
    settings = {name: _parts(str(value)) if name in several else value for name, value in settings.items()}
    settings = {
        name: _switch(value, options[name].hint) if name in options else value for name, value in settings.items()
    }
    for name, value in settings.items():
        check_count(name, value, config or preset or "")
    return settings


def _settable(app: App, command: str) -> Sequence[str]:
    """Options that a section of a file may set: of a command that hands its words on, only what is its own."""
    options = _options(app, command)
    handed_on = {name for step in HANDED_ON.get(command, ()) for name in _options(app, step)} - OWN
    return [name for name in options if name not in handed_on]


def _switch(value: object, hint: object) -> object:
    """The words on and off, which YAML reads as booleans, where an option has them as values."""
    word = {True: "on", False: "off"}.get(value) if isinstance(value, bool) else None
    return word if word in get_args(hint) else value


def _require_digest(path: Path, settings: Mapping[str, object]) -> None:
    """Refuse a model that only a file names: joblib runs the code in it, which whoever wrote the file may have made."""
    if "model" in settings and not _DIGEST.fullmatch(str(settings.get("sha256"))):
        raise OptionError(
            f"{path} names the model {settings['model']}, and loading a model runs the code in it: name it on the "
            "command line with --model, or state beside it, as sha256, the SHA-256 that it must have"
        )


def _value_of(words: Sequence[str], option: str) -> str | None:
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == option:
            return following
        if word.startswith(option + "="):
            return word.partition("=")[2]
    return None
