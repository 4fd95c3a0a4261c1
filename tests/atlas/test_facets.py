"""What is said of each point: words, right and wrong, doubt; unknown and inapplicable cells are not judged."""

from __future__ import annotations

import base64

import numpy as np

from pipeline.atlas.facets import RIGHT, UNJUDGED, WRONG, Predictions, facets
from pipeline.atlas.page import _column
from pipeline.catalogue import LabelSchema, coded

SCHEMA = LabelSchema(("neck", "trim"), (("round", "v"), ("lace", "zip")), (True, False))
CELLS = {
    "neck": [("v",), ("round",), None, ("v",), ("round",)],
    "trim": [("zip", "lace"), (), ("zip",), (), ("lace",)],
    "mood": [("calm",)] * 5,
}
P = np.array([[0.1, 0.9, 0.8, 0.7], [0.3, 0.7, 0.1, 0.2], [0.6, 0.4, 0.45, 0.9], [0.2, 0.8, 0.9, 0.1]], np.float32)
D = P >= 0.5
SAID = Predictions(np.array([0, 1, 2, 3]), P, D, SCHEMA, "a model")


def test_single_values_are_right_when_they_are_the_same() -> None:
    neck, _, _ = facets(CELLS, {}, SAID)
    assert list(neck.true) == ["v", "round", "#N/A", "v", "round"]
    assert neck.predicted is not None and list(neck.predicted) == ["v", "v", "round", "v", ""]
    assert neck.verdict.tolist() == [RIGHT, WRONG, UNJUDGED, RIGHT, UNJUDGED]
    np.testing.assert_allclose(neck.doubt[:4], [0.1, 0.3, 0.4, 0.2], atol=1e-6)
    assert np.isnan(neck.doubt[4])


def test_several_values_are_right_all_together_and_as_doubtful_as_the_most_doubtful() -> None:
    _, trim, _ = facets(CELLS, {"trim": np.array([True, True, True, False, True])}, SAID)
    assert list(trim.true) == ["lace|zip", "nothing", "zip", "nothing", "lace"]
    assert trim.predicted is not None and list(trim.predicted) == ["lace|zip", "nothing", "zip", "lace", ""]
    assert trim.verdict.tolist() == [RIGHT, RIGHT, RIGHT, UNJUDGED, UNJUDGED], (
        "the fourth has no trim to be right about"
    )
    np.testing.assert_allclose(trim.doubt[:4], [0.6, 0.4, 0.9, 0.2], atol=1e-6)


def test_a_column_of_very_many_words_keeps_them_apart() -> None:
    many = 2**16 + 2
    packed = _column(coded([str(i) for i in range(many)]))
    codes = np.frombuffer(base64.b64decode(packed["codes"]["data"]), f"<i{packed['codes']['bytes']}")
    assert [packed["values"][code] for code in codes[[0, 1, many - 1]]] == ["0", "1", str(many - 1)]


def test_attributes_that_nobody_predicts_have_their_truth_alone() -> None:
    *_, mood = facets(CELLS, {}, SAID)
    assert mood.predicted is None and set(mood.verdict) == {UNJUDGED}
    neck, *_ = facets(CELLS, {}, None)
    assert neck.predicted is None
