"""Audit leaves: confident learning on known errors, folds that keep products together, outliers."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.audit import outliers
from pipeline.audit.label_noise import multi_issues, single_issues, supported
from pipeline.audit.out_of_fold import deal_folds
from pipeline.audit.outliers import neighbour_distance, robust_scores, whitened
from pipeline.errors import OptionError

RNG = np.random.default_rng(0)
N, V = 600, 4


@pytest.fixture
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y (n, V + 1) one-hot after planting, P of a head that is mostly right, rows with a planted error."""
    rng = np.random.default_rng(1)
    truth = rng.integers(V, size=N)
    logits = rng.normal(size=(N, V + 1)) * 0.8
    logits[np.arange(N), truth] += 4
    P = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    wrong = np.sort(rng.choice(N, 30, replace=False))
    given = truth.copy()
    given[wrong] = (truth[wrong] + rng.integers(1, V, size=30)) % V
    return np.eye(V + 1, dtype=np.uint8)[given], P, wrong


def test_planted_errors_come_first_and_the_truth_is_suggested(planted: tuple[np.ndarray, ...]) -> None:
    Y, P, wrong = planted
    mask = np.ones(Y.shape, bool)
    mask[wrong[0]] = False
    found = sorted(single_issues(Y, mask, P, np.arange(V)), key=lambda issue: issue.score)
    rows = [issue.row for issue in found]
    assert wrong[0] not in rows, "an unknown cell is never an issue"
    assert len(set(rows[:25]) & set(wrong.tolist())) >= 24
    assert all(issue.kind == "wrong" and Y[issue.row, issue.column] == 1 for issue in found)
    assert all(issue.suggested == P[issue.row, :V].argmax() != issue.column for issue in found)


def test_a_key_with_one_judged_value_has_no_issue(planted: tuple[np.ndarray, ...]) -> None:
    Y, P, _ = planted
    assert single_issues(Y, np.ones(Y.shape, bool), P, np.array([2])) == []


def test_labels_of_a_multi_valued_key_are_judged_one_by_one() -> None:
    rng = np.random.default_rng(2)
    truth = (rng.random((N, 2)) < [0.3, 0.6]).astype(np.uint8)
    P = np.clip(0.8 * truth + 0.1 + rng.normal(size=truth.shape) * 0.05, 0.01, 0.99).astype(np.float32)
    Y, mask = truth.copy(), np.ones(truth.shape, bool)
    extra, missing = np.flatnonzero(truth[:, 0] == 0)[:5], np.flatnonzero(truth[:, 1] == 1)[:5]
    Y[extra, 0], Y[missing, 1] = 1, 0
    P[extra, 0], P[missing, 1] = 0.01, 0.99
    mask[extra[0], 0] = False
    found = multi_issues(Y, mask, P, [0, 1])
    assert {(i.row, i.column, i.kind) for i in found} == {(r, 0, "extra") for r in extra[1:].tolist()} | {
        (r, 1, "missing") for r in missing.tolist()
    }
    assert {i.suggested for i in found if i.kind == "extra"} == {None}


def test_support_counts_products() -> None:
    Y = np.array([[1, 0], [1, 0], [1, 1], [0, 1]], np.uint8)
    mask = np.ones(Y.shape, bool)
    groups = np.array([0, 0, 0, 1])
    assert supported(Y, mask, groups, 2).tolist() == [False, True]


def test_folds_keep_products_together_and_are_even() -> None:
    groups = np.repeat(np.arange(50), np.tile([1, 2, 3, 4, 5], 10))
    fold = deal_folds(groups, 5, 0)
    assert all(len(np.unique(fold[groups == g])) == 1 for g in range(50))
    assert np.ptp(np.bincount(fold)) <= 5
    assert not np.array_equal(fold, deal_folds(groups, 5, 1))
    with pytest.raises(OptionError, match="--folds 5 with photos of 3 products"):
        deal_folds(np.array([0, 1, 2]), 5, 0)


def test_the_far_photo_scores_highest() -> None:
    X = RNG.normal(size=(200, 40)).astype(np.float32)
    X[17] += 6
    distance = neighbour_distance(whitened(X, dims=20), 5)
    scores = robust_scores(distance)
    assert scores.argmax() == 17 and scores[17] > 3.5 > np.median(scores)
    assert (robust_scores(np.ones(9)) == 0).all()


def test_neighbour_distance_is_the_mean_over_the_nearest() -> None:
    Z = np.array([[0], [1], [3], [10]], np.float32)
    assert neighbour_distance(Z, 2).tolist() == pytest.approx([2.0, 1.5, 2.5, 8.0])
    assert neighbour_distance(Z[:1], 2).tolist() == [0.0]


def cloud(rows: int) -> np.ndarray:
    """Rows of one cloud, the last three far from it and from each other."""
    Z = np.random.default_rng(0).normal(size=(rows, 8)).astype(np.float32)
    Z[-3:] = 12 * np.eye(8, dtype=np.float32)[:3]
    return Z


def test_of_very_many_rows_a_part_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    Z = cloud(3000)
    exact = neighbour_distance(Z, 5)
    monkeypatch.setattr(outliers, "MOST_COMPARED", 500)
    sampled = neighbour_distance(Z, 5)
    assert (sampled >= exact - 1e-3).all(), "a row was its own neighbour, or one that is not there was found"
    for distance in (exact, sampled):
        scores = robust_scores(distance)
        assert set(np.argsort(scores)[-3:]) == {2997, 2998, 2999}
        assert (scores[-3:] > 3.5).all()
    assert np.corrcoef(exact, sampled)[0, 1] > 0.9
