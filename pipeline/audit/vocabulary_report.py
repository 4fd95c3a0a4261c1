"""What `vocabulary` tells whoever called it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.audit.spelling import Suggestion
from pipeline.catalogue.findings import Finding


@dataclass(frozen=True)
class AttributeVocabulary:
    """The values of one attribute.

    Attributes:
        counts: Value -> photos (0 for one that is only allowed).
        suggestions: Value -> what it probably stands for.
        rare: Values on fewer photos than the minimum.
        foreign: Values that are not allowed.
    """

    attribute: str
    counts: Mapping[str, int]
    suggestions: Mapping[str, Suggestion]
    rare: frozenset[str]
    foreign: frozenset[str]


@dataclass(frozen=True)
class VocabularyReport:
    """What one `vocabulary` call found.

    Attributes:
        carried: Replacements taken over from an earlier mapping file.
    """

    out: Path
    attributes: tuple[AttributeVocabulary, ...]
    carried: int
    findings: tuple[Finding, ...]
