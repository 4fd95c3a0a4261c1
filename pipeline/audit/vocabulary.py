"""`vocabulary`: what values each attribute has, which look like misspellings of others, and which are rare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.audit.spelling import MOST_PAIRS, TooManyValues, suggest_spellings
from pipeline.audit.vocabulary_report import AttributeVocabulary, VocabularyReport
from pipeline.catalogue import Catalogue, coded, read_catalogue
from pipeline.catalogue.cells import natural
from pipeline.catalogue.reading.attributes import read_lists
from pipeline.catalogue.reading.mapping import MappingLine, read_mapping, require_mapping_name, write_mapping
from pipeline.errors import CatalogueError, OptionError
from pipeline.options import DataOptions, VocabularyOptions

Replacements = Mapping[tuple[str, str], str]
"""(attribute, value) to what a filled-in mapping puts in its place."""


def vocabulary(data: DataOptions, options: VocabularyOptions) -> VocabularyReport:
    """Look through the values of a catalogue, or of a file of allowed values, and write a mapping file of suggestions.

    Values are counted as the data has them. Replacements of `data.mapping` are taken over into the new file, which
    replaces nothing by itself: that is for whoever fills in its last column.

    Raises:
        CatalogueError: For data or files that cannot be read.
        OptionError: For options that cannot work.
    """
    if not 0 < options.similar <= 100:
        raise OptionError(f"--similar is {options.similar}; expected a similarity above 0 and at most 100")
    require_mapping_name(options.out)
    if options.out.exists():
        raise CatalogueError(f"--out {options.out} exists and may have been edited; name another file.")
    filled = read_mapping(data.mapping) if data.mapping is not None else ()
    allowed = read_value_lists(options.values) if options.values is not None else {}
    catalogue = None if data.data is None and allowed else read_catalogue(replace(data, mapping=None))
    counted = {attribute: {} for attribute in allowed} if catalogue is None else value_counts(catalogue)
    if data.attributes:
        counted = {attribute: values for attribute, values in counted.items() if attribute in data.attributes}
    attributes = tuple(
        _look_through(attribute, counts, allowed.get(attribute, ()), options, catalogue is not None)
        for attribute, counts in counted.items()
    )
    replaced = {(line.attribute, line.value): line.replacement for line in filled if line.replacement}
    lines = [line for each in attributes for line in _lines(each, replaced)]
    there = {(line.attribute, line.value) for line in lines}
    gone = [line for line in filled if line.replacement and (line.attribute, line.value) not in there]
    write_mapping(options.out, [*lines, *gone])
    return VocabularyReport(options.out, attributes, len(replaced), () if catalogue is None else catalogue.findings)


def value_counts(catalogue: Catalogue) -> dict[str, dict[str, int]]:
    """Per attribute, photos per value, the most frequent first."""
    result = {}
    for attribute in catalogue.attributes:
        column, photos = coded(catalogue.cells[attribute]), dict[str, int]()
        for cell, count in zip(column.table, column.counts().tolist(), strict=True):
            for value in cell or ():
                if count:
                    photos[value] = photos.get(value, 0) + count
        result[attribute] = {value: photos[value] for value in sorted(photos, key=lambda v: (-photos[v], natural(v)))}
    return result


def read_value_lists(path: Path) -> dict[str, tuple[str, ...]]:
    """Allowed values per attribute, each once, from a JSON file {attribute: [value, ...]}.

    Raises:
        CatalogueError: The file cannot be read, has another shape, or holds no attribute.
    """
    lists = read_lists(path, "--values", '{"attribute": ["value", ...], ...}')
    if not lists:
        raise CatalogueError(f"--values {path} holds no attribute.")
    return {attribute: tuple(dict.fromkeys(values)) for attribute, values in lists.items()}


def _look_through(
    attribute: str, counts: Mapping[str, int], allowed: tuple[str, ...], options: VocabularyOptions, counted: bool
) -> AttributeVocabulary:
    every = {**counts, **{value: 0 for value in allowed if value not in counts}}
    # Beside data the allowed spellings are right by decree; alone they are what is looked through.
    fixed = frozenset(allowed) if counted else frozenset()
    try:
        suggestions = suggest_spellings(every, options.similar, fixed)
    except TooManyValues:
        raise CatalogueError(
            f"attribute {attribute!r} has {len(every)} values, more than can be compared with each other "
            f"(at most {MOST_PAIRS:,} pairs): is it a text, or an identifier? Name the others with --attributes"
        ) from None
    return AttributeVocabulary(
        attribute=attribute,
        counts=every,
        suggestions=suggestions,
        rare=frozenset(value for value, count in counts.items() if count < options.min_support),
        foreign=frozenset(counts) - fixed if fixed else frozenset(),
    )


def _lines(each: AttributeVocabulary, replaced: Replacements) -> list[MappingLine]:
    """A line per value; values stand under the one they probably mean."""
    counts, suggestions = each.counts, each.suggestions

    def place(value: str) -> tuple[object, ...]:
        leader = suggestions[value].target if value in suggestions else value
        return -counts[leader], natural(leader), value in suggestions, -counts[value], natural(value)

    lines = []
    for value in sorted(counts, key=place):
        suggestion = suggestions.get(value)
        notes = [f"{suggestion.similarity:.0f} % alike"] if suggestion else []
        notes += ["rare"] if value in each.rare else []
        notes += ["not allowed"] if value in each.foreign else []
        lines.append(
            MappingLine(
                each.attribute,
                value,
                counts[value],
                suggestion.target if suggestion else "",
                ", ".join(notes),
                replaced.get((each.attribute, value), ""),
            )
        )
    return lines
