"""Intervals against the truth of a drawn population: those reported hold more of it than percentiles do."""

from __future__ import annotations

import pytest

from benchmarks.coverage import Seen, coverage, draw_population, measure


@pytest.fixture(scope="module")
def found() -> dict[str, list[Seen]]:
    return measure(draw_population(0, 60_000), photos=1500, sets=24, resamples=100, seed=1)


@pytest.mark.parametrize("model", ["first", "second", "majority"])
def test_an_interval_of_macro_f1_holds_its_figure_and_more_of_the_truth(
    found: dict[str, list[Seen]], model: str
) -> None:
    seen = found[f"macro_f1, {model}"]
    plain, reported = (coverage(seen, method) for method in ("percentile", "reported"))
    assert reported[2] == 1.0
    assert all(new >= old for old, new in zip(plain, reported, strict=True))
    assert reported[0] >= 0.75 and reported[1] >= 0.75


def test_percentiles_of_the_majority_baseline_miss_it_altogether(found: dict[str, list[Seen]]) -> None:
    """What is mended: resamples lose rare values, so that all of them lie above the figure."""
    same, _, own = coverage(found["macro_f1, majority"], "percentile")
    assert same < 0.5
    assert own < 0.5


@pytest.mark.parametrize("name", ["accuracy, first", "accuracy, second - first", "macro_f1, second - first"])
def test_accuracy_and_paired_differences_cover_as_they_are(found: dict[str, list[Seen]], name: str) -> None:
    same, other, _ = coverage(found[name], "reported")
    assert same >= 0.8 and other >= 0.8
