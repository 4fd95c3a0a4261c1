"""docs/picture.py: the picture of the README is made from a report page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from docs import picture
from pipeline.options import CompareOptions
from tests.comparison.page.test_page import hostile_run, page_of


def test_the_top_of_a_page_becomes_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not any(map(shutil.which, picture.BROWSERS)):
        pytest.skip("no Chromium or Chrome is installed")
    report = tmp_path / "report.html"
    run = hostile_run(tmp_path / "a", monkeypatch)
    report.write_text(page_of(run, options=CompareOptions(bootstrap=5)), encoding="utf-8")
    monkeypatch.setattr(picture, "PICTURE", tmp_path / "report.png")
    monkeypatch.setattr("sys.argv", ["picture.py", str(report)])
    picture.main()
    with Image.open(tmp_path / "report.png") as made:
        assert made.size == (picture.WIDTH, picture.HEIGHT)
        assert len(made.getcolors() or []) > 20, "text and cards, not an empty page"
