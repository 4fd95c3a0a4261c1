"""The decision rule and the threshold policies."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.catalogue.labels import UNKNOWN, LabelSchema
from pipeline.errors import OptionError
from pipeline.thresholds import best_cut, decide, default_thresholds, parse_policy, tune

SCHEMA = LabelSchema(("neck", "style"), (("round", "v"), ("plain", "casual")), (True, False))
GATED = LabelSchema(
    ("category", "neck"), (("shirt", "skirt"), ("round", "v")), (True, True), {"skirt": ()}, category_key="category"
)


def test_default_thresholds() -> None:
    assert default_thresholds(SCHEMA).tolist() == [0.0, 0.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("scores", "thresholds", "expected"),
    [
        pytest.param(
            [0.2, 0.1, 0.6, 0.5], [0, 0, 0.5, 0.5], [1, 0, 1, 1], id="best value however small, all that pass"
        ),
        pytest.param([0.9, 0.95, 0.4, 0.1], [0, 0, 0.5, 0.5], [0, 1, 0, 0], id="one value of a single-valued key"),
        pytest.param([0.6, 0.3, 0.9, 0.1], [0.8, 0.8, 0.8, 0.8], [0, 0, 1, 0], id="unknown below the threshold"),
        pytest.param([0.4, 0.6, 0.9, 0.1], [0.1, 0.7, 0.8, 0.8], [0, 0, 1, 0], id="a second best never stands in"),
        pytest.param([0.5, 0.5, 0.0, 0.0], [0, 0, 0.5, 0.5], [1, 0, 0, 0], id="the first of equals"),
    ],
)
def test_decide(scores: list[float], thresholds: list[float], expected: list[int]) -> None:
    assert decide(np.array([scores]), SCHEMA, thresholds).astype(int).tolist() == [expected]


def test_a_winning_unknown_decides_nothing() -> None:
    schema = LabelSchema(("neck", "style"), (("round", UNKNOWN), ("plain", UNKNOWN)), (True, False))
    scores = np.array([[0.4, 0.6, 0.7, 0.8], [0.6, 0.4, 0.8, 0.7]])
    expected = [[0, 0, 0, 0], [1, 0, 1, 0]]
    assert decide(scores, schema, default_thresholds(schema)).astype(int).tolist() == expected


def test_the_gate_silences_keys_that_do_not_apply() -> None:
    scores = np.array([[0.9, 0.1, 0.7, 0.3], [0.1, 0.9, 0.7, 0.3]])
    assert decide(scores, GATED, np.zeros(4)).astype(int).tolist() == [[1, 0, 1, 0], [0, 1, 0, 0]]


def test_an_undecided_category_silences_nothing() -> None:
    scores = np.array([[0.1, 0.4, 0.7, 0.3]])
    assert decide(scores, GATED, np.array([0.5, 0.5, 0, 0])).astype(int).tolist() == [[0, 0, 1, 0]]


def test_decide_refuses_other_widths() -> None:
    with pytest.raises(OptionError, match=r"probabilities \(n, 4\)"):
        decide(np.zeros((2, 3)), SCHEMA, np.zeros(4))


def test_best_cut_by_hand() -> None:
    # Cuts after .9, .8, .6, .3 give F1 2/4, 4/5, 4/6, 6/7: predicting all four is best.
    scores, truth = np.array([0.6, 0.9, 0.3, 0.8]), np.array([False, True, True, True])
    assert best_cut(scores, truth, 3, everything=-1.0, nothing=-2.0) == -1.0
    # Without the positive at .3 the best cut lies between .8 and .6.
    assert best_cut(scores, truth & (scores > 0.5), 2, -1.0, -2.0) == pytest.approx(0.7)
    assert best_cut(scores, np.zeros(4, bool), 0, -1.0, -2.0) == -2.0


def test_between_equal_f1_the_highest_threshold_wins() -> None:
    # After .9: 2/(1+2); after .5 (third): 4/(4+2): both 2/3.
    scores, truth = np.array([0.9, 0.7, 0.6, 0.5, 0.1]), np.array([True, False, False, True, False])
    assert best_cut(scores, truth, 2, -1.0, -2.0) == pytest.approx(0.8)


def _validation(n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """style=plain is told apart at 0.3, style=casual at 0.7; neck is always known."""
    rng = np.random.default_rng(0)
    Y = np.zeros((n, 4), np.uint8)
    Y[np.arange(n), rng.integers(0, 2, n)] = 1
    Y[:, 2:] = rng.random((n, 2)) < 0.4
    low, high = rng.uniform(0.0, 0.2, (n, 2)), rng.uniform(0.0, 0.2, (n, 2))
    P = np.empty((n, 4), np.float32)
    P[:, :2] = 0.3 + 0.4 * Y[:, :2]
    P[:, 2] = np.where(Y[:, 2], 0.4 + high[:, 0], low[:, 0])
    P[:, 3] = np.where(Y[:, 3], 0.8 + high[:, 1], 0.4 + low[:, 1])
    return P, Y, np.ones((n, 4), bool)


def test_per_label_separates_what_one_threshold_cannot() -> None:
    P, Y, mask = _validation()
    thresholds = tune(P, Y, mask, SCHEMA, "per-label")
    assert thresholds[:2].tolist() == [0.0, 0.0]
    assert 0.2 < thresholds[2] < 0.4
    assert 0.6 < thresholds[3] < 0.8
    assert (decide(P, SCHEMA, thresholds) == Y).all()
    shared = tune(P, Y, mask, SCHEMA, "per-key")
    assert shared[2] == shared[3]
    assert tune(P, Y, mask, SCHEMA, "global").tolist() == shared.tolist()


def test_tuning_sees_known_cells_only() -> None:
    P, Y, mask = _validation()
    mask[150:] = False
    garbage = P.copy()
    garbage[150:] = 0.5
    for policy in ("global", "per-key", "per-label"):
        assert tune(garbage, 1 - Y * (~mask), mask, SCHEMA, policy).shape == (4,)
        assert tune(garbage, Y, mask, SCHEMA, policy).tolist() == tune(P, Y, mask, SCHEMA, policy).tolist()


def test_a_rare_value_is_shrunk_towards_its_key() -> None:
    """With 5 of the 20 positives that count as enough, a quarter of the way from the key's threshold to its own."""
    P, Y, mask = _validation()
    drop = np.flatnonzero(Y[:, 3])[5:]
    mask[drop, 3] = False
    key = tune(P, Y, mask, SCHEMA, "per-key")[3]
    own = (P[mask[:, 3] & (Y[:, 3] == 1), 3].min() + P[mask[:, 3] & (Y[:, 3] == 0), 3].max()) / 2
    assert tune(P, Y, mask, SCHEMA, "per-label")[3] == pytest.approx(0.25 * own + 0.75 * key, abs=1e-6)


