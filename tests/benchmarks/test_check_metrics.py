"""The independent check of a comparison's figures: agrees with a sound one, sees an altered one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.comparison.compare import compare
from pipeline.comparison.records import save_json
from pipeline.options import CompareOptions
from tests.comparison.runfolder import ROWS, write_run

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "check_metrics.py"


def check(run: Path, comparison: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(run), "--json", str(comparison)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("check")
    # Two test photos have a neck that no other photo has.
    odd = [(*row[:3], "polo", row[4]) if row[0] in ("i1.jpg", "j1.jpg") else row for row in ROWS]
    run = write_run(folder / "run", rows=odd, unseen=[["neck", "polo"]])
    save_json(compare([run], CompareOptions(bootstrap=5)), folder / "c.json")
    return run, folder / "c.json"


def test_a_sound_comparison_agrees_with_scikit_learn(sound: tuple[Path, Path]) -> None:
    done = check(*sound)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "figures of 2 candidates and the majority baseline: all agree" in done.stdout


def test_altered_figures_are_seen(sound: tuple[Path, Path], tmp_path: Path) -> None:
    run, path = sound
    data = json.loads(path.read_text())
    data["candidates"][1]["metrics"]["overall"]["micro_f1"] += 1e-4
    data["majority"]["metrics"]["keys"][0]["accuracy"] = None
    data["values"][0]["recall"] = 0.123
    (tmp_path / "altered.json").write_text(json.dumps(data))
    done = check(run, tmp_path / "altered.json")
    assert done.returncode == 1
    assert "overall micro_f1" in done.stdout
    assert "majority neck accuracy: compare says None" in done.stdout
    assert "neck=round recall: compare says 0.123" in done.stdout
    assert "3 DIFFER" in done.stdout
