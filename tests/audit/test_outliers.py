"""Distances to the nearest others: of all rows, and of very many rows of a part of them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.audit import outliers
from pipeline.audit.outliers import neighbour_distance, robust_scores


def cloud(rows: int) -> np.ndarray:
    """Rows of one cloud, the last three far from it and from each other."""
    Z = np.random.default_rng(0).normal(size=(rows, 8)).astype(np.float32)
    Z[-3:] = 12 * np.eye(8, dtype=np.float32)[:3]
    return Z


def test_distance_is_the_mean_to_the_nearest_others_and_never_to_the_row_itself() -> None:
    Z = cloud(200)
    every = np.sort(np.linalg.norm(Z[:, None] - Z[None], axis=2), axis=1)[:, 1:6].mean(axis=1)
    np.testing.assert_allclose(neighbour_distance(Z, 5), every, rtol=1e-3)


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
