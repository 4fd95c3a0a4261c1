"""Doubt, and the choice of few photos for many, on made-up probabilities and vectors."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.arrays import Float32, Int64
from pipeline.catalogue import LabelSchema
from pipeline.labelling.asks import Reasons, candidates
from pipeline.labelling.choice import Pool, best_photos, typical_photos
from pipeline.labelling.doubt import doubts, expected_f1

SCHEMA = LabelSchema(
    ("neck", "look", "fit"), (("round", "v", "polo"), ("plain", "print"), ("slim",)), (True, False, True)
)


def pool_of(X: Float32, groups: Int64 | None = None) -> Pool:
    return Pool(np.arange(len(X)) if groups is None else groups, lambda at: X[at])


def blobs(sizes: tuple[int, ...]) -> tuple[Float32, Int64]:
    """Clouds far from each other, of so many photos each."""
    rng = np.random.default_rng(0)
    of = np.repeat(np.arange(len(sizes)), sizes)
    X = 10 * np.eye(len(sizes), 8)[of] + rng.normal(size=(len(of), 8))
    return X.astype(np.float32), of.astype(np.int64)


def test_doubt_is_the_lack_of_a_margin_and_of_several_values_the_chance_of_an_error() -> None:
    P = np.array(
        [[0.8, 0.1, 0.1, 0.9, 0.2, 0.5], [0.4, 0.4, 0.2, 0.5, 0.5, 1.0], [0.02, 0.01, 0.0, 0.0, 1.0, 0.0]], np.float32
    )
    assert doubts(P, SCHEMA) == pytest.approx(
        np.array([[0.3, 0.28, 1.0], [1.0, 0.75, 0.0], [1 - 1 / 3, 0.0, 0.0]]), abs=1e-5
    )


def test_a_reason_names_the_values_in_question_and_the_poorer_of_them() -> None:
    f1 = np.array([0.9, 0.8, 0.7, 0.6, 0.1])
    one = LabelSchema(("neck", "look"), (("round", "v"), ("plain", "print", "dots")), (True, False))
    reasons = Reasons(one, f1, np.arange(5))
    neck = candidates(np.array([0.6, 0.4], np.float32), ("round", "v"))
    assert reasons.of("neck", neck) == "round or v? v has an expected F1 of 0.80, true on 1 training photos"
    look = candidates(np.array([0.99, 0.97, 0.5], np.float32), ("plain", "print", "dots"))
    assert reasons.of("look", look) == (
        "with dots or print? dots has an expected F1 of 0.10, true on 4 training photos"
    )


def test_the_expected_f1_is_that_of_the_decisions_if_the_probabilities_are_right() -> None:
    """Labels drawn by the probabilities: the measured F1 of each value comes near the expected one."""
    rng = np.random.default_rng(0)
    schema = LabelSchema(("neck",), (("round", "v", "polo"),), (True,))
    P = rng.dirichlet((4, 2, 0.3), 200_000).astype(np.float32)
    true = (P.cumsum(axis=1) > rng.random((len(P), 1))).argmax(axis=1)
    decided = P.argmax(axis=1)
    measured = [2 * np.sum((true == v) & (decided == v)) / (np.sum(true == v) + np.sum(decided == v)) for v in range(3)]
    assert expected_f1(P, schema) == pytest.approx(measured, abs=0.02)
    assert expected_f1(P, schema)[2] < expected_f1(P, schema)[0]


def test_the_best_of_each_cloud_is_chosen_though_one_cloud_has_the_best_of_all() -> None:
    X, of = blobs((25, 20, 20, 20))
    score = np.random.default_rng(1).random(len(X)) + 0.8 * (of == 0)
    chosen = best_photos(pool_of(X), score, 4, near=0.9999, seed=0)
    assert sorted(of[chosen]) == [0, 1, 2, 3]
    top = np.argsort(-score)[:4]
    assert set(of[top]) == {0}, "by score alone all would show the same"
    assert list(score[chosen]) == sorted(score[chosen], reverse=True)


def test_no_two_of_a_product_or_nearly_the_same_are_chosen_and_nothing_without_doubt() -> None:
    X, _ = blobs((8, 8))
    X[1] = X[0] * 1.001
    groups = np.arange(16)
    groups[[2, 3, 4]] = 2
    score = np.linspace(2, 1, 16)
    score[8:12] = 0
    chosen = best_photos(pool_of(X, groups), score, 16, near=0.99999, seed=0)
    assert sorted(chosen) == [0, 2, 5, 6, 7, 12, 13, 14, 15]


def test_without_a_model_every_cloud_is_shown_the_largest_first() -> None:
    X, of = blobs((10, 70, 30))
    chosen = typical_photos(pool_of(X), 3, near=0.9999, seed=0)
    assert list(of[chosen]) == [1, 2, 0]
    centre = X[of == 1].mean(axis=0)
    far = np.linalg.norm(X[of == 1] - centre, axis=1)
    assert np.linalg.norm(X[chosen[0]] - centre) <= np.median(far)
    assert list(chosen) == list(typical_photos(pool_of(X), 3, near=0.9999, seed=0))


@pytest.mark.parametrize("count", [5, 50])
def test_a_pool_smaller_than_the_batch_is_given_whole(count: int) -> None:
    X, _ = blobs((3, 2))
    assert sorted(typical_photos(pool_of(X), count, 0.9999, 0)) == [0, 1, 2, 3, 4]
    assert sorted(best_photos(pool_of(X), np.ones(5), count, 0.9999, 0)) == [0, 1, 2, 3, 4]
