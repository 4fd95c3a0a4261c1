"""Whether a training may change colours: not where an attribute is about them."""

from __future__ import annotations

import re

from pipeline.catalogue import LabelSchema

_NAMES = """
beige black blue bronze brown burgundy charcoal copper coral cream cyan fuchsia gold golden gray
green grey ivory khaki lavender lilac lime magenta maroon mauve mint mustard navy nude olive orange
peach pink purple red rose rust salmon silver skin tan taupe teal turquoise violet white yellow
"""
COLOURS = frozenset(_NAMES.split())
SHARE = 0.5
"""Share of an attribute's values that name a colour from which it is taken to be about colours."""

MILD = 0.1
"""Change of brightness, contrast and saturation where none was asked for and no attribute is about colours."""


def colour_attributes(schema: LabelSchema) -> tuple[str, ...]:
    """The attributes about colours: colo(u)r, hue or shade in the name, or half of the values name a colour."""
    return tuple(
        name
        for name, values in zip(schema.attributes, schema.values, strict=True)
        if re.search(r"colou?r|hue|shade", name, re.IGNORECASE) or _share_of_colours(values) >= SHARE
    )


def _share_of_colours(values: tuple[str, ...]) -> float:
    named = sum(bool(COLOURS & set(re.findall(r"[a-z]+", value.casefold()))) for value in values)
    return named / max(len(values), 1)
