"""Kernel ridge: equal to scikit-learn's on the rows that know a value, and what its settings do."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from pipeline.errors import HeadError
from pipeline.heads import HeadConfig, SweepOptions, Targets, bytes_copied, ensemble, fit_many, grid
from pipeline.heads.calibration import calibrated, fit_calibration
from pipeline.heads.kernel import SHARPNESS, parse_block_weights
from pipeline.options import FitOptions
from tests.heads.problems import key_accuracy, problem

TRAIN_X, TRAIN = problem(150)
HELD_X, HELD = problem(80, seed=1)
ONE_BLOCK = {"block_weights": ()}


def fit(config: HeadConfig, X: np.ndarray = TRAIN_X, targets: Targets = TRAIN, **options):
    return fit_many([config], (X, targets), (HELD_X, HELD), SweepOptions(device="cpu", **options))[0]


def logits_of(P: np.ndarray) -> np.ndarray:
    """Differences of logits within an attribute are differences of log probabilities."""
    return np.log(np.maximum(P.astype(np.float64), 1e-30))


def test_scores_equal_scikit_learns_on_the_rows_that_know_the_attribute() -> None:
    config = HeadConfig(head="kernel-ridge", ridge=0.1, bandwidth=0.7)
    P = fit(config).predict_proba(HELD_X)
    mean, deviation = TRAIN_X.mean(axis=0, dtype=np.float64), TRAIN_X.std(axis=0, dtype=np.float64)
    Z, held = (TRAIN_X - mean) / deviation, (HELD_X - mean) / deviation
    apart = np.sqrt(((Z[:, None] - Z[None]) ** 2).sum(axis=2))[np.triu_indices(len(Z), 1)]
    gamma = 1 / (2 * (0.7 * np.median(apart)) ** 2)
    for columns, single in zip(TRAIN.slices, TRAIN.single, strict=True):
        known = TRAIN.mask[:, columns.start]
        prior = TRAIN.Y[known, columns].mean(axis=0)
        alone = KernelRidge(alpha=0.1, kernel="rbf", gamma=gamma).fit(Z[known], TRAIN.Y[known, columns] - prior)
        scores = SHARPNESS * (alone.predict(held) + prior)
        if single:
            expected = np.exp(scores - scores.max(axis=1, keepdims=True))
            expected /= expected.sum(axis=1, keepdims=True)
        else:
            expected = 1 / (1 + np.exp(SHARPNESS / 2 - scores))
        # Landmarks are kept in half precision.
        assert np.abs(P[:, columns] - expected).max() < 0.02
        assert np.abs(P[:, columns] - expected).mean() < 0.002


def test_it_learns_what_is_not_linear() -> None:
    """A ring around the origin is one value, the middle the other."""
    rng = np.random.default_rng(0)

    def rings(n: int) -> tuple[np.ndarray, Targets]:
        X = rng.normal(size=(n, 2)).astype(np.float32)
        outside = (X**2).sum(axis=1) > 1.4
        return X, Targets.plain(np.stack([outside, ~outside], axis=1), sizes=[2], single=[True])

    train, held = rings(300), rings(200)
    heads = fit_many([HeadConfig(head="kernel-ridge"), HeadConfig()], train, held, SweepOptions(device="cpu"))
    assert key_accuracy(heads[0].predict_proba(held[0]), held[1], 0) > 0.95
    assert key_accuracy(heads[1].predict_proba(held[0]), held[1], 0) < 0.75


def test_labels_of_rows_that_do_not_know_the_attribute_change_nothing() -> None:
    Y = TRAIN.Y.copy()
    Y[~TRAIN.mask] = 1 - Y[~TRAIN.mask]
    other = Targets(Y, TRAIN.mask, TRAIN.slices, TRAIN.single)
    config = HeadConfig(head="kernel-ridge")
    assert np.array_equal(fit(config).predict_proba(HELD_X), fit(config, targets=other).predict_proba(HELD_X))


def test_more_landmarks_than_photos_keep_every_photo_and_fewer_come_close() -> None:
    exact, few = (fit(HeadConfig(head="kernel-ridge", landmarks=m)) for m in (1000, 120))
    assert len(exact.members[0]["landmarks"]) == 150
    assert len(few.members[0]["landmarks"]) == 120
    gap = np.abs(exact.predict_proba(HELD_X) - few.predict_proba(HELD_X))
    assert 0 < gap.mean() < 0.06
    accuracies = [key_accuracy(head.predict_proba(HELD_X), HELD, 0) for head in (exact, few)]
    assert accuracies[1] > accuracies[0] - 0.06
    again = fit(HeadConfig(head="kernel-ridge", landmarks=120))
    assert np.array_equal(again.members[0]["landmarks"], few.members[0]["landmarks"])


def test_a_block_of_noise_with_little_weight_does_no_harm() -> None:
    rng = np.random.default_rng(3)
    noisy = [np.concatenate([X, rng.normal(size=(len(X), 200)).astype(np.float32)], axis=1) for X in (TRAIN_X, HELD_X)]
    blocks = (("pooled", 6), ("levels", 200))
    config = HeadConfig(head="kernel-ridge", block_weights=("levels=0.01",))
    options = SweepOptions(device="cpu", blocks=blocks)
    weighed, alike = fit_many([config, HeadConfig(head="kernel-ridge")], (noisy[0], TRAIN), (noisy[1], HELD), options)
    plain = fit(HeadConfig(head="kernel-ridge"))
    accuracies = [key_accuracy(h.predict_proba(noisy[1]), HELD, 0) for h in (weighed, alike)]
    assert accuracies[0] == pytest.approx(key_accuracy(plain.predict_proba(HELD_X), HELD, 0), abs=0.03)
    assert accuracies[0] > accuracies[1] + 0.1


def test_views_are_averaged_for_the_fit_and_their_probabilities_for_the_answer() -> None:
    config = HeadConfig(head="kernel-ridge")
    both = np.stack([TRAIN_X - 0.5, TRAIN_X + 0.5])
    assert fit(config, both).predict_proba(HELD_X) == pytest.approx(fit(config).predict_proba(HELD_X), abs=1e-3)


def test_logit_adjustment_takes_the_prior_off_a_single_valued_attribute() -> None:
    plain, adjusted = (fit(HeadConfig(head="kernel-ridge", logit_adjust=tau)).predict_proba(HELD_X) for tau in (0, 0.5))
    prior = TRAIN.positive_counts / TRAIN.known_counts
    for columns, single in zip(TRAIN.slices, TRAIN.single, strict=True):
        if not single:
            assert np.array_equal(plain[:, columns], adjusted[:, columns])
            continue
        shift = logits_of(adjusted[:, columns]) - logits_of(plain[:, columns]) + 0.5 * np.log(prior[columns])
        assert shift - shift[:, :1] == pytest.approx(np.zeros_like(shift), abs=1e-3)


def test_heads_are_averaged_by_their_shares_and_calibrated_together() -> None:
    heads = fit_many(
        [HeadConfig(head="kernel-ridge"), HeadConfig(loss="ce", epochs=3), HeadConfig(loss="ce", epochs=3, seed=1)],
        (TRAIN_X, TRAIN), (HELD_X, HELD), SweepOptions(device="cpu"),
    )  # fmt: skip
    P = [head.predict_proba(HELD_X) for head in heads]
    mixed = ensemble(heads, (1.0, 0.5, 0.5))
    assert mixed.predict_proba(HELD_X) == pytest.approx(P[0] / 2 + P[1] / 4 + P[2] / 4, abs=1e-6)
    assert ensemble(heads).predict_proba(HELD_X) == pytest.approx((P[0] + P[1] + P[2]) / 3, abs=1e-6)
    calibration = fit_calibration(mixed, HELD_X, HELD.Y, HELD.mask)
    before, after = (
        -np.log(head.predict_proba(HELD_X)[:, :3][HELD.mask[:, :3] & (HELD.Y[:, :3] > 0)]).mean()
        for head in (mixed, calibrated(mixed, calibration))
    )
    assert after < before


def test_a_column_of_one_class_and_an_attribute_nobody_knows_are_survived() -> None:
    Y, mask = TRAIN.Y.copy(), TRAIN.mask.copy()
    Y[:, 0], mask[:, 3:5] = 0, False
    fitted = fit(
        HeadConfig(head="kernel-ridge", logit_adjust=0.3), targets=Targets(Y, mask, TRAIN.slices, TRAIN.single)
    )
    assert fitted.not_learnable == (0, 3, 4)
    P = fitted.predict_proba(HELD_X)
    assert np.isfinite(P).all() and (P[:, 3] == pytest.approx(0.5, abs=1e-6))


def test_constant_features_and_equal_photos_are_survived() -> None:
    X = np.ones_like(TRAIN_X)
    P = fit(HeadConfig(head="kernel-ridge"), X).predict_proba(HELD_X)
    assert np.isfinite(P).all()
    twice = np.concatenate([TRAIN_X[:75], TRAIN_X[:75]])
    few = fit(HeadConfig(head="kernel-ridge", landmarks=140), twice)
    assert np.isfinite(few.predict_proba(HELD_X)).all()


def test_it_needs_no_more_memory_than_it_says() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2, 1500, 64)).astype(np.float32)
    targets = Targets.plain(X[0, :, :2] > 0)
    config, held = HeadConfig(head="kernel-ridge", landmarks=1500), (X[:, :50], targets.take(np.arange(50)))
    fit_many([config], held, held, SweepOptions(device="cpu"))  # imports are no copies
    tracemalloc.start()
    fit_many([config], (X, targets), held, SweepOptions(device="cpu"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < bytes_copied([config], X[0].nbytes, 1500)


def test_a_stream_is_refused_with_what_to_do() -> None:
    class Stream:
        dim = 6

        def __len__(self) -> int:
            return 150

        def batches(self, batch_size: int, seed: object):
            yield from ()

    with pytest.raises(HeadError, match="'kernel-ridge' needs the features .* raise --memory"):
        fit_many([HeadConfig(head="kernel-ridge")], (Stream(), TRAIN), (HELD_X, HELD), SweepOptions(device="cpu"))


@pytest.mark.parametrize("text", ["levels", "levels=", "=2", "levels=0", "levels=-1", "levels=nan", "levels=inf"])
def test_a_block_weight_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(HeadError, match="expected block=weight with a positive number"):
        parse_block_weights([text])


def test_a_block_named_twice_is_refused() -> None:
    with pytest.raises(HeadError, match="'levels' twice"):
        parse_block_weights(["levels=1", "levels=2"])


def test_the_grid_tries_ridges_bandwidths_and_adjustments() -> None:
    options = FitOptions(heads=("kernel-ridge", "linear"), ridge=(0.1, 1.0), bandwidth=(0.5, 1.0), logit_adjust=(0.0,))
    configs = [c for c in grid(options) if c.head == "kernel-ridge"]
    assert [(c.ridge, c.bandwidth) for c in configs] == [(0.1, 0.5), (0.1, 1.0), (1.0, 0.5), (1.0, 1.0)]
    assert len({c.config_id for c in configs}) == 4
    assert all(c.optimizer == "" and c.block_weights == options.block_weights for c in configs)


def test_fields_of_kernel_ridge_are_no_part_of_other_heads_ids() -> None:
    """Runs made before it came keep the names of their configurations."""
    assert HeadConfig(ridge=5.0).config_id == HeadConfig().config_id == "linear-adam-94ab5119"
