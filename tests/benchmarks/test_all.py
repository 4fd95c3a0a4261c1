"""The quick run of all benchmarks: what is in range, and that every ratio has a range."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from benchmarks.all import QUICK, RANGES, Benchmark, figures, line

SCRIPT = "print('a/b = 2.50, and so on'); print('ratio  0.71')"


def test_every_ratio_has_a_range_and_every_range_a_ratio() -> None:
    ranges = json.loads(RANGES.read_text(encoding="utf-8"))
    assert set(ranges) == {name for benchmark in QUICK for name, _ in benchmark.ratios}
    assert all(low < high for low, high in ranges.values())


def test_figures_are_read_from_what_a_benchmark_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    benchmark = Benchmark(f"{shlex.quote(str(script))} {{work}}", (("first", "a/b = "), ("second", "ratio +")))
    assert figures(benchmark, {"work": tmp_path}) == {"first": 2.5, "second": 0.71}
    assert capsys.readouterr().err == ""
    script.write_text(SCRIPT + "; exit('no more')")
    assert figures(benchmark, {"work": tmp_path}) == {"first": None, "second": None}
    assert "exit code 1" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "fine"), [(1.0, True), (2.0, True), (0.99, False), (2.01, False), (None, False)])
def test_a_figure_outside_its_range_is_said(value: float | None, fine: bool) -> None:
    said, found = line("extract / plain loop", value, (1, 2))
    assert found == fine
    assert ("OUT OF RANGE" in said) != fine
