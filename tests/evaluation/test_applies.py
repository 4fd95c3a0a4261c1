"""Attributes named where the category has them, and only there: who counts, and what is right."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.catalogue import LabelSchema
from pipeline.evaluation.bootstrap import Bootstrap
from pipeline.evaluation.categories.applies import Applies, applies
from pipeline.evaluation.unseen import Unseen

SCHEMA = LabelSchema(
    ("category", "neck", "strap"),
    (("bag", "dress", "odd"), ("round", "v"), ("long",)),
    (True, True, False),
    {"bag": ("strap",), "dress": ("neck",)},
    "category",
)
BAG, DRESS, ODD, NONE = [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]
#       category  neck    strap   what is decided of neck and strap
ROWS = [
    (DRESS, [1, 0], [0], [0, 1], [0]),  # a neck, named wrongly, which is no matter here; no strap, and silent
    (DRESS, [0, 1], [0], [0, 0], [1]),  # a neck that is not named; a strap named on a dress
    (DRESS, [1, 0], [0], [1, 0], [0]),
    (DRESS, [0, 0], [0], [1, 0], [0]),  # a dress without a neck value: left out for the neck
    (BAG, [0, 0], [1], [0, 0], [1]),
    (BAG, [0, 0], [1], [1, 0], [1]),  # a neck named on a bag
    (BAG, [0, 1], [1], [0, 0], [1]),  # a bag with a neck contradicts itself: left out for the neck
    (ODD, [0, 0], [0], [0, 1], [1]),  # the gate does not list it
    (NONE, [0, 0], [0], [0, 1], [1]),  # nobody knows what it is
]
Y = np.array([[*c, *n, *s] for c, n, s, _, _ in ROWS], np.uint8)
D = np.array([[0, 0, 0, *n, *s] for _, _, _, n, s in ROWS], bool)
MASK = np.array([[c != NONE] * 3 + [True] * 3 for c, *_ in ROWS], bool)
SAMPLES = Bootstrap(np.arange(len(ROWS)), 200)


def found(schema: LabelSchema = SCHEMA, unseen: Unseen | None = None) -> dict[str, Applies]:
    truth = (Y, MASK, schema, unseen or Unseen.none(len(Y)))
    return {row.attribute: row for row in applies("m", D, np.ones_like(D), truth, SAMPLES)}


def test_a_photo_counts_by_its_category_and_right_is_to_speak_there_and_nowhere_else() -> None:
    rows = found()
    assert list(rows) == ["neck", "strap"], "the category itself applies to all"
    neck, strap = rows["neck"], rows["strap"]
    assert (neck.applying, neck.not_applying, neck.spoken, neck.silent) == (3, 2, pytest.approx(2 / 3), 0.5)
    assert (strap.applying, strap.not_applying, strap.spoken, strap.silent) == (3, 4, 1.0, 0.75)
    assert neck.balanced == pytest.approx((2 / 3 + 0.5) / 2) and strap.balanced == 0.875
    assert {row.majority for row in rows.values()} == {0.5}, "it always speaks"
    assert strap.low is not None and strap.high is not None and strap.low < 0.875 < strap.high <= 1
    assert neck.candidate == "m"


def test_a_value_that_training_never_saw_is_a_value_too() -> None:
    only = Unseen((("neck", "boat"),), np.arange(len(ROWS))[:, None] == 3)
    assert found(unseen=only)["neck"].applying == 4


def test_to_decide_that_it_is_unknown_is_to_be_silent() -> None:
    values = (("bag", "dress", "odd"), ("#N/A", "v"), ("long",))
    schema = LabelSchema(SCHEMA.attributes, values, SCHEMA.single, SCHEMA.gate, "category")
    neck = found(schema)["neck"]
    assert (neck.applying, neck.spoken, neck.not_applying, neck.silent) == (1, 0.0, 2, 1.0)


def test_without_categories_or_a_gate_there_is_nothing_to_say() -> None:
    assert found(LabelSchema(SCHEMA.attributes, SCHEMA.values, SCHEMA.single)) == {}
    without = LabelSchema(SCHEMA.attributes, SCHEMA.values, SCHEMA.single, SCHEMA.gate, None)
    assert found(without) == {}


def test_an_attribute_of_every_category_has_no_row() -> None:
    everywhere = {"bag": ("strap",), "dress": ("neck", "strap")}
    rows = found(LabelSchema(SCHEMA.attributes, SCHEMA.values, SCHEMA.single, everywhere, "category"))
    assert list(rows) == ["neck"]
