"""The report page as text: what it shows, how large it is, and that no name or value in it can become code."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.comparison.compare import compare
from pipeline.comparison.page import render, scripts, write_report
from pipeline.comparison.page.data import PageData, page_data
from pipeline.comparison.page.payload import as_json
from pipeline.comparison.page.photos import PHOTOS, Gallery, Photo
from pipeline.comparison.records import Comparison
from pipeline.options import CompareOptions
from tests.comparison import runfolder
from tests.comparison.runfolder import CONFIGS, write_run

QUICK = CompareOptions(bootstrap=20, by="head")
LINEAR = next(iter(CONFIGS))
HOSTILE = "</td></script><script>window.hacked=1</script><!--\"'&\u202e\u2028"


class Page(HTMLParser):
    """Elements with their attributes, the text under each heading, the cells of every table, and the scripts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[int]] = []
        self.open: list[str] = []
        self.headings: list[str] = []
        self.scripts: list[str] = []
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
        if tag == "script":
            self.scripts.append("")
        if tag not in ("meta", "input", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


def page_of(*runs: Path, options: CompareOptions = QUICK) -> str:
    comparison = compare(runs, options)
    return render(comparison, page_data(comparison))


def markup_of(page: str) -> str:
    """The page without its scripts."""
    return re.sub(r"(?s)<script.*?</script>", "", page)


def hostile_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in which every name that comes from a catalogue, a file system or an option tries to become code."""
    monkeypatch.setattr(runfolder, "ATTRIBUTES", {HOSTILE: ["round", HOSTILE], "style": ["plain", HOSTILE]})
    monkeypatch.setattr(runfolder, "SINGLE", {HOSTILE: True, "style": False})
    rows = [
        (name, group, part, HOSTILE if group % 2 else "round", (HOSTILE,)) for name, group, part, *_ in runfolder.ROWS
    ]
    rows = [(f"{HOSTILE}{row[0]}", *row[1:]) for row in rows]
    near = {"cosine": 0.98, "pairs": {"test-train": 1}, "test_photos": 1, "listed": 1, "closest": ["", ""]}
    run = write_run(
        folder,
        rows=rows,
        configs={
            "linear-<b>": {**CONFIGS[LINEAR], "P": [row[:4] for row in runfolder.GOOD], "lr": HOSTILE},
            HOSTILE.replace("/", ""): {**CONFIGS[LINEAR], "P": [row[1:] for row in runfolder.POOR], "score": 0.4},
        },
        attributes=(HOSTILE, "style"),
        created=HOSTILE,
        weights_source=HOSTILE,
        findings={HOSTILE: 1, "missing-photo": 1},
        not_measurable=[[HOSTILE, HOSTILE]],
        near_duplicates=near,
        options={"data": {"data": HOSTILE}, "fit": {"out": HOSTILE}},
        versions={HOSTILE: HOSTILE},
        host={HOSTILE: HOSTILE},
        data_digest=HOSTILE,
    )
    (run / "dropped.csv").write_text(f"kind,photo,detail\nmissing-photo,{'<img src=x onerror=alert(1)>'},\n")
    with (run / "neighbours.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["photo_a", "part_a", "photo_b", "part_b", "cosine"], [HOSTILE] * 4 + ["0.99"]])
    return run


@pytest.fixture
def page(tmp_path: Path) -> str:
    run = write_run(tmp_path / "a")
    (run / "models").mkdir()
    (run / "models" / f"{LINEAR}.joblib").write_bytes(b"")
    return page_of(run)


def test_sections_in_order(page: str) -> None:
    assert Page(page).headings == [
        "How much can be filled in",
        "Candidates",
        "Against each other",
        "By head",
        "Per attribute",
        "Value by value: linear",
        "Photos",
        "What was tried: 3 configurations",
        "Threshold policies",
        "Attribute by attribute: linear",
        "Data left out",
        "How to reproduce",
        "Load the best model",
    ]


def test_every_element_is_closed_and_every_row_is_as_wide_as_its_head(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    assert len(parsed.rows) == 13
    for rows in parsed.rows:
        assert len(set(rows)) == 1, rows


def test_rows_are_as_wide_as_their_head_when_runs_have_different_attributes(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", attributes=("neck",))]
    for rows in Page(page_of(*runs)).rows:
        assert len(set(rows)) == 1, rows


def test_figures_of_the_page_are_those_of_the_comparison(page: str) -> None:
    shown = markup_of(page)
    assert "<b>90 % of the attributes right</b>; always naming the most common value would get 40 %." in shown
    assert "<span>attributes right</span><b>0.900</b>" in shown
    assert "majority 0.400" in shown
    assert "<b>3 </b>missing-photo<span" in shown
    assert "<b>1 </b>values too rare to be measured</summary><ul><li><b>style </b>sporty</li></ul>" in shown
    assert "Only 6 test photos" in shown
    assert f"models/{LINEAR}.joblib" in shown


def test_figures_that_are_equal_for_all_candidates_are_shown_once(tmp_path: Path) -> None:
    """Of one attribute with one value per photo accuracy, micro F1, IoU and all right are one figure."""
    rows = [row for row in runfolder.ROWS if row[3] is not None]
    kept = [i for i, row in enumerate(row for row in runfolder.ROWS if row[2] != "train") if row[3] is not None]
    configs = {name: {**config, "P": [config["P"][i] for i in kept]} for name, config in CONFIGS.items()}
    one = markup_of(page_of(write_run(tmp_path / "one", rows=rows, configs=configs, attributes=("neck",))))
    assert (
        "Not shown twice, as equal for all of them: macro F1 = attribute F1, micro F1 = attribute accuracy,"
        " IoU = attribute accuracy, all right = attribute accuracy." in one
    )
    assert "<span>IoU</span>" not in one and "<span>photos all right</span>" not in one
    assert "Not shown twice" not in markup_of(page_of(write_run(tmp_path / "two")))


def test_policies_with_the_same_figures_share_a_row(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    decisions = json.loads((run / "decisions.json").read_text())
    decisions[LINEAR]["policies"]["global"] = decisions[LINEAR]["policies"]["best"]
    (run / "decisions.json").write_text(json.dumps(decisions))
    page = markup_of(page_of(run))
    assert '<tr class="best"><th scope="row">best, global</th><td>0.900</td>' in page
    assert '<th scope="row">fixed:0.8</th>' in page


def test_a_single_learning_rate_has_no_chart(tmp_path: Path) -> None:
    """Adam and SGD at one rate each are no line either."""
    assert 'id="sweep"' in page_of(write_run(tmp_path / "several"))
    assert 'id="sweep"' not in page_of(write_run(tmp_path / "one", unkept=False))


def test_how_much_can_be_filled_in_is_said_at_the_top(page: str) -> None:
    said = "Where 95 % of what it names must be right, it can fill in "
    assert markup_of(page).index(said) < markup_of(page).index("<h2>How much can be filled in</h2>")
    assert "linear, 95.0 % right" in page


def test_both_counts_of_test_photos_are_one(tmp_path: Path) -> None:
    """A photo without a known label is a test photo all the same, and the note says why fewer count."""
    rows = [(*row[:3], None, None) if row[0] == "h1.jpg" else row for row in runfolder.ROWS]
    page = markup_of(page_of(write_run(tmp_path / "a", rows=rows)))
    assert "On 6 test photos that played no part" in page
    assert "Only 6 test photos (5 of them with a known label, which alone can count): look at" in page


def test_only_its_own_scripts_may_run_and_nothing_may_be_fetched(page: str) -> None:
    parsed = Page(page)
    assert {"link", "img", "iframe", "object", "form", "base"}.isdisjoint(tag for tag, _ in parsed.tags)
    assert not any(name.startswith("on") or name == "src" for _, attrs in parsed.tags for name in attrs)
    assert all(attrs["href"].startswith("#") for _, attrs in parsed.tags if attrs.get("href"))
    at = {attrs.get("id") for _, attrs in parsed.tags}
    assert all(attrs["href"][1:] in at for _, attrs in parsed.tags if attrs.get("href"))
    (policy,) = [a["content"] for _, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == scripts.policy(parsed.scripts[1:])
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert not re.search(r"url\(|@import|javascript:", markup_of(page))


def test_it_is_readable_without_eyes(page: str) -> None:
    tags = Page(page).tags
    assert sum(tag == "table" for tag, _ in tags) == sum(tag == "caption" for tag, _ in tags)
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in tags if tag == "th")
    shown = markup_of(page)
    assert shown.count("<svg") == len(re.findall(r"<svg [^>]*><title>", shown))
    assert all(
        attrs.get("aria-label")
        for _, attrs in tags
        if attrs.get("role") in ("img", "region")
        and "viewBox" not in attrs
        and attrs.get("class") not in ("bar", "strip")
    )
    for tag, attrs in tags:
        if tag in ("select", "input"):
            assert re.search(rf'<label[^>]*>(?:(?!</label>).)*id="{attrs["id"]}"', shown, re.S), attrs
    assert tags[0] == ("html", {"lang": "en"})


def test_names_and_values_cannot_become_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(hostile_run(tmp_path / "a", monkeypatch), options=CompareOptions(bootstrap=5, by="lr"))
    parsed = Page(page)
    assert parsed.open == []
    assert len(parsed.scripts) == 1 + len(scripts.BOKEH) + len(scripts.OWN)
    shown = markup_of(page)
    assert "<script" not in shown
    assert "<!--" not in shown
    assert "<img" not in shown
    assert "linear-&lt;b&gt;" in shown
    assert "&lt;/td&gt;&lt;/script&gt;&lt;script&gt;window.hacked" in shown
    assert not {"\u202e", "\u2028"} & set(page)
    seen = json.loads(parsed.scripts[0])["gallery"]["photos"][0][0]
    assert seen.startswith("</td></script><script>window.hacked=1</script><!--\"'&\ufffd\ufffd")


def test_json_in_a_script_element_holds_nothing_that_ends_it() -> None:
    text = as_json({"a": HOSTILE})
    assert not re.search(r"[<>&\u2028\u202e]", text)
    assert json.loads(text) == {"a": HOSTILE}


def test_optional_sections_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", not_measurable=[], findings={})
    (run / "history.csv").unlink()
    page = page_of(run, options=CompareOptions(bootstrap=5))
    headings = Page(page).headings
    assert "By head" not in headings
    assert "Load the best model" not in headings
    assert "Nothing was dropped and nothing was odd." in page


def test_an_attribute_without_known_test_photos_is_shown_as_not_measured(tmp_path: Path) -> None:
    rows = [(*row[:4], None if row[2] == "test" else row[4]) for row in runfolder.ROWS]
    page = page_of(write_run(tmp_path / "a", rows=rows))
    assert "style: best not measured, majority not measured" in page
    assert "nan" not in markup_of(page).lower().replace("naming", "")


def test_five_thousand_photos_fit_into_eight_megabytes(tmp_path: Path) -> None:
    comparison, data = _judged(tmp_path)
    values = tuple(tuple(f"value number {i}" for i in range(140)) for _ in range(20))
    cells = tuple(((3, 871, False, True), (117, 99, True, False)) for _ in range(20))
    photos = tuple(Photo(f"some/long/folder/product-{i:06d}-1.jpg", cells) for i in range(PHOTOS))
    pictures = {photo.name: bytes(2500) for photo in photos[:600]}
    full = Gallery(tuple(f"attribute {i}" for i in range(20)), values, PHOTOS, photos, pictures)
    page = render(comparison, dataclasses.replace(data, gallery=full))
    assert len(page.encode()) < 8_000_000


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    comparison, data = _judged(tmp_path)
    path = write_report(comparison, data, tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8") == render(comparison, data)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_the_page_says_the_whole_command_that_makes_it_again(tmp_path: Path) -> None:
    run, page, table = write_run(tmp_path / "a"), tmp_path / "new" / "page.html", tmp_path / "c.json"
    assert main(["compare", str(run), "--bootstrap", "5", "--json", str(table), "--report", str(page)]) == 0
    command = f"compare {run} --report {page} --json {table} --bootstrap 5"
    assert f" {command}</code>" in page.read_text(encoding="utf-8")
    assert main(["compare", str(run), "--bootstrap", "5"]) == 0
    assert f"compare {run} --report {run}/report.html --bootstrap 5</code>" in (run / "report.html").read_text()


def _judged(folder: Path) -> tuple[Comparison, PageData]:
    comparison = compare([write_run(folder / "a")], QUICK)
    return comparison, page_data(comparison)
