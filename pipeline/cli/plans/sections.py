"""The sections of a plan file as options, checked: known names, and values that an option can hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pipeline.cli.plans.finetunings import FINETUNED, START
from pipeline.errors import OptionError
from pipeline.options import (
    BackboneOptions,
    DataOptions,
    ExtractOptions,
    FinetuneOptions,
    FitOptions,
    SplitOptions,
)
from pipeline.options.forms.yaml_file import all_now_named, check_count, check_option


def option_names(*classes: type[Any]) -> tuple[str, ...]:
    """The options of these dataclasses as they are typed."""
    return tuple(name.name.replace("_", "-") for each in classes for name in fields(each))


SECTIONS: Mapping[str, Collection[str]] = {
    "data": option_names(DataOptions),
    "split": [name for name in option_names(SplitOptions) if name != "split-from"],
    "finetunings": [START, *(name for name in option_names(BackboneOptions, FinetuneOptions) if name != "out")],
    "extractions": [FINETUNED, *(name for name in option_names(BackboneOptions, ExtractOptions) if name != "cache")],
    "runs": [
        name for name in ("name", "extraction", *option_names(FitOptions, DataOptions)) if name not in ("cache", "out")
    ],
}
"""Which options each section of the file may hold."""


def data_options(options: dict[str, Any]) -> dict[str, Any]:
    """Data options with {data} replaced by the folder of the data."""
    if options.get("data") is None:
        raise OptionError("the plan names no data; give it with --data CSV or --data FOLDER")
    if not isinstance(options["data"], str | Path):
        raise OptionError(f"the plan's data is {said(options['data'])}; expected one CSV file or folder")
    data = Path(options["data"])
    folder = data.parent if data.suffix.casefold() == ".csv" else data
    return {k: v.replace("{data}", str(folder)) if isinstance(v, str) else v for k, v in options.items()}


def section(name: str, content: object, where: str) -> dict[str, Any]:
    """The options of one section, by the names that they have now.

    Raises:
        OptionError: For what is no option, and for values that none can have; `where` says in which place.
    """
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise OptionError(f"{where} holds {said(content)}; expected options and their values")
    options = all_now_named(content, where)
    for option, value in options.items():
        check_option(option, SECTIONS[name], where)
        check_count(option, value, where)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, list | tuple | set | Mapping | bytes):
                raise OptionError(f"{where}, {option} holds {said(each)}; expected a value or a list of values")
    return options


def said(value: object) -> str:
    """What stands where something else was expected: a short text, or the kind of thing."""
    return repr(value[:60]) if isinstance(value, str) else f"a {type(value).__name__}"


def named_sections(content: object, path: Path, name: str) -> dict[str, dict[str, Any]]:
    """Several sections by name; none where there is nothing.

    Raises:
        OptionError: As `section` does.
    """
    if content is not None and not isinstance(content, Mapping):
        raise OptionError(f"{path}, {name}: expected a name and options for each")
    return {str(k): section(name, v, f"{path}, {name.removesuffix('s')} {k}") for k, v in (content or {}).items()}
