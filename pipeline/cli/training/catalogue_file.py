"""`train --init`: the catalogue that was found, as a YAML file to look at, to change, and to train with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.catalogue import KINDS, Catalogue, Finding, coded, count_kinds, read_catalogue
from pipeline.catalogue.cells import natural
from pipeline.cli.steps import Steps
from pipeline.cli.training.plan import Request, catalogue_name, catalogue_options
from pipeline.cli.training.recipe import choose_recipe
from pipeline.errors import OptionError, counted, printable
from pipeline.options import DataOptions
from pipeline.options.forms.words import changed, command
from pipeline.system import whole_file

EXAMPLES, WIDTH = 3, 118
"""Findings that are shown of a kind, and letters of a line."""

_MORE = 20


def write_catalogue_file(request: Request, steps: Steps) -> tuple[str, ...]:
    """Write the file, named by the catalogue, into the current folder; returns what to say.

    Raises:
        OptionError: It is there already and may have been edited.
        CatalogueError: The catalogue cannot be read.
    """
    data = catalogue_options(request, steps)
    catalogue = read_catalogue(data)
    path = Path(f"{catalogue_name(data)}.yaml")
    if path.exists():
        raise OptionError(f"{path} exists and may have been edited; move it, then ask again")
    recipe = choose_recipe(request.files, catalogue)
    lines = [*_head(path, catalogue), *_options(data), *_attributes(catalogue), *_odd(catalogue.findings)]
    lines.append(f"# Left to itself, train takes the recipe {recipe.name}: {recipe.why}.")
    with whole_file(path, new=True) as partial:
        partial.write_text("".join(f"{_clean(line)}\n" for line in lines), encoding="utf-8")
    return (f"train --init: {path}; look at it, change it, then: {command('train', {'config': path})}",)


def _head(path: Path, catalogue: Catalogue) -> Iterator[str]:
    yield f"# {len(catalogue):,} photos with labels, read as format {catalogue.format}. Change what is wrong, then:"
    yield f"#   {command('train', {'config': path})}"
    yield "# An option of any command may be added, such as those of a recipe: configs/best.yaml shows how."


def _options(data: DataOptions) -> Iterator[str]:
    """The options that said where the catalogue is, and how to read it."""
    for name, value in changed(data).items():
        if name != "attributes":
            yield f"{name.replace('_', '-')}: {_yaml(value)}"


def _attributes(catalogue: Catalogue) -> Iterator[str]:
    """What is learnt: take a line away, and the attribute is left alone."""
    yield "attributes:"
    for attribute in catalogue.attributes:
        yield f"- {_yaml(attribute)}"
        yield from (f"  # {line}" for line in _about(catalogue, attribute))
    left_out = [f for f in catalogue.findings if f.kind == "no-attribute"]
    if left_out:
        yield "# Columns that were left out; one that is an attribute all the same can be added above:"
        yield from (f"#   {finding.filename}: {finding.detail}" for finding in left_out)


def _about(catalogue: Catalogue, attribute: str) -> Iterator[str]:
    column = coded(catalogue.cells[attribute])
    photos: dict[str, int] = {}
    unknown = several = 0
    for cell, count in zip(column.table, column.counts().tolist(), strict=True):
        unknown += count if cell is None else 0
        several += count if cell is not None and len(cell) > 1 else 0
        for value in cell or ():
            photos[value] = photos.get(value, 0) + count
    counts = sorted(((n, value) for value, n in photos.items() if n), key=lambda each: (-each[0], natural(each[1])))
    how = f"several values on {counted(several, 'photo')}" if several else "one value per photo"
    yield f"{counted(len(counts), 'value')}, {how}; unknown on {counted(unknown, 'photo')}"
    named = [f"{value} ({n:,})" for n, value in counts]
    # As many as fit into the line.
    shown = next(n for n in range(len(named), -1, -1) if n < 2 or len(", ".join(named[:n])) < WIDTH - _MORE)
    yield f"{', '.join(named[:shown])}{f' and {len(named) - shown:,} more' if shown < len(named) else ''}"
    if few := sum(n < 5 for n, _ in counts):
        yield f"on fewer than five photos: {few:,} of them, of which little can be learnt"


def _odd(findings: Sequence[Finding]) -> Iterator[str]:
    """What was dropped or odd."""
    odd = [finding for finding in findings if finding.kind != "no-attribute"]
    if odd:
        yield "# What was dropped or looks odd:"
    for kind, count in count_kinds(odd).items():
        yield f"#   {kind} ({count:,}): {KINDS.get(kind, '')}"
        some = [finding for finding in odd if finding.kind == kind][:EXAMPLES]
        yield from (f"#     {finding.filename or '-'}: {finding.detail}" for finding in some)


def _yaml(value: Any) -> str:
    """A value as YAML, of which JSON is a part."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    return json.dumps(str(value) if isinstance(value, str | Path) else value, ensure_ascii=True)


def _clean(line: str) -> str:
    """One line: what a table holds may have line ends of its own; a comment is cut where it gets long."""
    text = printable("".join(letter if letter.isprintable() else " " for letter in line))
    return f"{text[:WIDTH]}..." if text.lstrip().startswith("#") and len(text) > WIDTH else text
