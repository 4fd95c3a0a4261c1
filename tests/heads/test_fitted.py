"""Fitted heads: prediction from plain arrays, and averages of several heads."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import HeadError
from pipeline.heads import FittedHead, HeadConfig, SweepOptions, ensemble, fit_many
from tests.heads.problems import problem

TRAIN, HELD = problem(120), problem(50, seed=1)
SLICES = (slice(0, 2), slice(2, 3))


def _dense(links: tuple[str, ...], *layers: tuple[list[list[float]], list[float]], slices=SLICES) -> FittedHead:
    arrays = [(np.array(W, np.float32), np.array(b, np.float32)) for W, b in layers]
    return FittedHead(HeadConfig(), [{"kind": "dense", "layers": arrays, "hidden": "relu"}], links, slices)


def test_layers_links_and_rectifiers_by_hand() -> None:
    head = _dense(
        ("softmax", "sigmoid"),
        ([[1.0, -1.0]], [0.0, 0.0]),
        ([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]], [0.0, 0.0, -2.0]),
    )
    P = head.predict_proba(np.array([[1.0], [-1.0]], np.float32))
    e = np.e
    expected = [[e / (e + 1), 1 / (e + 1), 0.5], [1 / (e + 1), e / (e + 1), 1 / (1 + e**2)]]
    assert np.allclose(P, expected, atol=1e-6)


def test_large_logits_do_not_overflow() -> None:
    head = _dense(("softmax", "sigmoid"), ([[1e6, -1e6, -1e6]], [0.0, 0.0, 0.0]))
    with np.errstate(over="raise"):
        assert head.predict_proba(np.ones((1, 1))).tolist() == [[1.0, 0.0, 0.0]]


def test_more_rows_than_a_chunk() -> None:
    head = _dense(("sigmoid", "sigmoid"), ([[1.0, 2.0, 3.0]], [0.0, 0.0, 0.0]))
    X = np.linspace(-1, 1, 20_001, dtype=np.float32)[:, None]
    P = head.predict_proba(X)
    assert P.shape == (20_001, 3)
    assert np.allclose(P[:, 1], 1 / (1 + np.exp(-2 * X[:, 0])), atol=1e-6)


def test_features_of_a_wrong_rank() -> None:
    head = _dense(("sigmoid", "sigmoid"), ([[1.0, 2.0, 3.0]], [0.0, 0.0, 0.0]))
    with pytest.raises(HeadError, match=r"features must be \(photos, numbers\) .* got shape \(3,\)"):
        head.predict_proba(np.zeros(3))


def test_an_ensemble_averages_probabilities() -> None:
    configs = [HeadConfig(lr=0.05, epochs=3), HeadConfig(head="mlp", hidden=(4,), epochs=3), HeadConfig(head="logreg")]
    heads = fit_many(configs, TRAIN, HELD, SweepOptions(device="cpu"))
    both = ensemble(heads)
    expected = np.mean([h.predict_proba(HELD[0]) for h in heads], axis=0)
    assert np.allclose(both.predict_proba(HELD[0]), expected, atol=1e-6)
    assert len(both.members) == 3
    assert both.note == f"average of {', '.join(c.config_id for c in configs)}"


def test_an_estimator_joins_softmax_heads() -> None:
    heads = fit_many([HeadConfig(head="logreg"), HeadConfig(loss="ce", epochs=2)], TRAIN, HELD, SweepOptions("cpu"))
    both = ensemble(heads)
    assert both.links == ("softmax", "softmax", "sigmoid")
    expected = np.mean([h.predict_proba(HELD[0]) for h in heads], axis=0)
    assert np.allclose(both.predict_proba(HELD[0]), expected, atol=1e-6)


def test_ensembles_that_cannot_be() -> None:
    one = _dense(("sigmoid", "sigmoid"), ([[1.0, 2.0, 3.0]], [0.0, 0.0, 0.0]))
    soft = _dense(("softmax", "sigmoid"), ([[1.0, 2.0, 3.0]], [0.0, 0.0, 0.0]))
    other = _dense(("sigmoid",), ([[1.0]], [0.0]), slices=(slice(0, 1),))
    with pytest.raises(HeadError, match="an ensemble needs at least one head"):
        ensemble([])
    with pytest.raises(HeadError, match="heads of one ensemble must share their links"):
        ensemble([one, soft])
    with pytest.raises(HeadError, match="heads of one ensemble must have the same labels"):
        ensemble([one, other])
