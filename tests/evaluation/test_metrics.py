"""Metrics: hand-computed figures on a table small enough to check by eye, and scikit-learn on random data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pipeline.catalogue.labels import UNKNOWN, LabelSchema
from pipeline.errors import OptionError
from pipeline.evaluation.majority import majority_baseline
from pipeline.evaluation.metrics import evaluate, validation_score
from pipeline.evaluation.ranking import average_precision, calibration_error
from pipeline.evaluation.thresholds import decide, default_thresholds
from pipeline.evaluation.unseen import Unseen

SCHEMA = LabelSchema(("neck", "style"), (("round", "v"), ("plain", "casual", "sporty")), (True, False))

# Four photos: neck is unknown on the last, style on the third.
Y = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 1, 0, 0]], np.uint8)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], bool)
P = np.array(
    [[0.9, 0.1, 0.8, 0.3, 0.2], [0.6, 0.4, 0.1, 0.7, 0.6], [0.8, 0.2, 0.9, 0.9, 0.9], [0.5, 0.5, 0.4, 0.2, 0.1]]
)
D = np.array([[1, 0, 1, 0, 0], [1, 0, 0, 1, 1], [1, 0, 1, 1, 1], [1, 0, 0, 0, 0]], bool)


def test_single_valued_key_by_hand() -> None:
    row = evaluate(P, D, Y, MASK, SCHEMA).attributes[0]
    assert (row.attribute, row.single, row.values, row.photos, row.scored_values) == ("neck", True, 2, 3, 2)
    assert row.accuracy == pytest.approx(2 / 3)
    assert row.element_accuracy == pytest.approx(4 / 6)
    assert row.balanced_accuracy == pytest.approx((2 / 2 + 0 / 1) / 2)
    # round: tp 2, fp 1 -> 4/5; v: one missed -> 0.
    assert row.macro_f1 == pytest.approx((4 / 5 + 0) / 2)
    assert row.micro_f1 == pytest.approx(2 * 2 / (3 + 3))
    assert row.log_loss == pytest.approx(-2 * (math.log(0.9) + math.log(0.4) + math.log(0.8)) / 6)
    # round scores .9 .8 for the true and .6 for the false: 1; v scores .4 for the true, the highest: 1.
    assert row.mean_average_precision == pytest.approx(1.0)
    assert (row.predicted_per_photo, row.true_per_photo) == (1.0, 1.0)


def test_multi_valued_key_by_hand() -> None:
    row = evaluate(P, D, Y, MASK, SCHEMA).attributes[1]
    assert (row.photos, row.scored_values) == (3, 2)
    # Photo 1: {plain} of {plain, casual}; photo 2: {casual, sporty} for {casual}; photo 4: nothing for {plain}.
    assert row.iou == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert row.samples_f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert row.accuracy == 0.0
    assert row.element_accuracy == pytest.approx(6 / 9)
    assert row.micro_f1 == pytest.approx(2 * 2 / (4 + 3))
    assert row.macro_f1 == pytest.approx((2 / 3 + 2 / 3) / 2)
    # sporty has no positive: left out of every mean over values.
    assert row.balanced_accuracy == pytest.approx(((1 / 2 + 1) / 2 + (1 / 2 + 1) / 2) / 2)
    assert row.predicted_per_photo == pytest.approx(1.0)
    assert row.true_per_photo == pytest.approx(4 / 3)


def test_overall_by_hand() -> None:
    overall = evaluate(P, D, Y, MASK, SCHEMA).overall
    assert (overall.photos, overall.photos_all_known, overall.attributes, overall.keys_scored) == (4, 2, 2, 2)
    assert overall.scored_values == 4
    assert overall.accuracy == pytest.approx((2 / 3 + 0) / 2)
    assert overall.key_macro_f1 == pytest.approx((2 / 5 + 2 / 3) / 2)
    assert overall.macro_f1 == pytest.approx((4 / 5 + 0 + 2 / 3 + 2 / 3) / 4)
    assert overall.micro_f1 == pytest.approx(2 * 4 / (6 + 7))
    assert overall.element_accuracy == pytest.approx(10 / 15)
    # neck pairs 1, 0, 1; style pairs 1/2, 1/2, 0.
    assert overall.iou == pytest.approx((1 + 0 + 1 + 0.5 + 0.5 + 0) / 6)
    # Only the third photo, whose single known attribute is right.
    assert overall.all_keys_right == pytest.approx(1 / 4)
    assert overall.samples_f1 == pytest.approx((2 * 2 / 5 + 2 * 1 / 5 + 1 + 0) / 4)


def test_true_values_that_training_never_saw_are_false_negatives() -> None:
    """The third photo's neck is a polo, which no column stands for: wrong, decided or silent."""
    truth = Y.copy()
    truth[2, :2] = 0
    unseen = Unseen((("neck", "polo"),), np.array([[0], [0], [1], [0]], bool))
    silent = D.copy()
    silent[2, :2] = False
    for decided, said in ((D, 3), (silent, 2)):
        metrics = evaluate(P, decided, truth, MASK, SCHEMA, unseen)
        row, overall = metrics.attributes[0], metrics.overall
        assert (row.values, row.scored_values, row.rare_values, row.photos) == (3, 3, 3, 3)
        assert row.accuracy == pytest.approx(1 / 3)
        # round: the first photo of the two or three called so; v is missed, polo cannot be decided.
        assert row.macro_f1 == pytest.approx((2 / (1 + said) + 0 + 0) / 3)
        assert row.micro_f1 == pytest.approx(2 * 1 / (said + 3))
        assert row.iou == row.samples_f1 == pytest.approx(1 / 3)
        assert row.balanced_accuracy == pytest.approx((1 + 0 + 0) / 3)
        assert (row.predicted_per_photo, row.true_per_photo) == (said / 3, 1.0)
        # v is true where its score is highest, round where its score is; polo scores 0 on all three photos.
        assert row.mean_average_precision == pytest.approx((1 + 1 + 1 / 3) / 3)
        assert overall.all_keys_right == 0.0
        assert overall.scored_values == overall.rare_values == 5
        assert overall.macro_f1 == pytest.approx((2 / (1 + said) + 0 + 0 + 2 / 3 + 2 / 3) / 5)
    assert evaluate(P, silent, truth, MASK, SCHEMA).attributes[0].accuracy == pytest.approx(2 / 3), "silence was right"


