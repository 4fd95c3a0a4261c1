"""What is best: every choice is the figure of its name, on the photos and on resampled products."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from pipeline.catalogue.labels import LabelSchema
from pipeline.evaluation.goals import BALANCED, FIGURES, MEANINGS, resampled, score
from pipeline.evaluation.metrics import evaluate, validation_score
from pipeline.options.heads import Choose

SCHEMA = LabelSchema(("neck", "style"), (("a", "b", "c"), ("x", "y")), (True, False))


def photos(n: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    Y = np.zeros((n, 5), np.uint8)
    Y[np.arange(n), rng.integers(3, size=n)] = 1
    Y[:, 3:] = rng.random((n, 2)) < 0.4
    P = np.clip(0.5 * Y + rng.random((n, 5)) * 0.6, 0, 1).astype(np.float32)
    D = P >= 0.5
    D[:, :3] = np.arange(3) == P[:, :3].argmax(axis=1)[:, None]
    return P, D, Y, np.repeat(rng.random((n, 2)) < 0.9, (3, 2), axis=1)


def test_the_options_offer_every_choice_that_there_is() -> None:
    assert set(get_args(Choose)) == set(MEANINGS) == {BALANCED, *FIGURES}


@pytest.mark.parametrize("choose", MEANINGS)
def test_a_score_is_the_figure_of_its_name(choose: str) -> None:
    P, D, Y, known = photos(80)
    overall = evaluate(P, D, Y, known, SCHEMA).overall
    expected = {
        "balanced": validation_score(P, D, Y, known, SCHEMA),
        "accuracy": overall.accuracy,
        "macro-f1": overall.macro_f1,
        "all-right": overall.all_keys_right,
        "iou": overall.iou,
        "map": overall.mean_average_precision,
    }
    assert score(choose, P, D, Y, known, SCHEMA) == expected[choose]
    assert np.isnan(score(choose, P, D, Y, np.zeros_like(known), SCHEMA))


@pytest.mark.parametrize("choose", MEANINGS)
def test_resampled_scores_lie_around_the_score_and_are_paired(choose: str) -> None:
    P, D, Y, known = photos(80)
    groups = np.arange(80) // 2
    one, same, worse = resampled(choose, [(P, D), (P, D), (1 - P, ~D)], (Y, known, groups), SCHEMA)
    assert np.array_equal(one, same)
    assert np.quantile(one, 0.025) < score(choose, P, D, Y, known, SCHEMA) < np.quantile(one, 0.975)
    assert np.nanmax(worse - one) < 0
