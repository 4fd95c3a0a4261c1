"""What the page says of differences, single values, calibration and near-duplicates, read off its HTML."""

from __future__ import annotations

import dataclasses
import re
from itertools import combinations
from pathlib import Path

import pytest

from pipeline.comparison.compare import compare
from pipeline.comparison.page import render
from pipeline.comparison.page.data import PageData, page_data
from pipeline.comparison.records import ByDifference, ByRow, CalibrationRow, Comparison, Difference, Pair, ValueRow
from pipeline.options import CompareOptions
from tests.comparison.page.test_page import HOSTILE, Page, markup_of
from tests.comparison.runfolder import CONFIGS, NAMES, write_run

CONFIG_IDS = tuple(CONFIGS)
LINEAR, MLP = NAMES


@pytest.fixture
def judged(tmp_path: Path) -> tuple[Comparison, PageData]:
    comparison = compare([write_run(tmp_path / "a")], CompareOptions(bootstrap=20, by="head"))
    return comparison, page_data(comparison)


def text_of(judged: tuple[Comparison, PageData], heading: str, **changes: object) -> str:
    """The words under one heading of the page of a changed comparison; "" when there is no such section."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html_of(judged, heading, **changes))).strip()


def html_of(judged: tuple[Comparison, PageData], heading: str, **changes: object) -> str:
    shown = markup_of(render(dataclasses.replace(judged[0], **changes), judged[1]))
    found = [part for part in re.findall(r"(?s)<section.*?</section>", shown) if f"<h2>{heading}" in part]
    return found[0] if found else ""


def pair(first: str, second: str, verdict: str) -> Pair:
    value, noise = (-0.02 if verdict == "second better" else 0.02), verdict == "no difference shown"
    low, high = (-0.01, 0.05) if noise else (value - 0.01, value + 0.01)
    figures = {name: Difference(value, low, high, noise) for name in ("accuracy", "key_macro_f1")}
    return Pair(first, second, figures, verdict)


def test_the_best_and_the_runner_up_are_set_against_each_other_in_words(judged: tuple[Comparison, PageData]) -> None:
    shown = text_of(judged, "Against each other")
    found = judged[0].pairs[0]
    accuracy = found.differences["accuracy"]
    assert found.verdict == "first better"
    assert f"{LINEAR} is shown to be better than the runner-up by validation, {MLP}: attribute accuracy " in shown
    assert f"attribute accuracy {accuracy.value:+.3f} [{accuracy.low:+.3f} {accuracy.high:+.3f}], attribute F1" in shown


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("no difference shown", "shows no difference from the runner-up"),
        ("second better", "is shown to be worse than the runner-up"),
        ("mixed", "is better in one figure and worse in the other than the runner-up"),
    ],
)
def test_every_verdict_has_its_words(judged: tuple[Comparison, PageData], verdict: str, words: str) -> None:
    shown = text_of(judged, "Against each other", pairs=(pair(LINEAR, MLP, verdict),))
    assert f"{LINEAR} {words}" in shown
    assert f"{LINEAR} {MLP} {verdict} " in shown


def test_an_ensemble_that_a_member_is_ahead_of_is_explained(tmp_path: Path) -> None:
    """The chosen one is not the one with the highest validation score; the page must say why."""
    run = write_run(tmp_path / "a", best=CONFIG_IDS[1])
    comparison = compare([run], CompareOptions(bootstrap=20))
    assert comparison.best == MLP
    shown = text_of((comparison, page_data(comparison)), "Against each other")
    assert (
        f"By validation {LINEAR} is ahead of {MLP}, 0.900 against 0.400, but within noise, and then an ensemble is"
        " preferred to its member"
    ) in shown
    assert "runner-up" not in shown


def test_candidates_without_a_common_attribute_get_no_verdict(judged: tuple[Comparison, PageData]) -> None:
    nothing = Pair(LINEAR, MLP, {}, "no difference shown")
    shown = text_of(judged, "Against each other", pairs=(nothing,))
    assert f"{LINEAR} and the runner-up by validation, {MLP}, have no attribute in common." in shown
    assert "no difference shown" not in shown


def test_many_candidates_become_a_matrix_above_the_folded_pairs(judged: tuple[Comparison, PageData]) -> None:
    names = [LINEAR, MLP, *(f"other-{i}" for i in range(22))]
    every = [pair(a, b, "no difference shown" if a == LINEAR else "second better") for a, b in combinations(names, 2)]
    page = html_of(judged, "Against each other", pairs=tuple(every))
    matrix, folded = page.split("<details>")
    assert matrix.count("≈</td>") == 2 * 23
    assert matrix.count("▲</td>") == matrix.count("▼</td>") == 276 - 23
    row = next(part for part in matrix.split("<tr>") if "<b>3 </b>other-0" in part)
    assert re.findall(r">([≈▲▼]?)</td>", row) == ["≈", "▲", "", *"▼" * 21]
    assert folded.count("no difference shown</td>") == 23
    assert "23 of the 23 others set against the best show no difference from it." in matrix


def test_a_field_says_which_value_leads_and_over_which(judged: tuple[Comparison, PageData]) -> None:
    rows = [ByRow(v, 2, LINEAR, "a", score, LINEAR) for v, score in (("", 0.6), ("adam", 0.9), ("sgd", 0.7))]
    told = [("", "adam", "second better"), ("", "sgd", "mixed"), ("adam", "sgd", "no difference shown")]
    found = [ByDifference("x", a, b, LINEAR, MLP, pair(a, b, said).differences, said) for a, b, said in told]
    shown = text_of(judged, "By x", by="x", by_rows=tuple(rows), by_differences=tuple(found))
    assert (
        "By validation x adam comes first. On the test photos it is shown to be better than (none); it shows no"
        " difference from sgd, each by its best configuration." in shown
    )
    assert "adam sgd no difference shown +0.020 [-0.010 +0.050]" in shown


def test_a_field_is_compared_among_like_configurations(judged: tuple[Comparison, PageData]) -> None:
    """One sentence per kind, settings beside each row, and a plain word where nothing is comparable."""
    kinds = [("head mlp", "adam", 0.9), ("head mlp", "sgd", 0.7), ("head linear", "adam", 0.8)]
    rows = [ByRow(v, 2, CONFIG_IDS[0], "a", score, LINEAR, among, {"lr": "0.01"}, LINEAR) for among, v, score in kinds]
    differences = pair("adam", "sgd", "first better").differences
    found = ByDifference("x", "adam", "sgd", LINEAR, MLP, differences, "first better", "head mlp")
    shown = text_of(judged, "By x", by="x", by_rows=tuple(rows), by_differences=(found,))
    assert "By validation x adam (head mlp) comes first." in shown
    assert "it is shown to be better than sgd (head mlp), each by its best configuration." in shown
    assert "comes first" not in shown.replace("x adam (head mlp) comes first", "")
    assert f"adam head linear 2 {LINEAR} lr 0.01 0.800" in shown
    nothing = "nothing comparable: no two values of x"
    assert nothing in text_of(judged, "By x", by="x", by_rows=tuple(rows), by_note=nothing)


def test_values_are_folded_per_attribute_the_most_frequent_first(judged: tuple[Comparison, PageData]) -> None:
    page = html_of(judged, "Value by value")
    assert [re.sub("<[^>]+>", "", each) for each in re.findall(r"<summary>(.*?)</summary>", page)] == [
        "neck 2 values, 2 with a test photo",
        "style 3 values, 3 with a test photo, 1 not learnable",
    ]
    assert "<details open" not in page
    heads = re.findall(r'<th scope="row">(\w+)', page)
    found = {row.value: row for row in judged[0].values}
    assert set(heads) == set(found)
    assert [found[value].support for value in heads[2:]] == sorted((found[v].support for v in heads[2:]), reverse=True)
    plain = found["plain"]
    assert plain.precision is not None
    assert f"<td>{plain.support}</td><td>{plain.decided}</td><td>{plain.precision:.3f}</td>" in page
    assert "style=sporty (1 in test)." in page


def test_2520_values_stay_small(judged: tuple[Comparison, PageData]) -> None:
    rows = [
        ValueRow(f"attribute {i % 12}", f"value {i} {HOSTILE}", i, i % 7, 3, 0.5, 0.5, 0.5, 0.5, i > 99)
        for i in range(2520)
    ]
    small = [dataclasses.replace(row, value=f"value {row.train}") for row in rows]
    assert len(html_of(judged, "Value by value", values=tuple(small))) < 700_000
    page = render(dataclasses.replace(judged[0], values=tuple(rows)), judged[1])
    assert Page(page).open == []
    assert "<script>window" not in markup_of(page)
    assert " and 70 more." in page


def test_calibration_before_and_after(judged: tuple[Comparison, PageData]) -> None:
    rows = (
        CalibrationRow("neck", "temperature", 0.5, 0.0, 0.2, 0.1, 0.7, 0.6),
        CalibrationRow("style", "platt", 1.5, 0.25, 0.1, 0.12, 0.5, 0.5),
    )
    shown = text_of(judged, "Calibration", calibration=rows)
    assert "Mean calibration error over attributes: 0.150 before, 0.110 after; lower for 1 of 2 attributes." in shown
    assert "left alone" not in shown
    alone = (rows[0], dataclasses.replace(rows[1], method="none", scale=1.0, shift=0.0, error_after=0.1))
    assert "1 was left alone: validation photos that did not fit it" in text_of(
        judged, "Calibration", calibration=alone
    )
    assert "neck temperature 0.500 +0.000 0.200 0.100 0.700 0.600" in shown
    unknown = tuple(dataclasses.replace(row, error_before=None) for row in rows)
    assert text_of(judged, "Calibration", calibration=unknown) == ""
    assert text_of(judged, "Calibration") == ""


def test_near_duplicates_across_parts_are_named(tmp_path: Path) -> None:
    facts = {"cosine": 0.98, "pairs": {"validation-train": 0, "test-train": 10}, "test_photos": 2, "listed": 9}
    run = write_run(tmp_path / "a", near_duplicates={**facts, "closest": ["f1.jpg", "a1.jpg"]})
    pairs = "".join(f"f{i}.jpg,test,a{i}.jpg,train,0.99{9 - i}0\n" for i in range(9))
    (run / "neighbours.csv").write_text(f"photo_a,part_a,photo_b,part_b,cosine\n{pairs}")
    comparison = compare([run], CompareOptions(bootstrap=5))
    shown = text_of((comparison, page_data(comparison)), "Data left out")
    assert "10 near-duplicate pairs across parts cosine of at least 0.98; 2 test photos have" in shown
    assert "f0.jpg in test, a0.jpg in train: 0.9990 f1.jpg" in shown
    assert "and 2 more; neighbours.csv lists the closest" in shown


def test_one_candidate_has_nothing_to_be_set_against(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", configs={CONFIG_IDS[0]: CONFIGS[CONFIG_IDS[0]]})
    comparison = compare([run], CompareOptions(bootstrap=5))
    page = render(comparison, page_data(comparison))
    assert "Against each other" not in page
    assert "near-duplicate" not in page
