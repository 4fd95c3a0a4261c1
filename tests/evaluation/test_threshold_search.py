"""Cuts against a search over every threshold, and the narrowed search of long rankings against the plain one."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation import threshold_search as cuts
from pipeline.evaluation.threshold_search import NEVER, best_f1_cut, count_cut, pack, precision_cut


def all_usable(scores: list[float], truth: list[int]) -> np.ndarray:
    return np.sort(pack(np.array(scores, np.float32), np.array(truth, bool), np.ones(len(scores), bool)))


def test_best_f1_cut_by_hand() -> None:
    # Cuts below .9, .8, .6, .3 give F1 2/4, 4/5, 4/6, 6/7: deciding all four is best.
    assert best_f1_cut([all_usable([0.6, 0.9, 0.3, 0.8], [0, 1, 1, 1])], 3) == 0.0
    # Without the true cell at .3 the best cut lies between .8 and .6.
    assert best_f1_cut([all_usable([0.6, 0.9, 0.3, 0.8], [0, 1, 0, 1])], 2) == pytest.approx(0.7)
    assert best_f1_cut([all_usable([0.6, 0.9], [0, 0])], 0) is None
    # After .9: 2/(1+2); after .5 (fourth): 4/(4+2): both 2/3, and the higher threshold decides less.
    assert best_f1_cut([all_usable([0.9, 0.7, 0.6, 0.5, 0.1], [1, 0, 0, 1, 0])], 2) == pytest.approx(0.8)


@pytest.mark.parametrize("seed", range(40))
def test_cuts_are_the_best_of_all_thresholds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded scores bring many equal ones; some cells cannot be used; long rankings are searched in two steps."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 80))
    scores = np.round(rng.random(n), int(rng.integers(1, 4))).astype(np.float32)
    truth, usable = rng.random(n) < 0.3, rng.random(n) < 0.8
    positives, seen, true = int(truth.sum()), scores[usable], truth[usable]
    every = np.unique(seen)[::-1]

    def f1(cut: float) -> float:
        return float(2 * (true & (seen >= cut)).sum() / max(1, (seen >= cut).sum() + positives))

    for many, edges in ((1 << 20, 1024), (0, 1024), (0, 3)):
        monkeypatch.setattr(cuts, "MANY", many)
        monkeypatch.setattr(cuts, "EDGES", edges)
        parts = [np.sort(pack(scores[at], truth[at], usable[at])) for at in (slice(0, n // 2), slice(n // 2, n))]
        cut = best_f1_cut(parts, positives)
        if not true.any():
            assert cut is None
            continue
        best = max(every, key=lambda t: (f1(t), t))
        assert cut is not None
        assert (seen >= cut).sum() == (seen >= best).sum()
    for wanted in range(n + 1):
        got = int((seen >= count_cut(pack(scores, truth, usable), wanted)).sum())
        assert abs(got - min(wanted, len(seen))) == min(
            abs(int((seen >= t).sum()) - min(wanted, len(seen))) for t in [*every, NEVER]
        )
    for precision in (0.3, 0.5, 0.9):
        cut = precision_cut(pack(scores, truth, usable), precision)
        reach = [t for t in every if true[seen >= t].mean() >= precision and true[seen == t].any()]
        assert (seen >= cut).sum() == ((seen >= min(reach)).sum() if reach else 0)
