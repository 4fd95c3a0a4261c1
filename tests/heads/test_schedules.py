"""Learning rates over a run, as literal numbers."""

from __future__ import annotations

import pytest

from pipeline.heads import HeadConfig
from pipeline.heads.schedules import LearningRateSchedule


def _rates(schedule: str, epochs: int, steps: int = 1) -> list[float]:
    rate = LearningRateSchedule(HeadConfig(lr=1.0, schedule=schedule, epochs=epochs), steps)
    return [rate.at(epoch, step) for epoch in range(epochs) for step in range(steps)]


def test_constant() -> None:
    assert _rates("constant", 3) == [1.0, 1.0, 1.0]


def test_step_divides_by_ten_every_seven_epochs() -> None:
    assert _rates("step", 15) == pytest.approx([1.0] * 7 + [0.1] * 7 + [0.01])


def test_cosine_falls_to_nothing() -> None:
    assert _rates("cosine", 4) == pytest.approx([1.0, 0.8535533906, 0.5, 0.1464466094])


def test_onecycle_warms_up_then_anneals() -> None:
    assert _rates("onecycle", 5, 2) == pytest.approx(
        [0.04, 0.52, 1.0, 0.9504846320, 0.8117456539, 0.6112620219, 0.3887399781, 0.1882583461, 0.0495193680, 4e-6],
        abs=2e-6,
    )


def test_plateau_halves_after_four_epochs_without_progress() -> None:
    rate = LearningRateSchedule(HeadConfig(lr=1.0, schedule="plateau"), 1)
    seen = []
    for epoch, loss in enumerate([2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5]):
        seen.append(rate.at(epoch, 0))
        rate.observe(loss)
    assert seen == [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5]


def test_plateau_has_a_floor() -> None:
    rate = LearningRateSchedule(HeadConfig(lr=1e-5, schedule="plateau"), 1)
    for _ in range(100):
        rate.observe(1.0)
    assert rate.at(100, 0) == 1e-6
