"""The page of the map in a real browser: it asks for nothing, works by mouse and by keyboard, and hides no name."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.atlas.facets import Predictions, facets
from pipeline.atlas.page import render_map
from pipeline.atlas.report import MapReport
from pipeline.atlas.sheets import make_sheets
from pipeline.catalogue import LabelSchema, coded
from tests.browser import opened_page
from tests.comparison.page.test_page import HOSTILE, markup_of

PHOTOS = 60
SEEN = HOSTILE.replace("\u202e", "\ufffd").replace("\u2028", "\ufffd")


def report_of(folder: Path) -> MapReport:
    """A ring of photos; the first half is `round`, the second has a hostile value; every third is judged."""
    angle = np.linspace(0, 2 * np.pi, PHOTOS, endpoint=False)
    places = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    cells = {"neck": [("round",) if i < PHOTOS // 2 else (HOSTILE,) for i in range(PHOTOS)]}
    schema = LabelSchema(("neck",), ((HOSTILE, "round"),), (True,))
    rows = np.arange(0, PHOTOS, 3)
    P = np.column_stack([np.full(len(rows), 0.2), np.full(len(rows), 0.8)]).astype(np.float32)
    paths = []
    for i in range(PHOTOS):
        paths.append(folder / f"{i}.png")
        Image.new("RGB", (60, 80), (4 * i, 0, 255 - 4 * i)).save(paths[-1])
    return MapReport(
        names=("=1+1.jpg", f"{HOSTILE}.jpg", *(f"shirt{i}.jpg" for i in range(2, PHOTOS))),
        places=places,
        facets=tuple(facets(cells, {}, Predictions(rows, P, P >= 0.5, schema, HOSTILE))),
        parts=coded(["train" if i % 3 else "test" for i in range(PHOTOS)]),
        sheets=make_sheets(paths, range(40), 1e6),
        features=HOSTILE,
        layout="pca",
        predicted=HOSTILE,
        findings=(),
        seconds=0.0,
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[str]]]:
    """The open page, and everything it logged, raised or asked for."""
    folder = tmp_path_factory.mktemp("map")
    page_file = folder / "map.html"
    page_file.write_text(render_map(report_of(folder)), encoding="utf-8")
    with opened_page(page_file.as_uri(), height=850) as (page, heard):
        page.wait_for_function("document.querySelectorAll('#rows tr').length > 0")
        yield page, heard


def told(page: Any) -> str:
    return str(page.locator("#told").text_content())


def test_the_values_stand_in_the_legend_and_can_be_hidden(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    entries = page.locator("#legend button")
    assert entries.all_text_contents() == sorted([f"{SEEN} (30)", "round (30)"])
    assert told(page) == "60 of 60 photos in view"
    entries.last.click()
    assert told(page) == "30 of 60 photos in view"
    entries.last.click()
    page.locator("#shown").select_option("verdict")
    assert entries.all_text_contents() == ["truth or prediction unknown (40)", "wrong (10)", "right (10)"]
    page.locator("#shown").select_option("doubt")
    assert entries.all_text_contents() == ["17 to 33\u00a0% (20)", "not predicted (40)"]
    page.locator("#by").select_option("part")
    assert entries.all_text_contents() == ["train (40)", "test (20)"]
    page.locator("#by").select_option("0")


def test_by_keyboard_one_moves_selects_and_comes_back(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    page.locator("#map").focus()
    for _ in range(4):
        page.keyboard.press("+")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("plane.look.x") > 0.5 and page.evaluate("plane.look.zoom") > 3
    page.keyboard.press("Enter")
    count = page.evaluate("plane.state.rows.length")
    assert 0 < count < 30 and told(page) == f"{count} of 60 photos selected"
    assert page.locator("#rows tr").count() == count
    page.keyboard.press("0")
    page.keyboard.press("Escape")
    page.wait_for_function("document.getElementById('told').textContent.startsWith('60 of 60')")
    page.locator("#rows button").nth(2).focus()
    assert page.locator("#card .name").text_content() == "shirt2.jpg"


def test_a_lasso_selects_what_is_inside_and_its_list_is_a_file(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    page.locator("#lasso").click()
    box = page.locator("#map-over").bounding_box()
    x, y, w, h = (box[name] for name in ("x", "y", "width", "height"))
    corners = [
        (0.5, 0.02),
        (0.98, 0.02),
        (0.98, 0.98),
        (0.5, 0.98),
    ]  # the right half of the ring, from -90 to 90 degrees
    page.mouse.move(x + corners[0][0] * w, y + corners[0][1] * h)
    page.mouse.down()
    for across, down in corners[1:]:
        page.mouse.move(x + across * w, y + down * h, steps=4)
    page.mouse.up()
    assert page.locator("#lasso").get_attribute("aria-pressed") == "false"
    names = page.locator("#rows th").all_text_contents()
    assert 29 <= len(names) <= 31 and "=1+1.jpg" in names and "shirt30.jpg" not in names
    with page.expect_download() as download:
        page.locator("#save").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert [row["photo"].removeprefix("'") for row in rows] == names and rows[0]["photo"] == "'=1+1.jpg"
    assert {"neck", "neck predicted", "neck doubt", "part"} <= set(rows[0])
    assert rows[0]["neck predicted"] == "round" and rows[0]["neck doubt"] == "0.20"
    page.locator("#clear").click()


def test_pointing_at_a_photo_shows_its_picture_and_what_is_known(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    page.locator("#map-over").scroll_into_view_if_needed()
    box = page.locator("#map-over").bounding_box()
    place = page.evaluate(
        "(() => { const c = plane.canvas; const k = Math.min(c.clientWidth, c.clientHeight) / 2 * 0.94;"
        " return [c.clientWidth / 2 + points.x[3] * k, c.clientHeight / 2 - points.y[3] * k]; })()"
    )
    page.mouse.move(box["x"] + place[0], box["y"] + place[1])
    assert page.locator("#card .name").text_content() == "shirt3.jpg"
    assert "round \u2713\u00a0right, doubt 20\u00a0%" in page.locator("#card dl").text_content()
    pixel = """() => {
        const copy = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        copy.drawImage(document.querySelector("#card canvas"), 0, 0);
        return [...copy.getImageData(32, 32, 1, 1).data];
    }"""
    page.wait_for_function(f"({pixel})()[3] > 0")
    red, green, blue, _ = page.evaluate(pixel)
    assert abs(red - 12) < 20 and green < 20 and abs(blue - 243) < 20


def test_a_name_is_found(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    page.locator("#search").fill("SHIRT5")
    page.keyboard.press("Enter")
    assert told(page) == "11 of 60 photos selected"
    page.locator("#search").fill("")
    page.keyboard.press("Enter")


def test_nothing_is_wider_than_a_phone_and_nothing_was_asked_for(shown: tuple[Any, list[str]]) -> None:
    page, heard = shown
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert page.evaluate("window.hacked") is None
    assert [each for each in heard if not each.endswith("/map.html") and not each.startswith("blob:")] == []


def test_no_name_becomes_code(tmp_path: Path) -> None:
    page = render_map(report_of(tmp_path))
    assert "<script>window.hacked" not in markup_of(page) and "window.hacked=1</script>" not in page
