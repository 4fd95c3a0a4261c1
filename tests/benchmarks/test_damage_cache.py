"""A small run of the benchmark that flips bits in a cache: nothing sound is lost, nothing wrong is read."""

from __future__ import annotations

import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(HOME / "benchmarks"), str(HOME / "tests" / "cache")]

import damage_cache  # noqa: E402


def test_thirty_flips_over_every_kind_of_file_lose_nothing(tmp_path):
    tallies = damage_cache.run(30, 1, tmp_path)
    assert [tally.flips for tally in tallies.values()] == [6] * 5
    assert [text for tally in tallies.values() for text in tally.failures] == []
    assert sum(tally.violations for tally in tallies.values()) == 0
    for kind in ("key.json", "shard", "ids"):
        assert tallies[kind].noticed == 6, "each flip in these files is seen"
    assert tallies["shard"].rows_again == 24
    assert damage_cache.table(tallies)[-1].split()[:2] == ["all", "30"]
