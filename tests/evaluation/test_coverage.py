"""Coverage against precision, by hand and by trying every threshold."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.catalogue.labels import UNKNOWN, LabelSchema
from pipeline.evaluation.coverage import coverage

NECK = LabelSchema(("neck",), (("round", "v"),), (True,))


def two_values(sure: list[float], right: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photos whose best value is the first, with these probabilities; it is right or the second is."""
    P = np.array([[p, 1 - p] for p in sure], np.float32)
    Y = np.array([[r, 1 - r] for r in right], np.uint8)
    return P, Y, np.ones((len(sure), 2), bool)


def test_the_most_that_can_be_filled_while_enough_of_it_is_right() -> None:
    arrays = two_values([0.99, 0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1, 0])
    half, three, all_right = coverage("m", arrays, NECK, np.arange(5), (0.5, 0.75, 1.0))
    assert (half.coverage, half.precision) == (0.8, 0.75), "the last one only adds what is wrong"
    assert (three.coverage, three.precision) == (0.8, 0.75)
    assert (all_right.coverage, all_right.precision) == (0.4, 1.0)
    assert all_right.threshold is not None and 0.8 < all_right.threshold <= 0.9
    assert (half.candidate, half.attribute, half.target, half.photos) == ("m", "neck", 0.5, 5)


def test_where_no_threshold_keeps_the_promise_nothing_is_filled() -> None:
    (row,) = coverage("m", two_values([0.9, 0.8], [0, 0]), NECK, np.arange(2), (0.9,))
    assert (row.threshold, row.coverage, row.precision) == (None, 0.0, None)


def test_unknown_cells_count_nowhere_and_an_unknown_attribute_has_no_row() -> None:
    P, Y, mask = two_values([0.9, 0.8, 0.7], [1, 0, 1])
    mask[1] = False
    (row,) = coverage("m", (P, Y, mask), NECK, np.arange(3), (0.9,))
    assert (row.photos, row.coverage, row.precision) == (2, 1.0, 1.0)
    assert coverage("m", (P, Y, np.zeros_like(mask)), NECK, np.arange(3), (0.9,)) == ()


def test_a_value_the_model_never_knew_makes_filling_wrong() -> None:
    P, Y, mask = two_values([0.95, 0.9], [1, 1])
    Y[0] = 0
    (row,) = coverage("m", (P, Y, mask), NECK, np.arange(2), (0.9,))
    assert row.coverage == 0.0


def test_of_several_values_a_photo_is_filled_once() -> None:
    schema = LabelSchema(("style",), (("a", "b", UNKNOWN),), (False,))
    P = np.array([[0.9, 0.8, 0.0], [0.7, 0.1, 0.0], [0.1, 0.1, 0.9]], np.float32)
    Y = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0]], np.uint8)
    (row,) = coverage("m", (P, Y, np.ones((3, 3), bool)), schema, np.arange(3), (1.0,))
    assert (row.photos, row.coverage, row.precision) == (3, pytest.approx(2 / 3), 1.0)


def test_held_out_figures_are_of_thresholds_that_other_products_gave() -> None:
    """Noise: chosen on the photos themselves any precision can be had; held out it is what it is."""
    rng = np.random.default_rng(0)
    arrays = two_values(rng.uniform(0.5, 1, 400).tolist(), rng.integers(0, 2, 400).tolist())
    (row,) = coverage("m", arrays, NECK, np.arange(400) // 2, (0.8,))
    assert row.precision is not None and row.precision >= 0.8
    assert row.held_out_coverage is not None and row.held_out_coverage < 0.2
    assert row.held_out_precision is None or row.held_out_precision < row.precision
    (alone,) = coverage("m", arrays, NECK, np.zeros(400, np.int64), (0.8,))
    assert (alone.held_out_coverage, alone.held_out_precision) == (None, None)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_decides_more_right_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sure = np.round(rng.uniform(0.5, 1, 60), 2)
    right = (rng.uniform(size=60) < sure).astype(int)
    arrays = two_values(sure.tolist(), right.tolist())
    for row in coverage("m", arrays, NECK, np.arange(60), (0.7, 0.8, 0.9)):
        hits = [
            int(right[at].sum())
            for limit in np.unique(sure)
            if (at := sure >= limit).any() and right[at].mean() >= row.target
        ]
        assert round(60 * (row.coverage or 0) * (row.precision or 0)) == max(hits, default=0)
