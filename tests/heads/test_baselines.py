"""The baselines are the real thing: each column equals the library's own fit on that column's known rows."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier

from pipeline.errors import HeadError
from pipeline.heads import HeadConfig, SweepOptions, Targets, bytes_copied, estimate_seconds, fit_many
from pipeline.options import FitOptions
from tests.heads.problems import SINGLE, SIZES, problem

TRAIN_X, TRAIN = problem(150)
HELD_X, HELD = problem(60, seed=1)


def _fit(config: HeadConfig, train: Targets = TRAIN, **options):
    return fit_many([config], (TRAIN_X, train), (HELD_X, HELD), SweepOptions(device="cpu", **options))[0]


def test_logistic_regression_equals_a_fit_of_each_column() -> None:
    fitted = _fit(HeadConfig(head="logreg", C=0.3))
    mean, std = TRAIN_X.mean(axis=0, dtype=np.float64), TRAIN_X.std(axis=0, dtype=np.float64)
    P = fitted.predict_proba(HELD_X)
    for column in range(9):
        known = TRAIN.mask[:, column]
        alone = LogisticRegression(C=0.3).fit(((TRAIN_X - mean) / std)[known], TRAIN.Y[known, column])
        expected = alone.predict_proba((HELD_X - mean) / std)[:, 1]
        assert np.abs(P[:, column] - expected).max() < 1e-3


@pytest.mark.parametrize("head", ["logreg", "multinomial"])
def test_strengths_fitted_one_from_the_other_are_what_each_alone_is(head: str) -> None:
    configs = [HeadConfig(head=head, C=C) for C in (1.0, 0.01, 0.1)]
    together = fit_many(configs, (TRAIN_X, TRAIN), (HELD_X, HELD), SweepOptions(device="cpu"))
    assert [fitted.config for fitted in together] == configs
    for fitted in together:
        gap = fitted.predict_proba(HELD_X) - _fit(fitted.config).predict_proba(HELD_X)
        assert np.abs(gap).max() < 2e-3
    assert len({fitted.validation_loss for fitted in together}) == 3


def test_a_multinomial_regression_equals_a_fit_of_each_attribute() -> None:
    fitted = _fit(HeadConfig(head="multinomial", C=0.3))
    (member,) = fitted.members
    assert (member["kind"], fitted.links) == ("dense", ("softmax", "softmax", "sigmoid"))
    mean, std = TRAIN_X.mean(axis=0, dtype=np.float64), TRAIN_X.std(axis=0, dtype=np.float64)
    Z, held, P = (TRAIN_X - mean) / std, (HELD_X - mean) / std, fitted.predict_proba(HELD_X)
    for columns in TRAIN.slices[:2]:
        known = TRAIN.mask[:, columns.start]
        alone = LogisticRegression(C=0.3).fit(Z[known], TRAIN.Y[known, columns].argmax(axis=1))
        assert np.abs(P[:, columns] - alone.predict_proba(held)).max() < 1e-3
    for column in range(5, 9):
        known = TRAIN.mask[:, column]
        alone = LogisticRegression(C=0.3).fit(Z[known], TRAIN.Y[known, column])
        assert np.abs(P[:, column] - alone.predict_proba(held)[:, 1]).max() < 1e-3


def test_a_multinomial_regression_gives_values_it_never_saw_half_a_photo() -> None:
    Y, mask = TRAIN.Y.copy(), TRAIN.mask.copy()
    Y[Y[:, 0] > 0, :3] = (0, 1, 0)  # the first value of the first attribute is gone
    Y[:, 3:5], mask[:, 3:5] = (0, 1), True  # the second attribute has one value alone
    Y[:, 5] = 0
    P = _fit(HeadConfig(head="multinomial"), Targets.plain(Y, mask, SIZES, SINGLE)).predict_proba(HELD_X)
    np.testing.assert_allclose(P[:, :3].sum(axis=1), 1, atol=1e-5)
    assert 0 < P[:, 0].mean() < 0.01
    np.testing.assert_allclose(P[:, 3], 0.5 / 151, rtol=1e-5)
    np.testing.assert_allclose(P[:, 5], 0.5 / (mask[:, 5].sum() + 1), rtol=1e-5)


def test_a_photo_known_to_have_no_value_is_no_class_of_a_multinomial_regression() -> None:
    Y, none = TRAIN.Y.copy(), np.arange(150) < 20
    Y[none, :3] = 0
    without = TRAIN.mask.copy()
    without[none, :3] = False
    config = HeadConfig(head="multinomial")
    there, left_out = (_fit(config, Targets.plain(Y, mask, SIZES, SINGLE)) for mask in (TRAIN.mask, without))
    assert np.array_equal(there.predict_proba(HELD_X), left_out.predict_proba(HELD_X))


def test_lightgbm_equals_a_fit_of_each_column() -> None:
    fitted = _fit(HeadConfig(head="lightgbm", trees=5, feature_fraction=1.0))
    P = fitted.predict_proba(HELD_X)
    for column in range(9):
        known = TRAIN.mask[:, column]
        alone = LGBMClassifier(
            n_estimators=5, learning_rate=0.05, num_leaves=15, max_bin=63, random_state=0, n_jobs=1, verbose=-1,
            deterministic=True, force_col_wise=True,
        ).fit(TRAIN_X[known], TRAIN.Y[known, column])  # fmt: skip
        assert np.abs(P[:, column] - alone.predict_proba(HELD_X)[:, 1]).max() < 1e-6


def test_lightgbm_grows_enough_trees_by_default() -> None:
    """50 trees gave away two points; what `fit-heads` asks for is what a configuration says by itself."""
    assert FitOptions().trees == HeadConfig(head="lightgbm").trees == 300


@pytest.mark.parametrize("head", ["logreg", "lightgbm"])
def test_the_member_is_a_real_multi_output_classifier(head: str) -> None:
    """Anyone with the library alone can call predict_proba and predict on it."""
    fitted = _fit(HeadConfig(head=head, trees=5))
    (member,) = fitted.members
    estimator = member["estimator"]
    assert member["kind"] == "estimator" and type(estimator) is MultiOutputClassifier
    lists = estimator.predict_proba(HELD_X)
    assert np.allclose(np.stack([p[:, 1] for p in lists], axis=1), fitted.predict_proba(HELD_X), atol=1e-6)
    assert estimator.predict(HELD_X).shape == (60, 9)
    assert fitted.links == ("sigmoid",) * 3


@pytest.mark.parametrize("head", ["logreg", "lightgbm"])
def test_one_class_columns_become_constants(head: str) -> None:
    Y, mask = TRAIN.Y.copy(), TRAIN.mask.copy()
    Y[:, 0], Y[:, 1] = 0, 1
    mask[:, 3:5] = False
    fitted = _fit(HeadConfig(head=head, trees=5), Targets.plain(Y, mask, SIZES, SINGLE))
    P = fitted.predict_proba(HELD_X)
    assert fitted.not_learnable == (0, 1, 3, 4)
    assert set(P[:, 0]) == {0.0} and set(P[:, 1]) == {1.0} and set(P[:, 3]) == {0.0}


def test_columns_may_know_different_rows_within_a_key() -> None:
    mask = np.random.default_rng(0).random((150, 9)) < 0.6
    fitted = _fit(HeadConfig(head="logreg"), Targets.plain(TRAIN.Y, mask, SIZES, SINGLE))
    column = 6
    alone = _fit(
        HeadConfig(head="logreg"), Targets.plain(TRAIN.Y, np.repeat(mask[:, [column]], 9, axis=1), SIZES, SINGLE)
    )
    assert np.allclose(fitted.predict_proba(HELD_X)[:, column], alone.predict_proba(HELD_X)[:, column], atol=1e-6)


def test_threads_do_not_change_the_numbers() -> None:
    for head in ("logreg", "multinomial", "lightgbm"):
        one, two = (_fit(HeadConfig(head=head, trees=5), threads=t).predict_proba(HELD_X) for t in (1, 2))
        assert np.array_equal(one, two)


def test_views_train_on_one_of_them_per_photo_and_average() -> None:
    X = np.stack([TRAIN_X, TRAIN_X])
    both = fit_many([HeadConfig(head="logreg")], (X, TRAIN), (np.stack([HELD_X] * 2), HELD), SweepOptions("cpu"))[0]
    assert np.allclose(both.predict_proba(HELD_X), _fit(HeadConfig(head="logreg")).predict_proba(HELD_X), atol=1e-6)


def test_validation_loss_is_recorded() -> None:
    fitted = _fit(HeadConfig(head="logreg"))
    P = fitted.predict_proba(HELD_X).astype(np.float64)
    losses = -np.where(HELD.Y == 1, np.log(P), np.log1p(-P)) * HELD.mask
    assert fitted.validation_loss == pytest.approx(losses.sum() / sum(HELD.mask[:, s.start].sum() for s in HELD.slices))
    assert fitted.history == [{"epoch": 0, "split": "validation", "loss": fitted.validation_loss}]


def test_the_time_is_stated_before_the_work() -> None:
    seen: list[str] = []
    config = HeadConfig(head="logreg")
    _fit(config, progress=seen.append)
    assert seen[0] == f"{config.config_id}: 9 labels, about 0 s"
    assert seen[-1] == f"{config.config_id}: 9 of 9 labels"
    fit_many(
        [config, HeadConfig(head="logreg", C=0.1)], (TRAIN_X, TRAIN), (HELD_X, HELD), SweepOptions(progress=seen.append)
    )
    assert seen[-1] == "logreg, C 0.1, 1: 9 of 9 labels"


@pytest.mark.parametrize("head", ["logreg", "multinomial", "lightgbm"])
def test_the_estimate_grows_with_rows_labels_and_shrinks_with_threads(head: str) -> None:
    config = HeadConfig(head=head)
    base = estimate_seconds(config, 1000, 500, 10, threads=1)
    assert estimate_seconds(config, 2000, 500, 10, threads=1) == pytest.approx(2 * base)
    assert estimate_seconds(config, 1000, 500, 30, threads=1) == pytest.approx(3 * base)
    assert estimate_seconds(config, 1000, 500, 10, threads=2) == pytest.approx(base / 2)


def test_lightgbm_has_a_label_limit_with_an_override() -> None:
    config = HeadConfig(head="lightgbm", trees=1)
    with pytest.raises(HeadError, match=r"9 labels exceed the limit of 8 and may take hours; .* raise --max-labels"):
        _fit(config, max_labels=8)
    assert _fit(config, max_labels=9).predict_proba(HELD_X).shape == (60, 9)


@pytest.mark.parametrize("head", ["logreg", "multinomial"])
def test_logistic_regression_copies_no_more_than_it_says(head: str) -> None:
    """The peak beside two views of the features, with rows that an attribute does not know, in NumPy's allocations."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2, 8000, 256)).astype(np.float32)
    targets = Targets.plain(X[0, :, :2] > 0, np.repeat(rng.random((8000, 1)) < 0.95, 2, axis=1))
    config, held = HeadConfig(head=head), (X[:, :50], targets.take(np.arange(50)))
    fit_many([config], held, held, SweepOptions(device="cpu", threads=2))  # imports are no copies
    tracemalloc.start()
    fit_many([config], (X, targets), held, SweepOptions(device="cpu", threads=2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < bytes_copied([config], X[0].nbytes, threads=2)


def test_only_baselines_copy_the_features() -> None:
    linear, logreg = HeadConfig(), HeadConfig(head="logreg")
    assert bytes_copied([linear], 1000) == 0
    assert bytes_copied([linear, logreg], 1000) == bytes_copied([logreg], 1000) > 2000
