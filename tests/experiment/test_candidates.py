"""Choices on validation: policies are judged on rows that did not tune them, an average beats luck within noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.catalogue.labels import LabelSchema
from pipeline.evaluation.metrics import validation_score
from pipeline.evaluation.thresholds import decide, tune
from pipeline.experiment.candidates import Fit, JudgedHead, Truth, best_of, choose, cross_fitted, judge
from pipeline.heads import FittedHead, HeadConfig

VALUES = 12
SCHEMA = LabelSchema(("style",), (tuple(f"v{j}" for j in range(VALUES)),), (False,))
PLAIN = LabelSchema(("neck",), (("a", "b", "c"),), (True,))


def fitted(seed: int) -> FittedHead:
    return FittedHead(HeadConfig(seed=seed), [], ("sigmoid",), (slice(0, VALUES),))


def noisy(seed: int, photos: int = 200) -> tuple[np.ndarray, Truth]:
    """Probabilities that say a little about every value, all on the same scale: one threshold serves them all."""
    rng = np.random.default_rng(seed)
    Y = (rng.random((photos, VALUES)) < 0.15).astype(np.uint8)
    P = 1 / (1 + np.exp(-(rng.normal(size=Y.shape) + 1.2 * Y - 2.0)))
    return P.astype(np.float32), Truth(SCHEMA, Y, np.ones(Y.shape, bool), np.arange(photos) // 2)


def judged(P: np.ndarray, truth: Truth, seed: int = 0, threshold: str = "auto") -> JudgedHead:
    head = fitted(seed)
    return judge(Fit(f"head-{seed}", head, (head,)), P, truth, threshold)


@pytest.mark.parametrize("seed", range(4))
def test_tuned_thresholds_are_not_scored_on_the_rows_that_tuned_them(seed: int) -> None:
    P, truth = noisy(seed)
    found = judged(P, truth).policies
    for policy in ("per-label", "per-key", "global"):
        limits = tune(P, truth.Y, truth.known, SCHEMA, policy)
        assert (found[policy].thresholds == limits).all(), "those that are kept are tuned on every row"
        flattered = validation_score(P, decide(P, SCHEMA, limits), truth.Y, truth.known, SCHEMA)
        assert found[policy].score < flattered
    plain = decide(P, SCHEMA, found["best"].thresholds)
    assert found["best"].score == validation_score(P, plain, truth.Y, truth.known, SCHEMA)


def test_auto_no_longer_takes_the_policy_with_the_most_to_tune() -> None:
    """One threshold serves every value here, and on other photos per-label ones do worse."""
    chosen = [judged(*noisy(seed)).chosen for seed in range(8)]
    assert chosen.count("per-label") <= 4
    for seed in range(8):
        P, truth = noisy(seed)
        scores = {
            policy: validation_score(
                P, decide(P, SCHEMA, tune(P, truth.Y, truth.known, SCHEMA, policy)), truth.Y, truth.known, SCHEMA
            )
            for policy in ("global", "per-label")
        }
        assert scores["per-label"] > scores["global"], "on the rows that tuned them per-label looks better"


def test_no_row_is_judged_by_thresholds_that_its_product_tuned() -> None:
    """What a product's rows are decided to be does not depend on their truth."""
    P, truth = noisy(3, 60)
    before = cross_fitted(P, truth, "per-label")
    for group in range(0, 30, 7):
        rows = truth.groups == group
        Y = truth.Y.copy()
        Y[rows] = 1 - Y[rows]
        assert (cross_fitted(P, replace(truth, Y=Y), "per-label")[rows] == before[rows]).all()


def test_one_product_alone_is_judged_by_itself() -> None:
    P, truth = noisy(0, 6)
    alone = replace(truth, groups=np.zeros(6, np.int64))
    assert np.isfinite(judged(P, alone).score)


def candidates(lead: int) -> tuple[list[JudgedHead], Truth]:
    """A member that gets `lead` more of 200 photos right than the ensemble of it and another."""
    true = np.arange(200) % 3
    truth = Truth(PLAIN, np.eye(3, dtype=np.uint8)[true], np.ones((200, 3), bool), np.arange(200))

    def says(right: int) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[np.where(np.arange(200) < right, true, (true + 1) % 3)]

    first, second = fitted(0), fitted(1)
    return [
        judge(Fit("first", first, (first,)), says(150 + lead), truth, "best"),
        judge(Fit("second", second, (second,)), says(120), truth, "best"),
        judge(Fit("ensemble-2", fitted(2), (first, second)), says(150), truth, "best"),
    ], truth


def test_within_noise_an_ensemble_is_preferred_to_its_member() -> None:
    found, truth = candidates(lead=1)
    assert best_of(found).config_id == "first"
    assert choose(found, truth).config_id == "ensemble-2"


def test_a_member_that_is_ahead_by_more_than_noise_is_taken() -> None:
    found, truth = candidates(lead=20)
    assert choose(found, truth).config_id == "first"


def test_without_an_ensemble_the_highest_score_is_taken() -> None:
    found, truth = candidates(lead=1)
    assert choose(found[:2], truth).config_id == "first"


def test_the_policy_and_the_head_follow_what_is_best() -> None:
    """A rare value that is never above one half: tuned thresholds find it, at the price of photos with one too many."""
    rng = np.random.default_rng(0)
    Y = np.zeros((400, VALUES), np.uint8)
    Y[:, 0], Y[:, 1] = 1, rng.random(400) < 0.2
    P = np.where(Y > 0, 0.45, 0.02 + 0.3 * (rng.random(Y.shape) < 0.3)).astype(np.float32)
    P[:, 0] = 0.9
    chosen = {}
    for goal in ("balanced", "accuracy", "map"):
        truth = Truth(SCHEMA, Y, np.ones(Y.shape, bool), np.arange(400), goal)
        found = judged(P, truth)
        chosen[goal] = found.chosen
        assert found.score == truth.score(found.P, found.decided) == max(p.score for p in found.policies.values())
        assert found.metrics["balanced"] == replace(truth, choose="balanced").score(P, found.decided)
    assert chosen["map"] == "best", "no threshold changes it, so the simplest is taken"
    assert chosen["balanced"] != "best"


@pytest.mark.parametrize("goal", ["accuracy", "all-right", "map"])
def test_noise_is_that_of_what_is_best(goal: str) -> None:
    found, truth = candidates(lead=1)
    assert choose(found, replace(truth, choose=goal)).config_id == "ensemble-2"
    found, truth = candidates(lead=30)
    assert choose(found, replace(truth, choose=goal)).config_id == "first"
