"""The report page: what it shows, that nothing in it is code or a request, and that a real browser agrees."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.compare import compare
from pipeline.options import CompareOptions
from pipeline.report import render, write_report
from pipeline.report.markup import Markup, el, table
from tests import runfolder
from tests.runfolder import CONFIGS, write_run

QUICK = CompareOptions(bootstrap=20, by="head")
LINEAR = next(iter(CONFIGS))
HOSTILE = "</td><script>alert(1)</script>\"'&\u202e"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """Elements with their attributes, the text under each heading, and the cells of every table."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[int]] = []
        self.open: list[str] = []
        self.headings: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.rows.append([])
        elif tag == "tr":
            self.rows[-1].append(0)
        elif tag in ("td", "th"):
            self.rows[-1][-1] += 1
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture
def page(tmp_path: Path) -> str:
    run = write_run(tmp_path / "a")
    (run / "models").mkdir()
    (run / "models" / f"{LINEAR}.joblib").write_bytes(b"")
    return render(compare([run], QUICK))


def test_sections_in_order(page: str) -> None:
    assert Page(page).headings == [
        "Candidates",
        "By head",
        "Per key",
        "Thresholds",
        "Loss curves",
        f"What {LINEAR} confuses",
        "Calibration",
        "Runs and data",
        "Load the best model",
    ]


def test_every_element_is_closed_and_every_row_is_as_wide_as_its_head(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    assert len(parsed.rows) == 6
    for rows in parsed.rows:
        assert len(set(rows)) == 1, rows


def test_rows_are_as_wide_as_their_head_when_runs_have_different_keys(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", keys=("neck",))]
    for rows in Page(render(compare(runs, QUICK))).rows:
        assert len(set(rows)) == 1, rows


def test_figures_of_the_page_are_those_of_the_comparison(page: str) -> None:
    assert "<span>mean key accuracy</span><b>0.900</b>" in page
    assert "majority 0.400" in page
    assert "Loss of linear-adam-00000001, best epoch 1" in page
    assert "3 missing-photo" in page
    assert "style=sporty" in page
    assert "Only 6 test photos" in page
    assert f"models/{LINEAR}.joblib" in page


def test_the_page_asks_nothing_and_runs_nothing(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|url\(|@import|javascript:", page)
    tags = Page(page).tags
    assert {"script", "link", "img", "iframe", "object", "form", "a"}.isdisjoint(tag for tag, _ in tags)
    assert not any(name.startswith("on") or name in ("src", "href") for _, attrs in tags for name in attrs)
    policies = [a["content"] for tag, a in tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]


def test_tables_are_readable_without_eyes(page: str) -> None:
    tags = Page(page).tags
    assert sum(tag == "table" for tag, _ in tags) == sum(tag == "caption" for tag, _ in tags)
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in tags if tag == "th")
    assert page.count("<svg") == page.count("<svg ") == len(re.findall(r"<svg [^>]*><title>", page))
    assert tags[0] == ("html", {"lang": "en"})


def test_names_and_values_cannot_become_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"neck": ["round", "v"], HOSTILE: ["plain", "casual", "sporty", HOSTILE]}
    monkeypatch.setattr(runfolder, "KEYS", keys)
    monkeypatch.setattr(runfolder, "SINGLE", {"neck": True, HOSTILE: True})
    P = [[*row, 0.01] for row in runfolder.GOOD]
    run = write_run(
        tmp_path / "a",
        configs={"linear-<b>": {**CONFIGS[LINEAR], "P": P, "lr": HOSTILE}},
        keys=("neck", HOSTILE),
        created=HOSTILE,
        weights_source=HOSTILE,
        findings={HOSTILE: 1},
        not_measurable=[[HOSTILE, HOSTILE]],
        options={"data": {"data": HOSTILE}},
    )
    page = render(compare([run], CompareOptions(bootstrap=5, by="lr")))
    assert "<script" not in page
    assert "linear-&lt;b&gt;" in page
    assert "&lt;/td&gt;&lt;script&gt;alert(1)" in page
    assert "\u202e" not in page
    assert Page(page).open == []


def test_markup_escapes_what_it_did_not_make() -> None:
    assert el("p", "a<b", el("i", "&"), None, ["x", Markup("<br>")], title='"q"') == (
        '<p title="&quot;q&quot;">a&lt;b<i>&amp;</i>x<br></p>'
    )
    assert el("details", open=True, class_="x", hidden=False) == '<details open class="x"></details>'
    assert '<tr class="best"><th scope="row">r</th><td>1</td></tr>' in table(["", "n"], [["r", "1"]], "c", best=0)


def test_optional_sections_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", not_measurable=[], findings={})
    (run / "history.csv").unlink()
    headings = Page(render(compare([run], CompareOptions(bootstrap=5)))).headings
    assert "Loss curves" not in headings
    assert "By head" not in headings
    assert "Load the best model" not in headings


def test_a_key_without_known_test_photos_is_shown_as_not_measured(tmp_path: Path) -> None:
    rows = [(*row[:4], None if row[2] == "test" else row[4]) for row in runfolder.ROWS]
    page = render(compare([write_run(tmp_path / "a", rows=rows)], QUICK))
    assert "style: best not measured, majority not measured" in page
    assert "nan" not in page.lower().replace("naming", "")


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    comparison = compare([write_run(tmp_path / "a")], QUICK)
    path = write_report(comparison, tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8") == render(comparison)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_browser_shows_it_without_complaint(tmp_path: Path, page: str) -> None:
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome is installed")
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / "report.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    shown = Page(re.sub(r"(?i)<!doctype html>", "", done.stdout))
    assert "Candidates" in shown.headings
    assert sum(tag == "svg" for tag, _ in shown.tags) == page.count("<svg ")
    assert "CONSOLE" not in done.stderr