def test_figures_over_cells_are_not_flattered_by_values_nobody_can_decide() -> None:
    unseen = Unseen((("neck", "polo"), ("style", "punk")), np.zeros((4, 2), bool))
    assert evaluate(P, D, Y, MASK, SCHEMA, unseen).overall.element_accuracy == pytest.approx(10 / 15)
    before, after = evaluate(P, D, Y, MASK, SCHEMA), evaluate(P, D, Y, MASK, SCHEMA, unseen)
    assert before.overall == after.overall, "a value without a test photo changes nothing"


def test_unknown_cells_change_nothing() -> None:
    other_p, other_d, other_y = P.copy(), D.copy(), Y.copy()
    other_p[~MASK], other_d[~MASK], other_y[~MASK] = 0.123, True, 1
    assert evaluate(other_p, other_d, other_y, MASK, SCHEMA) == evaluate(P, D, Y, MASK, SCHEMA)


def test_a_key_nobody_knows_is_none_and_left_out_of_means() -> None:
    mask = MASK.copy()
    mask[:, 2:] = False
    metrics = evaluate(P, D, Y, mask, SCHEMA)
    style = metrics.attributes[1]
    assert (style.photos, style.scored_values) == (0, 0)
    assert style.accuracy is None
    assert style.macro_f1 is None
    assert style.mean_average_precision is None
    assert style.log_loss is None
    assert style.calibration_error is None
    assert metrics.overall.keys_scored == 1
    assert metrics.overall.accuracy == metrics.attributes[0].accuracy
    assert metrics.overall.photos == 3


def test_a_missed_key_costs_iou_and_an_empty_pair_gives_nothing() -> None:
    truth = np.array([[0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], np.uint8)
    known = np.ones((2, 5), bool)
    metrics = evaluate(np.zeros((2, 5)), np.zeros((2, 5), bool), truth, known, SCHEMA)
    assert metrics.attributes[1].iou == 0.0
    assert metrics.attributes[0].iou is None
    assert metrics.overall.iou == 0.0
    # Known to have no value, and none decided: right.
    assert metrics.attributes[1].accuracy == 0.5


def test_unknown_as_a_class_scores_like_a_masked_cell() -> None:
    """Runs that treat unknown as a class are measured on the same cells as runs that mask it."""
    masked = LabelSchema(("neck",), (("round", "v"),), (True,))
    classed = LabelSchema(("neck",), (("round", "v", UNKNOWN),), (True,))
    truth = np.array([[1, 0], [0, 1], [0, 0]], np.uint8)
    known = np.array([[1, 1], [1, 1], [0, 0]], bool)
    with_class = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.uint8)
    scores = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    decided = decide(scores, classed, default_thresholds(classed))
    got = evaluate(scores, decided, with_class, np.ones((3, 3), bool), classed)
    assert got == evaluate(scores[:, :2], decided[:, :2], truth, known, masked)