def test_a_value_without_information_takes_its_keys_threshold() -> None:
    P, Y, mask = _validation()
    P[:, 3] = 0.5
    thresholds = tune(P, Y, mask, SCHEMA, "per-label")
    assert thresholds[3] == tune(P, Y, mask, SCHEMA, "per-key")[3]


def test_no_positives_fall_back_to_the_default() -> None:
    P, Y, mask = _validation()
    for policy in ("global", "per-key", "per-label"):
        assert tune(P, np.zeros_like(Y), mask, SCHEMA, policy)[2:].tolist() == [0.5, 0.5]


def test_a_single_valued_key_that_may_be_empty_learns_to_stay_silent() -> None:
    schema = LabelSchema(("neck",), (("round", "v"),), (True,))
    P = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.3], [0.3, 0.35]] * 10, np.float32)
    Y = np.array([[1, 0], [0, 1], [0, 0], [0, 0]] * 10, np.uint8)
    mask = np.ones_like(Y, bool)
    thresholds = tune(P, Y, mask, schema, "per-key")
    assert thresholds == pytest.approx([0.6, 0.6])
    assert (decide(P, schema, thresholds) == Y).all()
    # Where every photo has a value, silence is never right.
    assert tune(P[:2], Y[:2], mask[:2], schema, "per-key").tolist() == [0.0, 0.0]


def test_unknown_as_a_class_does_not_move_thresholds() -> None:
    schema = LabelSchema(("style",), (("plain", UNKNOWN),), (False,))
    P = np.array([[0.9, 0.1], [0.6, 0.2], [0.3, 0.3], [0.8, 0.9]], np.float32)
    Y = np.array([[1, 0], [1, 0], [0, 0], [0, 1]], np.uint8)
    assert tune(P, Y, np.ones_like(Y, bool), schema, "per-key") == pytest.approx([0.45, 0.45])


@pytest.mark.parametrize(("policy", "parsed"), [("fixed:0.95", ("fixed", 0.95)), ("per-key", ("per-key", None))])
def test_parse_policy(policy: str, parsed: tuple[str, float | None]) -> None:
    assert parse_policy(policy) == parsed


@pytest.mark.parametrize(
    ("policy", "message"),
    [("per-lable", "did you mean 'per-label'"), ("fixed:2", "number from 0 to 1"), ("fixed", "number from 0 to 1")],
)
def test_unknown_policies_are_named(policy: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        tune(*_validation(), SCHEMA, policy)


def test_fixed_policy_is_the_same_everywhere() -> None:
    assert tune(*_validation(), SCHEMA, "fixed:0.8").tolist() == [0.8] * 4
