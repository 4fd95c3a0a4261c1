"""A few seconds of the soak: nothing is violated, the same seed does the same, and a wrong row is found and told."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

HOME = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(HOME), str(HOME / "benchmarks"), str(HOME / "tests" / "cache")]

import soak  # noqa: E402
from soak_processes import Ended  # noqa: E402
from soak_world import Violation, World, check_ended  # noqa: E402


def test_twenty_steps_violate_nothing(tmp_path):
    counts, world, violation = soak.soak(5, lambda step: step < 20, tmp_path)
    assert violation == ""
    assert counts.total() == 20
    assert world.commands >= 10 and world.equal > 100 and world.near == 0
    line = soak.summary(5, counts, world, violation)
    assert line.startswith("seed 5: 20 operations (") and line.endswith("violations 0")


def test_the_same_seed_does_the_same_to_the_photos(tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "OPERATIONS", {soak.change_photos: 3, soak.restore_photos: 1})
    worlds = []
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        worlds.append(soak.soak(7, lambda step: step < 12, tmp_path / name)[1])
    assert worlds[0].photos == worlds[1].photos
    assert any(not isinstance(what, int) for what in worlds[0].photos.values())


def test_a_wrong_row_ends_the_soak_with_the_step_that_has_it(tmp_path, monkeypatch):
    build = World.build

    def with_a_wrong_reference(world):
        build(world)
        world.reference |= {where: row + np.float32(1e-3) for where, row in world.reference.items()}

    monkeypatch.setattr(World, "build", with_a_wrong_reference)
    monkeypatch.setattr(soak, "OPERATIONS", {soak.extract: 1})
    monkeypatch.setattr(soak, "SIGNALS", (0,))
    counts, world, violation = soak.soak(5, lambda step: step < 20, tmp_path)
    assert violation.startswith("step 0, extract: a wrong row: ")
    assert soak.summary(5, counts, world, violation).endswith("violations 1")
    assert list((tmp_path / "kept").glob("features/*/*.h5"))


@pytest.mark.parametrize(
    ("ended", "what"),
    [
        (Ended(["x"], 1, "", "Traceback (most recent call last):"), "no clear error"),
        (Ended(["x"], 1, "", "error: [Errno 28] No space left"), "no clear error"),
        (Ended(["x"], -11, "", ""), "expected"),
        (Ended(["x"], 130, "", "interrupted"), "expected"),
        (Ended(["x"], 0, "", "", hung=True), "a hang"),
        (Ended(["x"], 1, "", "error: of another kind"), "expected an error that says space"),
    ],
)
def test_an_ending_that_is_not_documented_is_a_violation(ended, what):
    with pytest.raises(Violation, match=what):
        check_ended(ended, (0, 1), "space")
    check_ended(Ended(["x"], 130, "", "interrupted", sent=15), (0,))
