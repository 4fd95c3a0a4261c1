"""The report page in a real browser, with names that try to become code: it works, and asks for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.options import CompareOptions
from tests.browser import opened_page
from tests.comparison.page.test_page import HOSTILE, hostile_run, page_of

SEEN = HOSTILE.replace("\u202e", "\ufffd").replace("\u2028", "\ufffd")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[str]]]:
    """The open page, and everything it logged, raised or asked for."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        run = hostile_run(folder / "a", patch)
        source = page_of(run, options=CompareOptions(bootstrap=5, by="head"))
    (folder / "report.html").write_text(source, encoding="utf-8")
    with opened_page((folder / "report.html").as_uri(), timeout=10_000) as shown:
        yield shown


def test_every_chart_is_drawn_and_nothing_is_wider_than_a_phone(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    for chart in ("curves", "thresholds", "amounts", "reliability"):
        page.locator(f"#{chart} canvas").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert page.locator(".chart:has(canvas)").evaluate_all("charts => charts.every(c => c.getAttribute('aria-label'))")


def test_a_head_of_the_table_sorts_it_by_mouse_and_by_keyboard(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    table = page.locator("#candidates table")
    head = table.locator("th[aria-sort]", has_text="attribute accuracy")
    column = "rows => rows.map(r => parseFloat(r.cells[3].textContent))"
    head.get_by_role("button").click()
    falling = table.locator("tbody tr").evaluate_all(column)
    assert head.get_attribute("aria-sort") == "descending"
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) == 3
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert table.locator("tbody tr").evaluate_all(column) == falling[::-1]
    table.get_by_role("button", name="candidate").click()
    assert head.get_attribute("aria-sort") == "none"


def test_words_are_explained_by_keyboard_and_on_hover(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    glossary = page.locator("details.glossary")
    assert not glossary.locator("dl").is_visible()
    glossary.locator("summary").focus()
    page.keyboard.press("Enter")
    assert glossary.locator("dt", has_text="calib. err.").is_visible()
    page.keyboard.press("Enter")
    head = page.locator("#candidates th", has_text="mAP")
    assert head.get_attribute("title").startswith("Mean average precision: how well")


def test_the_explorer_follows_the_slider_and_the_attribute(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    figures = page.locator("#threshold-figures")
    page.locator("#attribute").select_option(label="style")
    assert page.locator("#threshold-now").text_content() == "0.50"
    assert page.locator(".of-attribute").evaluate_all("parts => parts.every(part => part.hidden)")
    before = figures.text_content()
    page.locator("#threshold").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#threshold-now").text_content() == "0.51"
    page.keyboard.press("End")
    assert figures.text_content() != before
    assert "named per photo0.00" in figures.text_content()
    assert page.locator("#threshold").get_attribute("aria-valuetext").startswith("1.00, precision –, recall 0.000")
    page.locator("#threshold-back").click()
    assert figures.text_content() == before
    page.locator("#value").select_option(index=1)
    assert figures.text_content() != before
    page.locator("#attribute").select_option(index=0)
    assert page.locator(".of-attribute").evaluate_all("parts => parts.map(part => part.hidden)") == [False]


def test_curves_can_be_chosen_and_groups_hidden(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    page.locator("#curve-measure").select_option("train loss")
    page.locator("#curve-one").select_option(label="linear · lr 0.001 (0.400)")
    assert "train loss 0.300 at epoch 1, the one kept" in page.locator(".told").text_content()
    group = page.locator("#tried .legend button").first
    group.click()
    assert group.get_attribute("aria-pressed") == "false"


def test_a_line_under_the_pointer_is_named_as_text(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    page.locator("#curve-one").select_option("")
    chart = page.locator("#curves")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    tip = page.locator(".bk-Tooltip b")
    for y in range(10, int(box["height"]) - 40, 4):
        page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + y)
        if tip.count():
            break
    assert {f"linear · lr {SEEN}", "linear · lr 0.001"} & {text.strip() for text in tip.all_text_contents()}


def test_photos_are_filtered_by_attribute_value_verdict_and_name(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    count, cards = page.locator("#photo-count"), page.locator("#gallery li")
    page.locator("#photo-right").select_option("all")
    assert count.text_content() == "6 of 6 photos"
    assert cards.count() == 6
    page.locator("#photo-attribute").select_option(index=1)
    page.locator("#photo-right").select_option("right")
    right = cards.count()
    page.locator("#photo-right").select_option("wrong")
    assert (right, cards.count()) == (1, 5)
    page.locator("#photo-right").select_option("all")
    page.locator("#photo-attribute").select_option(label="style")
    assert cards.locator("dt").all_text_contents() == ["style"] * 6
    labels = page.locator("#photo-value option").all_text_contents()
    assert labels[1].startswith(SEEN)
    page.locator("#photo-value").select_option(index=2)
    assert 0 < cards.count() < 6
    page.locator("#photo-attribute").select_option("")
    page.locator("#photo-name").fill("J1.jpg")
    assert [name.endswith("j1.jpg") for name in cards.locator(".name").all_text_contents()] == [True]


def test_the_page_ran_no_foreign_script_and_asked_for_nothing(shown: tuple[Any, list[str]]) -> None:
    page, heard = shown
    page.emulate_media(color_scheme="light")
    page.locator("#curves canvas").first.wait_for()
    assert page.evaluate("window.hacked") is None
    assert page.locator("#gallery img, #dropped img").count() == 0
    assert [line for line in heard if not line.startswith(("file:", "data:"))] == []
