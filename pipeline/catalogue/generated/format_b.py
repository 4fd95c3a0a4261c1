"""The rows of the generated catalogue in format B: ten categories, many attributes, most absent, dirty cells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.catalogue.generated.accessories import draw_item
from pipeline.catalogue.generated.cloth import PATTERNS
from pipeline.catalogue.generated.looks import COLOURS, colour_name, make_palette, trim_of
from pipeline.catalogue.generated.wardrobe import HEMS, SLEEVES, Item
from pipeline.system import write_text

Values = tuple[str, ...]
Choices = tuple[tuple[Values, float], ...]

_LENGTHS: Choices = tuple(((name,), 1.0) for name in HEMS)
_SLEEVES: Choices = tuple(((name,), weight) for name, weight in zip(SLEEVES, (1, 3, 1, 2), strict=True))
_NECKS: Choices = ((("round",), 5), (("v",), 2), (("turtle",), 1))
_POCKETS: Choices = (((), 3), (("pockets",), 2), (("belt",), 1), (("belt", "pockets"), 1))

LOOKS: Mapping[str, Mapping[str, Choices]] = {
    "t-shirt": {"neck_type": _NECKS, "sleeve_length": _SLEEVES[1:]},
    "shirt": {
        "collar": ((("spread",), 3), (("mandarin",), 1)),
        "sleeve_length": _SLEEVES[1:],
        "closure_type": ((("buttons",), 1),),
        "detail": (((), 1), (("pockets",), 1)),
    },
    "jacket": {
        "collar": ((("lapel",), 2), (("stand-up",), 1), (("hooded",), 2)),
        "closure_type": ((("zip",), 3), (("buttons",), 2), (("belt", "buttons"), 1)),
        "detail": (((), 1), (("pockets",), 2)),
    },
    "dress": {
        "neck_type": _NECKS[:2],
        "sleeve_length": _SLEEVES,
        "length": _LENGTHS,
        "hem": (((), 3), (("ruffled",), 1), (("pleated",), 1)),
        "ornament": (((), 3), (("bow",), 1)),
    },
    "skirt": {
        "length": _LENGTHS,
        "fit": ((("a-line",), 2), (("pencil",), 1)),
        "hem": (((), 2), (("ruffled",), 1), (("pleated",), 2)),
        "detail": _POCKETS,
    },
    "trousers": {
        "length": ((("full",), 3), (("cropped",), 1)),
        "fit": ((("slim",), 2), (("straight",), 2), (("wide",), 1)),
        "detail": _POCKETS,
    },
    "shorts": {"fit": ((("slim",), 1), (("straight",), 2), (("wide",), 1)), "detail": _POCKETS},
    "shoe": {
        "heel": ((("flat",), 3), (("block",), 1), (("stiletto",), 1)),
        "closure_type": (((), 1), (("laces",), 2), (("strap",), 1)),
        "ornament": (((), 4), (("bow",), 1)),
    },
    "bag": {
        "handle": ((("top handle",), 2), (("shoulder strap",), 2), (("shoulder strap", "top handle"), 1)),
        "closure_type": ((("zip",), 2), (("buckle",), 2), ((), 1)),
        "ornament": (((), 3), (("tassel",), 1), (("bow",), 1)),
    },
    "hat": {
        "brim": ((("wide",), 2), (("visor",), 2), ((), 2)),
        "ornament": (((), 3), (("pom-pom",), 1), (("bow",), 1)),
    },
}
"""Per category, the attributes that apply beside pattern and colour, and how often which values occur; () is none."""

CATEGORY_ATTRIBUTES: Mapping[str, Values] = {
    category: (*attributes, *(("colour",) if category == "shoe" else ("pattern", "colour")))
    for category, attributes in LOOKS.items()
}

_CATEGORY_WEIGHTS = (5, 4, 3, 3, 3, 4, 2, 4, 3, 2)
_PATTERN_WEIGHTS = {"solid": 9.0, "graphic print": 0.0, "colour block": 0.0, "chevron": 0.5, "camouflage": 0.5}
_UNKNOWN, _DIRTY, _NONE = 0.03, 0.06, 0.08
_JUNK_VALUES = ("see picture", "multi colour!!", "as shown", "Free Size", "n.a.")
_NEVER_USED = {"pattern": "paisley, festive wear", "colour": "multi colour!!", "closure_type": "snap, concealed"}

FILES = ("category_keys.json", "attribute_values.json")
"""What lies beside the CSV."""


@dataclass(frozen=True)
class RowB:
    """One row: the photo, what it shows, and the attributes that the catalogue says."""

    name: str
    item: Item
    said: Mapping[str, Sequence[str]]

    def picture(self, rng: np.random.Generator) -> Image.Image:
        """A photo of the product."""
        return draw_item(self.item, rng)

    def renamed(self, name: str) -> RowB:
        """The same row about a file of another name."""
        return replace(self, name=name)

    def contradicted(self, rng: np.random.Generator) -> RowB:
        """A row about the same photo that says another colour."""
        others = [name for name in COLOURS if name not in self.said.get("colour", ())]
        return replace(self, said={**self.said, "colour": [others[rng.integers(len(others))]]})


def make_products(products: int, rng: np.random.Generator) -> list[Item]:
    """Products of all categories at their shares; each category occurs where there are products enough."""
    names, weights = list(LOOKS), np.array(_CATEGORY_WEIGHTS, float)
    dealt = [*names, *rng.choice(names, max(products - len(names), 0), p=weights / weights.sum()).tolist()]
    order = rng.permutation(products)
    return [_make_item(dealt[i], rng) for i in order.tolist()]


def make_row(name: str, item: Item, rng: np.random.Generator) -> RowB:
    """The row of a photo: what can be seen, some of it unknown, some of it dirty."""
    said: dict[str, Sequence[str]] = {}
    for attribute in CATEGORY_ATTRIBUTES[item.category]:
        values = list(item.traits[attribute])
        if rng.random() < _UNKNOWN:
            values = ["#N/A"]
        elif rng.random() < _NONE:
            values.insert(int(rng.integers(len(values) + 1)), "none")
        if values:
            said[attribute] = values
    if rng.random() < _DIRTY:
        _soil(said, item, rng)
    return RowB(name, item, said)


def write_rows(out: Path, rows: Sequence[RowB], rng: np.random.Generator) -> list[tuple[object, ...]]:
    """The rows of the CSV with its header; the JSON files of categories and allowed values are written beside it."""
    text = json.dumps({category: list(attributes) for category, attributes in CATEGORY_ATTRIBUTES.items()}, indent=2)
    write_text(out / FILES[0], text + "\n")
    text = json.dumps(allowed_values(rng), indent=2)
    write_text(out / FILES[1], text + "\n")
    table: list[tuple[object, ...]] = [("id", "filename", "category", "attributes")]
    broken = int(rng.integers(len(rows))) if len(rows) >= 50 else -1
    for i, row in enumerate(rows):
        attributes = repr({attribute: list(values) for attribute, values in row.said.items()})
        table.append((i + 1, row.name, row.item.category, attributes[:-2] if i == broken else attributes))
    return table


def allowed_values(rng: np.random.Generator) -> dict[str, list[str]]:
    """The allowed values of every attribute in no order, `none` anywhere among them, some that no photo has."""
    allowed: dict[str, dict[str, None]] = {}
    for attributes in LOOKS.values():
        for attribute, choices in attributes.items():
            allowed.setdefault(attribute, {}).update(dict.fromkeys(value for values, _ in choices for value in values))
    allowed["pattern"] = dict.fromkeys([*PATTERNS, "striped"])
    allowed["colour"] = dict.fromkeys(COLOURS)
    for attribute, value in _NEVER_USED.items():
        allowed[attribute][value] = None
    return {attribute: rng.permutation([*values, "none"]).tolist() for attribute, values in allowed.items()}


def _make_item(category: str, rng: np.random.Generator) -> Item:
    traits = {attribute: _choose(choices, rng) for attribute, choices in LOOKS[category].items()}
    weights = np.array([_PATTERN_WEIGHTS.get(name, 1.0) for name in PATTERNS])
    pattern = "solid" if category == "shoe" else str(rng.choice(list(PATTERNS), p=weights / weights.sum()))
    palette = make_palette(pattern, list(COLOURS)[rng.integers(len(COLOURS))], rng)
    visible = range(1 if pattern in ("solid", "camouflage") else 3 if pattern in ("checks", "floral") else 2)
    traits["colour"] = tuple(dict.fromkeys(colour_name(palette[i]) for i in visible))
    if "pattern" in CATEGORY_ATTRIBUTES[category]:
        traits["pattern"] = (pattern, "striped") if pattern.endswith("stripes") else (pattern,)
    girth, seed = float(rng.uniform(0.92, 1.08)), int(rng.integers(2**31))
    return Item(category, traits, pattern, palette, trim_of(palette[0]), girth, seed)


def _choose(choices: Choices, rng: np.random.Generator) -> Values:
    weights = np.array([weight for _, weight in choices])
    return choices[int(rng.choice(len(choices), p=weights / weights.sum()))][0]


def _soil(said: dict[str, Sequence[str]], item: Item, rng: np.random.Generator) -> None:
    """One of the faults of catalogues typed by hand."""
    attribute = list(said)[rng.integers(len(said))] if said else "colour"
    values, kind = list(said.get(attribute, ())), int(rng.integers(5))
    if kind == 0 and values:
        said[attribute] = [values[0][:2] + values[0][3:], *values[1:]]
    elif kind == 1 and values:
        said[attribute] = [value.title() for value in values]
    elif kind == 2:
        said[attribute] = [*values, _JUNK_VALUES[rng.integers(len(_JUNK_VALUES))]]
    elif kind == 3:
        strange = [k for k in ("neck_type", "heel", "brim") if k not in CATEGORY_ATTRIBUTES[item.category]]
        said[strange[rng.integers(len(strange))]] = ["round"]
    else:
        said["seller_note"] = ["free shipping"]
