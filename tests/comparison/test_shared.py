"""Runs that share some photos, attributes and values: who is judged on what, and what is said of the rest."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.comparison.compare import compare, table
from pipeline.comparison.csv_file import save_csv
from pipeline.comparison.page import write_report
from pipeline.comparison.page.data import page_data
from pipeline.comparison.shared import share
from pipeline.errors import RunError
from pipeline.experiment.run_reader import read_run
from pipeline.options import CompareOptions
from tests.comparison import runfolder
from tests.comparison.runfolder import CONFIGS, GOOD, POOR, ROWS, write_run

QUICK = CompareOptions(bootstrap=50)
LINEAR, MLP = CONFIGS


def one(P: list[list[float]], score: float = 0.9) -> dict[str, dict[str, object]]:
    return {LINEAR: {**CONFIGS[LINEAR], "P": P, "score": score}}


def test_a_photo_that_a_run_was_fit_on_judges_nobody(tmp_path: Path) -> None:
    """a1 is a training photo of one run and a test photo of the other: the latter alone could be judged on it."""
    rows = [(*ROWS[0][:2], "test", *ROWS[0][3:]), *ROWS[1:]]
    write_run(tmp_path / "a", configs=one(GOOD))
    write_run(tmp_path / "b", rows=rows, configs=one([POOR[0], *GOOD], 0.8))
    alone, comparison = compare([tmp_path / "a"], QUICK), compare([tmp_path / "a", tmp_path / "b"], QUICK)
    first, second = comparison.candidates
    assert first.metrics == alone.candidates[0].metrics == second.metrics
    assert comparison.parts == {"train": 4, "validation": 2, "test": 6}
    said = (
        "1 photo: in the test part of one run and in another part of another run, which learnt from them; not judged"
        " on (first: a1.jpg)"
    )
    assert comparison.left_out[0] == said
    assert comparison.left_out[1] == (
        "the runs were not fit on the same photos: a difference may come from these (a 4, b 3)"
    )
    assert f"not shared: {said}" in table(comparison)
    assert alone.left_out == () and alone.photo_sets == ()


@pytest.mark.parametrize("better", ["first", "second"])
def test_of_two_runs_of_one_second_the_one_named_later_stands_first(tmp_path: Path, better: str) -> None:
    """Whichever is the better: how fast the machine fits must not decide who is compared with whom."""
    old = [row for row in ROWS if row[0] != "j1.jpg"]
    write_run(tmp_path / "first", rows=old, configs=one(POOR[:-1], 0.95 if better == "first" else 0.5))
    write_run(tmp_path / "second", configs=one(GOOD))
    everybody, _ = compare([tmp_path / "first", tmp_path / "second"], QUICK).photo_sets
    assert [each.name for each in everybody.best] == ["second/linear", "first/linear"]


def test_photos_of_one_run_alone_judge_it_apart(tmp_path: Path) -> None:
    """Next month's run has one more test photo: both are judged on the old ones, it alone on the new one."""
    at = [i for i, row in enumerate(ROWS) if row[2] != "train"]
    old = [row for row in ROWS if row[0] != "j1.jpg"]
    write_run(tmp_path / "old", rows=old, configs=one(POOR[:-1], 0.95), created="2026-01-01T00:00:00")
    write_run(tmp_path / "new", configs=one(GOOD), created="2026-02-01T00:00:00")
    assert len(at) == len(GOOD)
    comparison = compare([tmp_path / "old", tmp_path / "new"], QUICK)
    assert comparison.best == "old/linear", "chosen on validation"
    everybody, apart = comparison.photo_sets
    assert (everybody.photos, everybody.runs, everybody.everybody) == (5, ("new", "old"), True)
    assert (apart.photos, apart.runs, apart.everybody) == (1, ("new",), False)
    assert [each.name for each in everybody.best] == ["new/linear", "old/linear"]
    (pair,) = everybody.pairs
    assert (pair.first, pair.verdict) == ("new/linear", "first better")
    assert apart.pairs == () and apart.best[0].metrics.overall.photos == 1
    # j1 is sporty and called sporty; its neck is unknown.
    assert apart.best[0].metrics.overall.accuracy == 1.0
    text = table(comparison)
    assert "On the 5 test photos of all runs (4 products)" in text
    assert "On the 1 test photo of new alone (1 product)" in text
    assert "new/linear is shown to be better than old/linear (attribute acc +" in text
    assert "not shared: 1 photo: in the test part of new alone, unknown to the others; judged apart" in text
    save_csv(comparison, tmp_path / "c.csv")
    with (tmp_path / "c.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["kind"] == "photos" and row["figure"] == "accuracy"]
    assert {(row["key"], row["candidate"], row["against"]) for row in found} >= {
        ("all", "new/linear", "old/linear"),
        ("new", "new/linear", ""),
        ("new", "majority", ""),
    }


def test_the_page_says_what_was_left_out_and_shows_no_photo_that_judges_nobody(tmp_path: Path) -> None:
    old = [row for row in ROWS if row[0] != "j1.jpg"]
    write_run(tmp_path / "old", rows=old, configs=one(POOR[:-1], 0.5))
    write_run(tmp_path / "new", configs=one(GOOD))
    comparison = compare([tmp_path / "old", tmp_path / "new"], QUICK)
    data = page_data(comparison)
    assert sorted(photo.name for photo in data.gallery.photos) == ["f1.jpg", "f2.jpg", "g1.jpg", "h1.jpg", "i1.jpg"]
    write_report(comparison, data, tmp_path / "r.html")
    page = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", (tmp_path / "r.html").read_text()))
    assert "What the runs do not share" in page
    assert comparison.left_out and all(each in page for each in comparison.left_out)
    assert "On the 5 test photos of all runs (4 products)" in page
    single = compare([tmp_path / "new"], QUICK)
    write_report(single, page_data(single), tmp_path / "s.html")
    assert "What the runs do not share" not in (tmp_path / "s.html").read_text()


def test_a_label_counts_where_the_runs_agree_on_it(tmp_path: Path) -> None:
    """g1 was relabelled from v to round, and j1's neck became known: neck is judged on neither, style on both."""
    rows = [("g1.jpg", 6, "test", "round", ("casual",)) if row[0] == "g1.jpg" else row for row in ROWS]
    rows = [("j1.jpg", 9, "test", "v", ("sporty",)) if row[0] == "j1.jpg" else row for row in rows]
    write_run(tmp_path / "a", configs=one(GOOD))
    write_run(tmp_path / "b", rows=rows, configs=one(GOOD, 0.8))
    comparison = compare([tmp_path / "a", tmp_path / "b"], QUICK)
    for candidate in comparison.candidates:
        neck, style = candidate.metrics.attributes
        # f1, f2 and i1 round, h1 is v and called round.
        assert (neck.photos, neck.accuracy, style.photos) == (4, 0.75, 5)
    assert comparison.left_out == (
        "2 photos: another label for neck in one run than in another; neck is not judged there (first: g1.jpg)",
    )


def test_a_value_that_only_one_run_can_decide_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the older run polo was a value of test photos alone: it misses it, the newer one may find it."""
    odd = [(*row[:3], "polo", row[4]) if row[0] == "i1.jpg" else row for row in ROWS]
    write_run(tmp_path / "old", rows=odd, configs=one(GOOD), unseen=[["neck", "polo"]])
    monkeypatch.setattr(runfolder, "ATTRIBUTES", {**runfolder.ATTRIBUTES, "neck": ["round", "v", "polo"]})
    wide = [[*row[:2], 0.0, *row[2:]] for row in GOOD]
    wide[6][:3] = [0.1, 0.1, 0.9]
    write_run(tmp_path / "new", rows=odd, configs=one(wide, 0.8))
    comparison = compare([tmp_path / "old", tmp_path / "new"], QUICK)
    necks = {c.run: c.metrics.attributes[0] for c in comparison.candidates}
    assert (necks["old"].accuracy, necks["new"].accuracy) == (0.6, 0.8)
    assert necks["old"].scored_values == necks["new"].scored_values == 3
    assert comparison.left_out == (
        "neck: only new can decide polo; where it is true the others miss it, where it is not deciding it is a mistake",
    )


def test_an_attribute_of_one_run_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "neck", configs=one(GOOD), attributes=("neck",))
    write_run(tmp_path / "both", configs=one(GOOD))
    found = compare([tmp_path / "neck", tmp_path / "both"], QUICK).left_out
    assert found == ("style: an attribute of both alone, in no difference to the others",)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"i1.jpg": ("i1.jpg", "other bytes")}, "other bytes in one run than in another"),
        ({"i1.jpg": ("renamed.jpg", "i1.jpg")}, "known to another run under another name"),
    ],
)
def test_a_photo_that_became_another_or_another_name_judges_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, tuple[str, str]], why: str
) -> None:
    write_run(tmp_path / "a", configs=one(GOOD))
    renamed = dict(change.values())
    rows = [(change[row[0]][0], *row[1:]) if row[0] in change else row for row in ROWS]
    monkeypatch.setattr(runfolder, "CONTENTS", renamed)
    write_run(tmp_path / "b", rows=rows, configs=one(GOOD, 0.8))
    comparison = compare([tmp_path / "a", tmp_path / "b"], QUICK)
    assert comparison.parts["test"] == 5
    assert why in comparison.left_out[0]
    assert [each.photos for each in comparison.photo_sets] == [5]


def test_two_catalogues_are_one_clear_error(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", rows=[(f"other-{row[0]}", *row[1:]) for row in ROWS])
    with pytest.raises(RunError, match=r"no photo in common \(such as a1\.jpg and other-a1\.jpg\).*two catalogues"):
        compare([tmp_path / "a", tmp_path / "b"], QUICK)


def test_without_a_test_photo_of_both_nothing_is_compared(tmp_path: Path) -> None:
    other = [(*row[:2], {"train": "test", "test": "train"}.get(row[2], row[2]), *row[3:]) for row in ROWS]
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", rows=other, configs=one(GOOD[:6]))
    with pytest.raises(RunError, match=r"12 photos in common, but none that is in the test part of both.*--split-from"):
        compare([tmp_path / "a", tmp_path / "b"], QUICK)


PARTS = ("train", "validation", "test", None)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PARTS), min_size=12, max_size=12), min_size=2, max_size=3))
def test_a_photo_judges_only_runs_that_never_saw_it(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[str | None]]
) -> None:
    """Any parts, any photos missing: who is judged on a photo has it in its test part, and nobody learnt from it."""
    folder = tmp_path_factory.mktemp("runs")
    runs = []
    for i, chosen in enumerate(parts):
        rows = [(*row[:2], part, *row[3:]) for row, part in zip(ROWS, chosen, strict=True) if part]
        judged = [row for row in rows if row[2] != "train"]
        runs.append(read_run(write_run(folder / f"r{i}", rows=rows, configs=one([GOOD[0]] * len(judged)))))
    try:
        shared = share(runs)
    except RunError:
        assert not any(all(chosen[j] == "test" for chosen in parts) for j in range(12))
        return
    for test in (shared.common, *shared.apart):
        for photo in test.photos:
            j = [row[0] for row in ROWS].index(photo)
            assert all(parts[runs.index(run)][j] == "test" for run in test.runs)
            assert {chosen[j] for chosen in parts} <= {"test", None}
    assert len(shared.common.photos) == sum(all(chosen[j] == "test" for chosen in parts) for j in range(12))
