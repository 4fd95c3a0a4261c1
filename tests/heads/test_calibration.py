"""Calibration: what it recovers, what it must not change, and that it lives in the model's own numbers."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.ranking import calibration_error
from pipeline.heads import FittedHead, HeadConfig, ensemble
from pipeline.heads.calibration import Calibration, calibrated, can_be_calibrated, fit_calibration

NECK, STYLE = slice(0, 4), slice(4, 7)


def head(scale: float, seed: int = 0) -> FittedHead:
    """Four exclusive necks by softmax and three styles by sigmoid, logits `scale` times too steep."""
    rng = np.random.default_rng(seed)
    W = (rng.normal(size=(6, 7)) * scale).astype(np.float32)
    b = (rng.normal(size=7) * scale).astype(np.float32)
    member = {"kind": "dense", "layers": [(W, b)], "hidden": "relu"}
    return FittedHead(HeadConfig(), [member], ("softmax", "sigmoid"), (NECK, STYLE))


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Photos whose labels follow the probabilities of the head of scale 1."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6)).astype(np.float32)
    P = head(1.0).predict_proba(X)
    Y = (rng.random((n, 7)) < P).astype(np.uint8)
    necks = (P[:, NECK].cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    Y[:, NECK] = np.eye(4, dtype=np.uint8)[np.minimum(necks, 3)]
    return X, Y


@pytest.mark.parametrize("scale", [0.4, 3.0])
def test_the_scale_that_was_wrong_is_found_and_the_error_falls_on_new_photos(scale: float) -> None:
    X, Y = drawn(3000, 1)
    found = fit_calibration(head(scale), X, Y, np.ones_like(Y, bool))
    assert found.scale == pytest.approx((1 / scale, 1 / scale), rel=0.12)
    assert found.shift[0] == 0.0
    assert abs(found.shift[1]) < 0.15
    new, truth = drawn(3000, 2)
    known = np.ones_like(truth, bool)
    before, after = head(scale).predict_proba(new), calibrated(head(scale), found).predict_proba(new)
    for columns, single in ((NECK, True), (STYLE, False)):
        errors = [
            calibration_error(P[:, columns], truth[:, columns] > 0, known[:, columns], single) for P in (before, after)
        ]
        assert errors[1] < 0.05 < errors[0]


def test_the_best_value_of_a_key_stays_the_best() -> None:
    X, Y = drawn(500, 3)
    wrong = head(3.0)
    after = calibrated(wrong, fit_calibration(wrong, X, Y, np.ones_like(Y, bool)))
    P, Q = wrong.predict_proba(X), after.predict_proba(X)
    for columns in (NECK, STYLE):
        assert (P[:, columns].argmax(axis=1) == Q[:, columns].argmax(axis=1))[P[:, columns].max(axis=1) < 0.999].all()


def test_the_numbers_are_folded_into_the_last_layer() -> None:
    found = Calibration((0.5, 2.0), (0.0, 1.0))
    (W, b), (V, c) = (h.members[0]["layers"][-1] for h in (head(1.0), calibrated(head(1.0), found)))
    np.testing.assert_allclose(V[:, NECK], W[:, NECK] / 2, rtol=1e-6)
    np.testing.assert_allclose(c[STYLE], 2 * b[STYLE] + 1, rtol=1e-6)
    assert set(calibrated(head(1.0), found).members[0]) == {"kind", "layers", "hidden"}


def test_unknown_cells_and_unknown_keys_say_nothing() -> None:
    X, Y = drawn(800, 4)
    known = np.ones_like(Y, bool)
    known[400:] = False
    spoiled = Y.copy()
    spoiled[400:] = 1 - Y[400:]
    assert fit_calibration(head(3.0), X, Y, known) == fit_calibration(head(3.0), X, spoiled, known)
    known[:, STYLE] = False
    found = fit_calibration(head(3.0), X, Y, known)
    assert (found.scale[1], found.shift[1]) == (1.0, 0.0)


def test_averages_share_one_calibration_and_views_count() -> None:
    X, Y = drawn(2000, 5)
    pair = ensemble([head(3.0), head(3.0, seed=9)])
    known = np.ones_like(Y, bool)

    def loss(h: FittedHead, X: np.ndarray) -> float:
        P = np.clip(h.predict_proba(X), 1e-7, 1 - 1e-7)
        return float(-np.where(Y > 0, np.log(P), np.log(1 - P)).mean())

    after = calibrated(pair, fit_calibration(pair, X, Y, known))
    assert len(after.members) == 2
    assert loss(after, X) < loss(pair, X)
    views = np.stack([X, X + np.float32(0.2)])
    seen = calibrated(head(3.0), fit_calibration(head(3.0), views, Y, known))
    assert loss(seen, views) < loss(head(3.0), views)


def test_few_photos_move_little_and_estimators_are_left_alone() -> None:
    X, Y = drawn(2, 6)
    found = fit_calibration(head(1.0), X, Y, np.ones_like(Y, bool))
    assert all(0.2 < a < 5 for a in found.scale)
    assert can_be_calibrated(head(1.0))
    assert not can_be_calibrated(FittedHead(HeadConfig(), [{"kind": "estimator"}], ("sigmoid",), (NECK,)))


def test_what_is_wrong_is_calibrated_and_what_is_right_is_left_alone() -> None:
    """Judged on photos that did not fit it: many photos show a wrong scale; the right one cannot be bettered."""
    X, Y = drawn(600, 7)
    known, folds = np.ones_like(Y, bool), np.arange(600) % 5
    wrong = fit_calibration(head(3.0), X, Y, known, folds)
    assert wrong.left_alone == () and wrong == fit_calibration(head(3.0), X, Y, known)
    right = fit_calibration(head(1.0), X, Y, known, folds)
    assert right.left_alone == (0, 1) and right == Calibration((1.0, 1.0), (0.0, 0.0))
    (W, b), (V, c) = (h.members[0]["layers"][-1] for h in (head(1.0), calibrated(head(1.0), right)))
    assert np.array_equal(W, V) and np.array_equal(b, c)


def test_few_photos_no_longer_make_a_head_worse_that_was_right() -> None:
    """Twenty photos each time: two numbers fitted on them cost new photos more than they gain."""
    new, truth = drawn(2000, 99)

    def loss(found: Calibration) -> float:
        P = np.clip(calibrated(head(1.0), found).predict_proba(new), 1e-7, 1 - 1e-7)
        return float(-np.where(truth > 0, np.log(P), np.log(1 - P)).mean())

    always, helped = [], []
    for seed in range(20):
        X, Y = drawn(20, seed)
        known = np.ones_like(Y, bool)
        always.append(loss(fit_calibration(head(1.0), X, Y, known)))
        helped.append(loss(fit_calibration(head(1.0), X, Y, known, np.arange(20) % 5)))
    before = loss(Calibration((1.0, 1.0), (0.0, 0.0)))
    assert np.mean(always) - before > 2 * (np.mean(helped) - before)


@pytest.mark.parametrize("photos", [1, 2])
def test_a_single_fold_leaves_everything_alone(photos: int) -> None:
    X, Y = drawn(photos, 8)
    found = fit_calibration(head(3.0), X, Y, np.ones_like(Y, bool), np.zeros(photos, np.intp))
    assert found.left_alone == (0, 1)
