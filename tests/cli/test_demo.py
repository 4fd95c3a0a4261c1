"""The whole job on a small sample, as a stranger would start it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]


def test_demo_goes_from_photos_to_predictions(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, str(ROOT / "run.py"), "demo", "--out", str(out), "--images", "90"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    last = dict(line.split(None, 1) for line in done.stdout.strip().splitlines()[-4:])
    assert Path(last["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert Path(last["model"]).is_file()
    predictions = pd.read_csv(last["predictions"], dtype=str, keep_default_na=False)
    assert list(predictions.columns) == ["filename", "neck", "sleeve_length", "pattern"]
    assert len(predictions) > 0
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert again.returncode == 1
    assert "already exists" in again.stderr