def test_agrees_with_scikit_learn() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    truth = (rng.random((300, 8)) < 0.3).astype(np.uint8)
    scores = np.round(rng.random((300, 8)) * 0.6 + truth * 0.3, 2).clip(0.01, 0.99)
    truth[:, 7] = 0
    truth[truth.sum(axis=1) == 0, 0] = 1
    schema = LabelSchema(("k",), (tuple("abcdefgh"),), (False,))
    decided = decide(scores, schema, default_thresholds(schema))
    row = evaluate(scores, decided, truth, np.ones_like(truth, bool), schema).attributes[0]
    scored = slice(0, 7)
    expected: dict[str, Any] = {
        "micro_f1": sk.f1_score(truth, decided, average="micro"),
        "macro_f1": sk.f1_score(truth[:, scored], decided[:, scored], average="macro"),
        "samples_f1": sk.f1_score(truth, decided, average="samples", zero_division=0),
        "mean_average_precision": sk.average_precision_score(truth[:, scored], scores[:, scored], average="macro"),
        "accuracy": sk.accuracy_score(truth, decided),
        "element_accuracy": 1 - sk.hamming_loss(truth, decided),
        "iou": sk.jaccard_score(truth, decided, average="samples", zero_division=0),
        "log_loss": np.mean([sk.log_loss(truth[:, j], scores[:, j], labels=[0, 1]) for j in range(8)]),
        "balanced_accuracy": np.mean([sk.balanced_accuracy_score(truth[:, j], decided[:, j]) for j in range(7)]),
    }
    assert {name: getattr(row, name) for name in expected} == pytest.approx(expected)


def test_single_valued_key_agrees_with_scikit_learn() -> None:
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(4)
    true = rng.integers(0, 4, 200)
    scores = rng.dirichlet(np.ones(5), 200) + np.eye(5)[true] * 0.3
    schema = LabelSchema(("k",), (tuple("abcde"),), (True,))
    decided = decide(scores, schema, default_thresholds(schema))
    row = evaluate(scores, decided, np.eye(5, dtype=np.uint8)[true], np.ones((200, 5), bool), schema).attributes[0]
    best = scores.argmax(axis=1)
    assert row.accuracy == pytest.approx(sk.accuracy_score(true, best))
    assert row.balanced_accuracy == pytest.approx(sk.recall_score(true, best, labels=range(4), average="macro"))
    assert row.macro_f1 == pytest.approx(sk.f1_score(true, best, labels=range(4), average="macro"))


def test_average_precision_with_ties_and_unknown_cells() -> None:
    # Scores .5 .5 .2, truth 1 0 1: precision 1/2 at recall 1/2, then 2/3 at recall 1.
    scores = np.array([[0.5], [0.5], [0.2], [0.9]])
    truth = np.array([[1], [0], [1], [0]], bool)
    known = np.array([[1], [1], [1], [0]], bool)
    assert average_precision(scores, truth, known) == pytest.approx([0.5 * 0.5 + 0.5 * 2 / 3])
    assert np.isnan(average_precision(scores, np.zeros((4, 1), bool), known)).all()


def test_calibration_error_by_hand() -> None:
    # Confidences .9 .9 (right, wrong) and .4 (right): (2 * |.9 - .5| + 1 * |.4 - 1|) / 3.
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.4]])
    truth = np.array([[1, 0], [0, 1], [0, 1]], bool)
    assert calibration_error(scores, truth, np.ones((3, 2), bool), single=True) == pytest.approx((2 * 0.4 + 0.6) / 3)
    # Cell by cell: .9 .9 (one true), .1 .1 (one true), .3 (false), .4 (true).
    expected = (2 * 0.4 + 2 * 0.4 + 0.3 + 0.6) / 6
    assert calibration_error(scores, truth, np.ones((3, 2), bool), single=False) == pytest.approx(expected)


def test_majority_baseline_by_hand() -> None:
    baseline = majority_baseline(Y, MASK, SCHEMA)
    scores, decided = baseline.predict(2)
    assert scores[0] == pytest.approx([2 / 3, 1 / 3, 2 / 3, 2 / 3, 0])
    assert decided.tolist() == [[True, False, True, True, False]] * 2


def test_majority_of_a_key_without_training_rows_decides_nothing() -> None:
    assert not majority_baseline(Y, np.zeros_like(MASK), SCHEMA).decided.any()


def test_validation_score_by_hand() -> None:
    # neck: macro F1 2/5, accuracy 2/3; style: macro F1 2/3, IoU 1/3.
    expected = ((2 / 5 + 2 / 3) / 2 + (2 / 3 + 1 / 3) / 2) / 2
    assert validation_score(P, D, Y, MASK, SCHEMA) == pytest.approx(expected)
    assert math.isnan(validation_score(P, D, Y, np.zeros_like(MASK), SCHEMA))


def test_arrays_of_different_shapes_are_refused() -> None:
    with pytest.raises(OptionError, match=r"one shape \(n, 5\)"):
        evaluate(P, D, Y[:, :4], MASK, SCHEMA)
