"""Dropping inputs while training, and stopping where a refit must."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import HeadError
from pipeline.heads import HeadConfig, SweepOptions, Targets, fit_many


def problem(n: int = 200, d: int = 6) -> tuple[tuple[np.ndarray, Targets], tuple[np.ndarray, Targets]]:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, d)).astype(np.float32)
    Y = (X @ rng.normal(size=(d, 3)) > 0).astype(np.uint8)
    half = n // 2
    return (X[:half], Targets.plain(Y[:half])), (X[half:], Targets.plain(Y[half:]))


CONFIG = HeadConfig(head="linear", optimizer="adam", lr=0.05, epochs=6, batch_size=32, patience=0, input_dropout=0.4)


def test_dropped_inputs_change_training_but_not_prediction() -> None:
    train, validation = problem()
    dropped, plain = fit_many([CONFIG, replace(CONFIG, input_dropout=0.0)], train, validation)
    assert np.abs(dropped.predict_proba(train[0]) - plain.predict_proba(train[0])).max() > 1e-3
    np.testing.assert_array_equal(dropped.predict_proba(train[0]), dropped.predict_proba(train[0]))


def test_what_is_dropped_is_the_same_alone_and_in_company() -> None:
    train, validation = problem()
    alone = fit_many([CONFIG], train, validation)[0]
    others = [replace(CONFIG, lr=0.01), CONFIG, replace(CONFIG, input_dropout=0.2), replace(CONFIG, seed=5)]
    together = fit_many(others, train, validation)[1]
    np.testing.assert_allclose(together.predict_proba(train[0]), alone.predict_proba(train[0]), atol=1e-6)


def test_a_share_out_of_range_is_refused() -> None:
    with pytest.raises(HeadError, match="input_dropout of head 'linear' is 1.0, expected at least 0 and below 1"):
        replace(CONFIG, input_dropout=1.0)


def test_stop_at_keeps_that_epoch_whatever_the_validation_loss() -> None:
    train, validation = problem()
    full = fit_many([CONFIG], train, validation)[0]
    stopped = fit_many([CONFIG], train, validation, SweepOptions(stop_at=(2,)))[0]
    assert full.best_epoch > 2
    assert (stopped.best_epoch, [r["epoch"] for r in stopped.history]) == (2, [1, 1, 2, 2])


def test_stop_at_needs_an_epoch_for_every_configuration() -> None:
    train, validation = problem()
    with pytest.raises(HeadError, match="2 epochs to stop at, 1 configuration;"):
        fit_many([CONFIG], train, validation, SweepOptions(stop_at=(2, 3)))
