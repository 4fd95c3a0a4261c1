"""The page of an audit in a real browser: every picture lies in its own card, on a screen and on a phone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit.page import render_gallery
from pipeline.audit.report import AuditReport, Conflict, LabelIssue, Outlier
from tests.browser import BROWSER
from tests.comparison.page.test_page import HOSTILE, markup_of

NAME = "a-long-name-without-spaces-0123456789-1.jpg"


def report_of(**changes: object) -> AuditReport:
    report: dict[str, object] = {
        "out": Path(),
        "photos": 2,
        "seconds": 1.0,
        "counts": {"neck": (10, 1)},
        "issues": (LabelIssue(NAME, "sleeve_length", "", "long", 0.1, 0.1, 0.9, "missing"),) * 9,
        "conflicts": (Conflict(NAME, "b.jpg", 1.0, "neck", "round", "v", False, "same-bytes"),),
        "outliers": (Outlier(NAME, "", "", 1.0, 9.0),),
        "rare": (),
        "findings": (),
        "files": {},
    }
    return AuditReport(**(report | changes))  # type: ignore[arg-type]


def picture() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (96, 128), "red").save(file, "WEBP")
    return file.getvalue()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The open page."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome is installed")
    page_file = tmp_path_factory.mktemp("audit") / "audit.html"
    page_file.write_text(render_gallery(report_of(), {NAME: picture(), "b.jpg": picture()}, 9), encoding="utf-8")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(page_file.as_uri())
        yield page
        browser.close()


@pytest.mark.parametrize("width", [1400, 400])
def test_pictures_lie_in_their_cards_and_nothing_is_wider_than_the_page(shown: Any, width: int) -> None:
    shown.set_viewport_size({"width": width, "height": 800})
    boxes = shown.locator("figure").evaluate_all(
        "all => all.flatMap(f => [...f.querySelectorAll('img')].map(i =>"
        " [f, i].map(e => e.getBoundingClientRect()).flatMap(b => [b.left, b.right])))"
    )
    scrolled = shown.evaluate("document.documentElement.scrollWidth")
    assert len(boxes) == 12
    for left, right, picture_left, picture_right in boxes:
        assert left < picture_left < picture_right < right
    assert scrolled == width


def test_one_and_several_values_too_rare_are_said_as_such() -> None:
    page = markup_of(render_gallery(report_of(rare=(HOSTILE,)), {}, 1))
    assert "1 value is shown by too few products to be judged." in page
    page = markup_of(render_gallery(report_of(rare=(HOSTILE, "b")), {}, 1))
    assert "2 values are shown by too few products to be judged." in page
