"""The search finds what a comparison with every row finds, however the rows lie."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.arrays import Float32
from pipeline.neighbours.search import FEW, NARROW, Search, nearest_in_one_pass, to_unit

WIDTH = NARROW + 64


def clustered(rows: int) -> Float32:
    """Rows around a few directions: their narrow copies tell nearly everything."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, WIDTH)).astype(np.float32)
    noise = rng.standard_normal((rows, WIDTH)).astype(np.float32)
    return to_unit(centres[rng.integers(0, 40, rows)] + np.float32(0.3) * noise, [WIDTH])


def scattered(rows: int) -> Float32:
    """Rows in every direction alike: narrow copies rule out nothing."""
    return to_unit(np.random.default_rng(1).standard_normal((rows, WIDTH)).astype(np.float32), [WIDTH])


@pytest.mark.parametrize("rows", [300, FEW + 5_000])
@pytest.mark.parametrize("lying", [clustered, scattered])
@pytest.mark.parametrize("filtered", [False, True])
def test_the_nearest_are_those_of_a_full_comparison(rows, lying, filtered) -> None:
    X = lying(rows)
    among = np.arange(rows) % 20 > 1 if filtered else None
    search = Search(X)
    for query in X[[0, rows // 2, rows - 1]]:
        found = search.nearest(query, 15, among)
        cosine = X @ query
        if among is not None:
            cosine[~among] = -2
        expected = np.argsort(-cosine, kind="stable")[:15]
        assert found.rows.tolist() == expected.tolist()
        np.testing.assert_allclose(found.cosine, cosine[expected], atol=1e-6)


@pytest.mark.parametrize("filtered", [False, True])
def test_one_pass_over_rows_that_are_read_in_portions_finds_the_same(filtered: bool) -> None:
    X = clustered(FEW + 5_000)
    among = np.arange(len(X)) % 3 > 0 if filtered else None
    Q = X[[0, 9_000, len(X) - 1]]
    for query, found in zip(Q, nearest_in_one_pass(X, Q, 15, among), strict=True):
        expected = Search(X).nearest(query, 15, among)
        assert found.rows.tolist() == expected.rows.tolist()
        np.testing.assert_allclose(found.cosine, expected.cosine, atol=1e-6)


def test_more_can_be_asked_for_than_are_compared_at_first() -> None:
    X = clustered(FEW + 5_000)
    for count in (3_000, FEW + 1):
        found = Search(X).nearest(X[7], count)
        cosine = np.sort(X @ X[7])[::-1][:count]
        assert len(found.rows) == count
        np.testing.assert_allclose(found.cosine, cosine, atol=1e-6)


def test_of_equal_rows_the_first_come_first_and_few_rows_are_all_given() -> None:
    X = to_unit(np.ones((5, 3), np.float32), [3])
    assert Search(X).nearest(X[0], 3).rows.tolist() == [0, 1, 2]
    only = np.array([False, True, False, False, True])
    assert Search(X).nearest(X[0], 9, only).rows.tolist() == [1, 4]


def test_a_wide_block_weighs_no_more_than_a_narrow_one_and_zeros_stay() -> None:
    X = np.array([[100, 0, 0, 1], [0, 100, 0, 1], [0, 0, 0, 0]], np.float32)
    unit = to_unit(X, [3, 1])
    np.testing.assert_allclose(unit[0] @ unit[1], 0.5, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), [1, 1, 0], atol=1e-6)
