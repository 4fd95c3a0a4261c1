"""The whole job on a small sample."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.cli.main import main


def test_demo_goes_from_photos_to_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["demo", "--out", "demo", "--images", "60"]
    assert main(words) == 0
    last = dict(line.split(None, 1) for line in capsys.readouterr().out.strip().splitlines()[-4:])
    assert Path(last["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert Path(last["model"]).is_file()
    predictions = pd.read_csv(last["predictions"], dtype=str, keep_default_na=False)
    assert list(predictions.columns) == ["filename", "neck", "sleeve_length", "pattern"]
    assert len(predictions) > 0
    assert main(words) == 1
    assert "already exists" in capsys.readouterr().err
