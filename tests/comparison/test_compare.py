"""Comparing run folders: the figures by hand, who is best, what is refused, and what the table and JSON say."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.catalogue.labels import LabelSchema
from pipeline.comparison.compare import compare, table
from pipeline.comparison.csv_file import save_csv
from pipeline.comparison.page import render
from pipeline.comparison.page.data import page_data
from pipeline.comparison.records import Comparison, save_json
from pipeline.errors import OptionError, RunError
from pipeline.evaluation.bootstrap import Bootstrap, interval, interval_of
from pipeline.evaluation.metrics import evaluate, photo_sums
from pipeline.evaluation.unseen import Unseen
from pipeline.options import CompareOptions
from tests.comparison.runfolder import CONFIGS, GOOD, NAMES, POOR, ROWS, write_run

QUICK = CompareOptions(bootstrap=50)
LINEAR, MLP = CONFIGS
NAMED, OTHER = NAMES


def test_figures_of_the_best_by_hand(tmp_path: Path) -> None:
    comparison = compare([write_run(tmp_path / "a")], QUICK)
    best = comparison.best_candidate
    neck, style = best.metrics.attributes
    # Five photos know their neck; h1 is v and called round, j1 is unknown.
    assert (neck.photos, neck.accuracy) == (5, 0.8)
    assert (style.photos, style.accuracy) == (5, 1.0)
    assert best.metrics.overall.accuracy == pytest.approx(0.9)
    assert best.metrics.overall.all_keys_right == pytest.approx(5 / 6)
    majority = comparison.majority.metrics
    # Most training photos are round, plain in 3 of 4, casual in 2 of 4.
    assert majority.attributes[0].accuracy == pytest.approx(3 / 5)
    assert majority.attributes[1].accuracy == pytest.approx(1 / 5)
    assert comparison.parts == {"train": 4, "validation": 2, "test": 6}
    assert comparison.groups == 5


def test_the_best_is_chosen_on_validation_not_on_test(tmp_path: Path) -> None:
    configs = {LINEAR: {**CONFIGS[LINEAR], "score": 0.3}, MLP: CONFIGS[MLP]}
    comparison = compare([write_run(tmp_path / "a", configs=configs)], QUICK)
    assert [c.config_id for c in comparison.candidates] == [MLP, LINEAR]
    assert comparison.best == OTHER
    assert comparison.candidates[1].metrics.overall.accuracy > comparison.candidates[0].metrics.overall.accuracy


def chosen(folder: Path, accuracy: tuple[str, str], **info: Any) -> Path:
    """A run whose linear head leads by its own score; by accuracy as given."""
    run = write_run(folder, **info)
    rows = list(csv.DictReader((run / "configs.csv").open(newline="")))
    for row, figure in zip(rows, (*accuracy, ""), strict=True):
        row |= {"validation_accuracy": figure, "validation_balanced": row["validation_score"]}
    with (run / "configs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return run


def test_what_is_best_can_be_chosen_and_is_named(tmp_path: Path) -> None:
    run = chosen(tmp_path / "a", ("0.7", "0.8"))
    own, other = (compare([run], CompareOptions(bootstrap=10, choose=choose)) for choose in (None, "accuracy"))
    assert (own.best, own.choose, own.best_candidate.validation_score) == (NAMED, "balanced", 0.9)
    assert (other.best, other.choose, other.best_candidate.validation_score) == (OTHER, "accuracy", 0.8)
    assert "* chosen on validation by balanced: the mean over attributes of (macro F1 + accuracy) / 2" in table(own)
    assert "* chosen on validation by accuracy: attribute accuracy, the mean over attributes" in table(other)
    assert "chosen on validation by accuracy: attribute accuracy" in render(other, page_data(other))
    assert other.to_json()["choose"] == "accuracy"
    assert "Ranked by accuracy here, but chosen by another figure in a by balanced" in "".join(other.notes)
    by_lr = compare([run], CompareOptions(bootstrap=10, by="lr", choose="accuracy")).by_rows
    assert [row.validation_score for row in by_lr] == [None, 0.8, 0.7]


def test_runs_are_ranked_by_what_all_of_them_chose_by(tmp_path: Path) -> None:
    by_accuracy = {"options": {"fit": {"choose": "accuracy"}}}
    first, second = (chosen(tmp_path / name, ("0.7", "0.8"), **by_accuracy) for name in "ab")
    assert compare([first, second], QUICK).choose == "accuracy"
    old = write_run(tmp_path / "old")
    mixed = compare([first, old], QUICK)
    assert mixed.choose == "balanced", "a run that does not say was chosen by it"
    with pytest.raises(RunError, match="old does not say how its heads did by iou on validation; fit it again"):
        compare([old], CompareOptions(bootstrap=10, choose="iou"))
    wrong = write_run(tmp_path / "wrong", options={"fit": {"choose": "luck"}})
    with pytest.raises(RunError, match=r"run.json: options.fit.choose is 'luck'; expected one of balanced, accuracy"):
        compare([wrong], QUICK)


def test_what_a_run_preferred_within_noise_stands_before_its_other_candidates(tmp_path: Path) -> None:
    """An ensemble may be chosen although its member scored a little higher; another run's best is not passed by it."""
    write_run(tmp_path / "a", best=MLP)
    assert compare([tmp_path / "a"], QUICK).best == OTHER
    better = {LINEAR: {**CONFIGS[LINEAR], "score": 0.95}}
    write_run(tmp_path / "b", configs=better, best=LINEAR)
    assert [c.name for c in compare([tmp_path / "a", tmp_path / "b"], QUICK).candidates] == [
        f"b/{NAMED}",
        f"a/{OTHER}",
        f"a/{NAMED}",
    ]


def test_differences_are_paired_and_signed(tmp_path: Path) -> None:
    configs = {LINEAR: CONFIGS[LINEAR], "twin-adam-00000009": {**CONFIGS[LINEAR], "score": 0.5}, MLP: CONFIGS[MLP]}
    comparison = compare([write_run(tmp_path / "a", configs=configs)], QUICK)
    best, twin, poor = comparison.candidates
    assert best.differences == {}
    same = twin.differences["accuracy"]
    assert (same.value, same.low, same.high, same.within_noise) == (0.0, 0.0, 0.0, True)
    worse = poor.differences["accuracy"]
    assert worse.value == pytest.approx(0.1 - 0.9)
    assert worse.high < 0
    assert not worse.within_noise


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    """A run whose split.csv lists the same photos in another order gives the same figures and intervals."""
    order = [5, 3, 0, 4, 1, 2, 11, 6, 9, 8, 7, 10]
    judged = [i for i in order if ROWS[i][2] != "train"]
    configs = {LINEAR: {**CONFIGS[LINEAR], "P": [GOOD[i - 4] for i in judged]}}
    write_run(tmp_path / "a", configs={LINEAR: CONFIGS[LINEAR]})
    write_run(tmp_path / "b", rows=[ROWS[i] for i in order], configs=configs)
    first, second = compare([tmp_path / "a", tmp_path / "b"], QUICK).candidates
    assert first.metrics == second.metrics
    assert first.intervals == second.intervals
    assert second.differences["accuracy"].value == 0.0


def test_a_run_with_fewer_keys_is_compared_on_the_keys_it_has(tmp_path: Path) -> None:
    configs = {LINEAR: {**CONFIGS[LINEAR], "score": 0.99}}
    runs = [write_run(tmp_path / "neck", configs=configs, attributes=("neck",)), write_run(tmp_path / "both")]
    comparison = compare(runs, QUICK)
    assert comparison.best == f"both/{NAMED}"
    narrow = next(c for c in comparison.candidates if c.run == "neck")
    assert narrow.attributes == ("neck",)
    assert narrow.differences["accuracy"].value == 0.0
    assert "1/2" in table(comparison)
    assert any("predict other attributes than the best" in note for note in comparison.notes)


@pytest.mark.parametrize("name", ["run.json", "split.csv", "labels.parquet", "configs.csv", "decisions.json"])
def test_an_incomplete_folder_names_what_is_missing(tmp_path: Path, name: str) -> None:
    (write_run(tmp_path / "a") / name).unlink()
    with pytest.raises(RunError, match=f"not a complete run folder: it has no {name}"):
        compare([tmp_path / "a"], QUICK)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{", "run.json is not valid JSON"),
        ("run.json", "[]", "holds a list, not an object"),
        ("run.json", "{}", "run.json: schema is not there"),
        ("labels.parquet", "PAR1", "cannot be read as Parquet"),
        ("split.csv", "photo,group,part\na.jpg,0,test\n", "expected a split file with the columns photo, content"),
        ("split.csv", "photo,content,group,part\na.jpg,,0,holdout\n", "part 'holdout'; expected a number and one of"),
        ("split.csv", "photo,content,group,part\nz.jpg,,0,test\n", r"no row for 1 of the 1 photo .*\(first: z"),
        (
            "decisions.json",
            '{"linear-adam-00000001": {"chosen": "best"}}',
            r"linear-adam-00000001\.policies is not there",
        ),
    ],
)
def test_garbled_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (write_run(tmp_path / "a") / name).write_text(content)
    with pytest.raises(RunError, match=message):
        compare([tmp_path / "a"], QUICK)


def test_predictions_that_miss_photos_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", rows=ROWS[:-1], configs={LINEAR: CONFIGS[LINEAR]})
    source = tmp_path / "b" / "predictions" / f"{LINEAR}.parquet"
    source.replace(tmp_path / "a" / "predictions" / f"{LINEAR}.parquet")
    with pytest.raises(RunError, match=r"no row for 1 of the 6 photos of test \(first: j1\.jpg\)"):
        compare([tmp_path / "a"], QUICK)


def test_predictions_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    P = [row[:] for row in GOOD]
    P[3][2] = float("nan")
    write_run(tmp_path / "a", configs={LINEAR: {**CONFIGS[LINEAR], "P": P}})
    with pytest.raises(RunError, match="not numbers; the fit diverged"):
        compare([tmp_path / "a"], QUICK)


def many(products: int) -> dict[str, Any]:
    """A run of so many test products of one photo, half of them of either neck, told by one head and not by another."""
    rows = [(f"t{i}.jpg", i, "train", ("round", "v")[i % 2], None) for i in range(4)]
    rows += [(f"v{i}.jpg", 4 + i, "validation", ("round", "v")[i % 2], None) for i in range(2)]
    rows += [(f"x{i}.jpg", 6 + i, "test", ("round", "v")[i % 2], None) for i in range(products)]
    good = [[1.0 - i % 2, i % 2, 0.0, 0.0, 0.0] for i in range(products + 2)]
    blind = [[0.9, 0.1, 0.0, 0.0, 0.0] for _ in range(products + 2)]
    names = {"linear-adam-00000001": good, "mlp-sgd-00000002": blind}
    configs = {name: {**CONFIGS[name], "P": P} for name, P in names.items()}
    return {"rows": rows, "configs": configs, "attributes": ("neck",), "unkept": False}


def test_a_best_no_better_than_the_majority_is_said_before_anything_else(tmp_path: Path) -> None:
    run = many(60)
    good = compare([write_run(tmp_path / "good", **run)], QUICK)
    assert (good.headline, good.against_majority.verdict) == ((), "first better")
    assert "ATTENTION" not in table(good)
    blind = {name: {**config, "P": run["configs"]["mlp-sgd-00000002"]["P"]} for name, config in run["configs"].items()}
    bad = compare([write_run(tmp_path / "bad", **{**run, "configs": blind})], QUICK)
    (said,) = bad.headline
    assert said.startswith("linear is not shown to be better than always naming the most common value")
    assert table(bad).startswith(f"ATTENTION: {said}\n")
    assert bad.to_json()["headline"] == [said] and bad.to_json()["against_majority"]["verdict"] != "first better"
    page = render(bad, page_data(bad))
    assert ", not shown to be better than the majority</h1>" in page and said in page
    assert "not shown to be better than the majority" not in render(good, page_data(good))


def test_an_attribute_of_which_all_test_photos_have_the_same_is_named(tmp_path: Path) -> None:
    run = many(60)
    sound = compare([write_run(tmp_path / "sound", **run)], QUICK)
    assert "Nothing can be told" not in table(sound)
    alike = [(*row[:3], "round", row[4]) if row[2] == "test" else row for row in run["rows"]]
    found = compare([write_run(tmp_path / "alike", **{**run, "rows": alike})], QUICK)
    said = (
        "Nothing can be told of neck (on all 60 test photos known: round):"
        " a figure there is no evidence that it is recognised."
    )
    assert said in found.notes and said in table(found) and said in render(found, page_data(found))


def test_too_few_test_products_are_said_before_anything_else(tmp_path: Path) -> None:
    few = compare([write_run(tmp_path / "few", **many(20))], QUICK)
    assert few.headline == (
        "20 test photos of 20 products can tell next to nothing: even without a mistake on any, 15 % of all products"
        " may be wrong.",
    )


def test_a_folder_of_runs_stands_for_the_runs_in_it(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path / "runs" / name) for name in ("a", "b"))
    (tmp_path / "runs" / "begun").mkdir()
    comparison, by_name = compare([tmp_path / "runs"], QUICK), compare([first, second], QUICK)
    assert [c.name for c in comparison.candidates] == [c.name for c in by_name.candidates]
    assert comparison.notes[0].endswith("runs is a folder of runs; in it: a, b; no finished run: begun")
    assert [run.path for run in compare([first, tmp_path / "runs"], QUICK).runs] == [str(first), str(second)]
    (tmp_path / "photos").mkdir()
    with pytest.raises(RunError, match=r"photos is no run folder, and holds none: it has no run\.json"):
        compare([tmp_path / "photos"], QUICK)


def test_no_runs_no_folder_no_predictions(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder given"):
        compare([], QUICK)
    with pytest.raises(RunError, match=r"no run folder .*absent"):
        compare([tmp_path / "absent"], QUICK)
    with pytest.raises(RunError, match="holds no predictions"):
        compare([write_run(tmp_path / "a", configs={})], QUICK)


def test_every_pair_is_compared_and_equals_show_no_difference(tmp_path: Path) -> None:
    configs = {LINEAR: CONFIGS[LINEAR], "twin-adam-00000009": {**CONFIGS[LINEAR], "score": 0.5}, MLP: CONFIGS[MLP]}
    comparison = compare([write_run(tmp_path / "a", configs=configs)], QUICK)
    names = [c.name for c in comparison.candidates]
    assert [(p.first, p.second) for p in comparison.pairs] == [
        (names[0], names[1]),
        (names[0], names[2]),
        (names[1], names[2]),
    ]
    assert [p.verdict for p in comparison.pairs] == ["no difference shown", "first better", "first better"]
    last = comparison.pairs[2].differences["accuracy"]
    assert last.value == pytest.approx(0.8)
    assert last.low > 0
    text = table(comparison)
    assert "no difference shown" in text
    assert "first better" in text


def test_by_sets_the_values_of_a_field_against_each_other(tmp_path: Path) -> None:
    configs = {**CONFIGS, "linear-sgd-00000008": {**CONFIGS[LINEAR], "optimizer": "sgd", "score": 0.7}}
    comparison = compare([write_run(tmp_path / "a", configs=configs)], CompareOptions(bootstrap=50, by="optimizer"))
    (found,) = comparison.by_differences
    assert (found.first_value, found.second_value) == ("adam", "sgd")
    assert (found.first, found.second) == ("linear · adam", "linear · sgd")
    assert found.verdict == "no difference shown"
    assert "optimizer against optimizer" in table(comparison)


@pytest.mark.parametrize(
    ("field", "other", "values"),
    [
        ("na", {"options": {"fit": {"na": "class"}}}, ("class", "mask")),
        ("backbone", {"cache_key": {"architecture": "resnet50", "size": 224}}, ("resnet18", "resnet50")),
        ("size", {"cache_key": {"architecture": "resnet18", "size": 96}}, ("96", "224")),
        ("use", {"blocks": [{"name": n, "dim": 2} for n in ("pooled", "levels")]}, ("pooled", "pooled+levels")),
        ("run", {}, ("a", "b")),
    ],
)  # fmt: skip
def test_by_works_on_what_differs_between_runs(
    tmp_path: Path, field: str, other: dict[str, object], values: tuple[str, str]
) -> None:
    plain = {"options": {"fit": {"na": "mask"}}}
    write_run(tmp_path / "a", configs={LINEAR: CONFIGS[LINEAR]}, **plain)
    write_run(tmp_path / "b", configs={LINEAR: {**CONFIGS[LINEAR], "P": POOR}}, **{**plain, **other})
    comparison = compare([tmp_path / "a", tmp_path / "b"], CompareOptions(bootstrap=50, by=field))
    (found,) = comparison.by_differences
    assert (found.first_value, found.second_value) == values
    said = {"run": ("", ""), "size": (" · size 96", " · size 224")}.get(field, tuple(f" · {value}" for value in values))
    assert {found.first, found.second} in [{f"a/{NAMED}{one}", f"b/{NAMED}{two}"} for one, two in (said, said[::-1])]
    assert found.verdict == ("first better" if found.first.startswith("a") else "second better")


def test_values_by_hand_and_those_no_head_can_learn(tmp_path: Path) -> None:
    # i1 and j1 are known to be "a: b", which no other photo is.
    odd = [(*row[:3], "a: b", row[4]) if row[0] in ("i1.jpg", "j1.jpg") else row for row in ROWS]
    run = write_run(tmp_path / "a", rows=odd, unseen=[["neck", "a: b"]])
    comparison = compare([run], QUICK)
    rows = {(row.attribute, row.value): row for row in comparison.values}
    # Round: f1 and f2 right, h1, i1 and j1 wrongly; v: g1 of g1 and h1.
    first, second = rows["neck", "round"], rows["neck", "v"]
    assert (first.train, first.support, first.decided, first.precision, first.recall) == (2, 2, 5, 0.4, 1.0)
    assert (second.support, second.decided, second.precision, second.recall) == (2, 1, 1.0, 0.5)
    assert second.f1 == pytest.approx(2 / 3)
    assert first.average_precision == pytest.approx((1 + 1) / 2)
    assert [(attribute, value) for (attribute, value), row in rows.items() if not row.learnable] == [
        ("style", "sporty"),
        ("neck", "a: b"),
    ]
    lost = rows["neck", "a: b"]
    assert (lost.support, lost.decided, lost.precision, lost.recall, lost.f1) == (2, 0, None, 0.0, 0.0)
    assert lost.average_precision == pytest.approx(2 / 6)
    told = table(comparison)
    assert "not learnable (never seen in training), counted as missed where true: style=sporty, neck=a: b" in told
    assert "mean over all 6 values with a test photo, 6 of them with fewer than 10, too few to measure one by" in told
    assert "Its validation score (valid.) is therefore optimistic: it is the highest of many" in told
    save_csv(comparison, tmp_path / "c.csv")
    with (tmp_path / "c.csv").open(newline="") as file:
        verdicts = {row["value"]: row["verdict"] for row in csv.DictReader(file) if row["kind"] == "value"}
    assert verdicts["round"] == "fewer than 10 test photos"
    assert verdicts["a: b"] == "not learnable, fewer than 10 test photos"


def test_a_value_that_only_test_photos_have_counts_against_everyone(tmp_path: Path) -> None:
    """Two test photos of a value that no photo had which fitting saw: missed by the best and by the majority alike."""
    odd = [(*row[:3], "polo", row[4]) if row[0] in ("i1.jpg", "j1.jpg") else row for row in ROWS]
    counted = compare([write_run(tmp_path / "a", rows=odd, unseen=[["neck", "polo"]])], QUICK)
    best, majority = counted.best_candidate.metrics, counted.majority.metrics
    neck = best.attributes[0]
    assert (neck.values, neck.scored_values, neck.photos) == (3, 3, 6)
    # round: f1, f2 of five decided; v: g1 of g1, h1; polo: never.
    assert neck.macro_f1 == pytest.approx((4 / 7 + 2 / 3 + 0) / 3)
    assert neck.micro_f1 == pytest.approx(2 * 3 / (6 + 6))
    assert neck.iou == neck.accuracy == 0.5
    assert neck.true_per_photo == 1.0
    assert majority.attributes[0].macro_f1 == pytest.approx((2 * 2 / 8 + 0 + 0) / 3)
    assert counted.majority.intervals["macro_f1"][0] <= majority.overall.macro_f1


def test_a_run_that_does_not_say_which_values_only_test_photos_have_is_named(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old", findings={"never-in-train": 3})
    new = write_run(tmp_path / "new", findings={"never-in-train": 3}, unseen=[])
    assert any("old was fit by an earlier version" in note for note in compare([old], QUICK).notes)
    assert not any("earlier version" in note for note in compare([new], QUICK).notes)


def test_an_interval_of_macro_f1_holds_its_figure(tmp_path: Path) -> None:
    """Values of one photo each drop out of two resamples in three; one attribute, always called by its first value."""
    schema = LabelSchema(("k",), (tuple(f"v{j:02}" for j in range(30)),), (True,))
    Y = np.eye(30, dtype=np.uint8)[np.r_[np.zeros(200, int), np.arange(1, 30)]]
    D = np.zeros(Y.shape, bool)
    D[:, 0] = True
    known = np.ones_like(D)
    sums = photo_sums(None, D, Y, known, schema)
    figures = Bootstrap(np.arange(len(Y)), 400).figures(sums)
    estimate = evaluate(D.astype(float), D, Y, known, schema).overall.macro_f1
    plain, moved = interval(figures.overall["macro_f1"]), interval_of("macro_f1", figures.overall["macro_f1"], estimate)
    assert plain is not None and moved is not None and estimate is not None
    assert estimate < plain[0], "the resampled figures are all too high: this is what is mended"
    assert moved[0] <= estimate <= moved[1]
    assert interval_of("accuracy", figures.overall["accuracy"], 0.5) == interval(figures.overall["accuracy"])


def test_csv_has_every_figure_with_its_interval(tmp_path: Path) -> None:
    comparison = compare([write_run(tmp_path / "a")], CompareOptions(bootstrap=50, by="optimizer"))
    save_csv(comparison, tmp_path / "out" / "c.csv")
    with (tmp_path / "out" / "c.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    def one(**fields: str) -> dict[str, str]:
        (found,) = [row for row in rows if all(row[name] == value for name, value in fields.items())]
        return found

    accuracy = one(kind="overall", candidate=NAMED, figure="accuracy")
    span = comparison.best_candidate.intervals["accuracy"]
    assert (float(accuracy["estimate"]), float(accuracy["low"]), float(accuracy["high"])) == pytest.approx((0.9, *span))
    assert one(kind="pair", candidate=NAMED, against=OTHER, figure="accuracy")["verdict"] == "first better"
    assert one(kind="value", key="neck", value="v", figure="recall")["estimate"] == "0.5"
    assert one(kind="key", candidate="majority", key="neck", figure="accuracy")["estimate"] == "0.6"


def test_by_lists_the_best_per_value_of_a_field(tmp_path: Path) -> None:
    comparison = compare([write_run(tmp_path / "a")], CompareOptions(bootstrap=10, by="lr"))
    assert [(row.value, row.among, row.config_id, row.candidate) for row in comparison.by_rows] == [
        ("0.01", "head mlp", "mlp-sgd-00000003", None),
        ("0.1", "head mlp", MLP, OTHER),
        ("0.001", "head linear", LINEAR, NAMED),
    ]
    # Of the two sgd configurations the one without predictions is better on validation.
    by_optimizer = compare([tmp_path / "a"], CompareOptions(bootstrap=10, by="optimizer")).by_rows
    assert [(row.value, row.configurations, row.config_id, row.settings) for row in by_optimizer] == [
        ("adam", 1, LINEAR, {"lr": "0.001"}),
        ("sgd", 2, "mlp-sgd-00000003", {"lr": "0.01"}),
    ]


def test_by_compares_like_with_like(tmp_path: Path) -> None:
    """Adam was best with an MLP, SGD was tried with the linear head alone: the linear heads are compared."""
    configs = {
        LINEAR: {**CONFIGS[LINEAR], "score": 0.5},
        "linear-adam-00000007": {**CONFIGS[LINEAR], "lr": "0.1", "P": POOR, "score": 0.4},
        "linear-sgd-00000008": {**CONFIGS[LINEAR], "optimizer": "sgd", "P": POOR, "score": 0.7},
        "mlp-adam-00000009": {**CONFIGS[MLP], "optimizer": "adam", "score": 0.9},
    }
    run = write_run(tmp_path / "a", configs=configs, unkept=False)
    comparison = compare([run], CompareOptions(bootstrap=50, by="optimizer"))
    (found,) = comparison.by_differences
    assert (found.first_value, found.second_value, found.among) == ("adam", "sgd", "head linear")
    assert (found.first, found.second) == ("linear · adam · lr 0.001", "linear · sgd")
    assert comparison.by_note == ""
    text = table(comparison)
    row = next(line.split() for line in text.splitlines() if line.split()[:3] == ["adam", "head", "linear"])
    assert " ".join(row[3:]).startswith("2 linear · adam · lr 0.001 lr 0.001 0.500 0.900")


def test_by_says_when_nothing_is_comparable(tmp_path: Path) -> None:
    """An MLP under Adam and a linear head under SGD: no word on the optimizers."""
    configs = {
        "linear-sgd-00000008": {**CONFIGS[LINEAR], "optimizer": "sgd"},
        "mlp-adam-00000009": {**CONFIGS[MLP], "optimizer": "adam", "score": 0.95},
    }
    run = write_run(tmp_path / "a", configs=configs, unkept=False)
    comparison = compare([run], CompareOptions(bootstrap=50, by="optimizer"))
    assert comparison.by_differences == ()
    said = (
        "nothing comparable: no two values of optimizer were tried with the same head, features and photos"
        " (adam with head mlp; sgd with head linear). Fit them in one run"
    )
    assert comparison.by_note == said
    assert said in table(comparison)
    only = compare([run], CompareOptions(bootstrap=50, by="lr"))
    assert only.by_note.startswith("nothing comparable: no two values of lr")
    single = {"linear-sgd-00000008": configs["linear-sgd-00000008"]}
    one = compare([write_run(tmp_path / "b", configs=single, unkept=False)], CompareOptions(bootstrap=50, by="head"))
    assert one.by_note == "nothing comparable: linear is the only value of head"


def test_by_does_not_compare_over_other_training_photos(tmp_path: Path) -> None:
    """One optimizer on this month's photos, the other on next month's: the photos could be the reason."""
    write_run(tmp_path / "a", configs={LINEAR: CONFIGS[LINEAR]}, unkept=False)
    sgd = {"linear-sgd-00000008": {**CONFIGS[LINEAR], "optimizer": "sgd"}}
    write_run(tmp_path / "b", rows=ROWS[1:], configs=sgd, unkept=False)
    runs = [tmp_path / "a", tmp_path / "b"]
    comparison = compare(runs, CompareOptions(bootstrap=50, by="optimizer"))
    assert comparison.by_differences == ()
    assert "adam with photos of a; sgd with photos of b" in comparison.by_note
    (whole,) = compare(runs, CompareOptions(bootstrap=50, by="run")).by_differences
    assert (whole.first_value, whole.second_value) == ("a", "b")


def test_by_an_unknown_field_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no such field.*did you mean 'optimizer'"):
        compare([write_run(tmp_path / "a")], CompareOptions(bootstrap=10, by="optimiser"))


def test_stored_policies_of_the_best_are_judged(tmp_path: Path) -> None:
    rows = compare([write_run(tmp_path / "a")], QUICK).policies
    assert [(row.policy, row.chosen) for row in rows] == [("best", True), ("fixed:0.8", False)]
    # At 0.8 only f1 and f2 keep their neck.
    assert rows[1].metrics.attributes[0].accuracy == pytest.approx(2 / 5)


def test_confusion_counts_true_and_decided(tmp_path: Path) -> None:
    (neck,) = compare([write_run(tmp_path / "a")], QUICK).confusions
    assert (neck.attribute, neck.values) == ("neck", ("round", "v"))
    assert neck.counts == ((3, 0, 0), (1, 1, 0))


@pytest.mark.parametrize("marked", [{"random_weights": True}, {"weights_source": "random:7"}])
def test_random_weights_are_marked(tmp_path: Path, marked: dict[str, object]) -> None:
    comparison = compare([write_run(tmp_path / "a", **marked)], QUICK)
    assert f"{NAMED} (RANDOM WEIGHTS)" in table(comparison)
    assert "a was made with RANDOM backbone weights: its figures say nothing about quality." in comparison.notes


def test_table_is_aligned_and_complete(tmp_path: Path) -> None:
    lines = table(compare([write_run(tmp_path / "a")], QUICK)).splitlines()
    start = next(i for i, line in enumerate(lines) if "candidate" in line)
    head, best, other, majority = lines[start], *lines[start + 2 : start + 5]
    assert best.split()[:2] == ["*", NAMED]
    assert other.split()[0] == "mlp"
    assert majority.split()[0] == "majority"
    at = head.index("elem acc")
    assert [line[at : at + 8].strip() for line in (best, other, majority)] == ["0.920", "0.080", "0.600"]
    assert not any("\x1b" in line for line in lines)
    assert "style (multi)" in "\n".join(lines)


def test_the_table_shows_no_control_characters(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, configs={LINEAR: CONFIGS[LINEAR]}) for name in ("a\x1b[2Jx", "b")]
    text = table(compare(runs, QUICK))
    assert "\x1b" not in text
    assert "a?[2Jx/linear " in text


def test_json_is_whole_and_has_no_nan(tmp_path: Path) -> None:
    rows = [(*row[:4], None if row[2] == "test" else row[4]) for row in ROWS]
    comparison = compare([write_run(tmp_path / "a", rows=rows)], QUICK)
    save_json(comparison, tmp_path / "out" / "c.json")
    data = json.loads((tmp_path / "out" / "c.json").read_text())
    assert data["best"] == NAMED
    assert data["candidates"][0]["metrics"]["keys"][1]["accuracy"] is None
    assert data["candidates"][0]["metrics"]["overall"]["keys_scored"] == 1
    assert data["majority"]["metrics"]["keys"][0]["accuracy"] == 0.6
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["c.json"]


def test_same_seed_same_intervals(tmp_path: Path) -> None:
    def intervals(comparison: Comparison) -> object:
        return [c.intervals for c in comparison.candidates]

    write_run(tmp_path / "a")
    first, again = (compare([tmp_path / "a"], CompareOptions(bootstrap=50, seed=3)) for _ in range(2))
    other = compare([tmp_path / "a"], CompareOptions(bootstrap=50, seed=4))
    assert intervals(first) == intervals(again)
    assert intervals(first) != intervals(other)


def test_bootstrap_resamples_groups_not_photos() -> None:
    """Ten copies of each photo in one group leave the interval as it was; as separate groups they would narrow it."""
    schema = LabelSchema(("k",), (("a", "b"),), (True,))
    rng = np.random.default_rng(0)
    Y = np.eye(2, dtype=np.uint8)[rng.integers(0, 2, 60)]
    D = np.eye(2, dtype=bool)[rng.integers(0, 2, 60)]

    def width(copies: int, groups: np.ndarray) -> float:
        y, d = np.repeat(Y, copies, axis=0), np.repeat(D, copies, axis=0)
        sums = photo_sums(d.astype(float), d, y, np.ones_like(d), schema)
        span = interval(Bootstrap(groups, 400).figures(sums).overall["accuracy"])
        assert span is not None
        return span[1] - span[0]

    one = width(1, np.arange(60))
    assert width(10, np.repeat(np.arange(60), 10)) == pytest.approx(one)
    assert width(10, np.arange(600)) < one / 2


def test_bootstrap_agrees_with_plain_resampling() -> None:
    """One resample at a time, photos repeated as drawn, gives the same macro F1, IoU and all-keys-right."""
    schema = LabelSchema(("n", "s"), (("a", "b", "c"), ("x", "y")), (True, False))
    rng = np.random.default_rng(1)
    Y, D = (rng.random((30, 5)) < 0.4 for _ in range(2))
    mask = np.repeat(rng.random((30, 2)) < 0.8, [3, 2], axis=1)
    P = rng.random((30, 5))
    unseen = Unseen((("n", "z"),), mask[:, :1] & (rng.random((30, 1)) < 0.2))
    groups = rng.integers(0, 12, 30)
    bootstrap = Bootstrap(groups, 5, seed=2)
    figures = bootstrap.figures(photo_sums(P, D, Y, mask, schema, unseen))
    (weights,) = bootstrap._weights()
    names = np.unique(groups)
    for b in range(5):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(groups == g), int(w)) for g, w in zip(names, weights[b], strict=True)]
        )
        plain = evaluate(P[rows], D[rows], Y[rows], mask[rows], schema, unseen.take(rows)).overall
        for name, values in figures.overall.items():
            assert values[b] == pytest.approx(getattr(plain, name)), name


def test_compare_imports_neither_torch_nor_h5py(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    code = (
        "import sys\nfor name in ('torch', 'timm', 'h5py', 'sklearn', 'scipy'): sys.modules[name] = None\n"
        "from pathlib import Path\nfrom pipeline.comparison.compare import compare, table\n"
        "from pipeline.options import CompareOptions\n"
        "assert 'pandas' not in sys.modules and 'pyarrow' not in sys.modules\n"
        "c = compare([Path('a')], CompareOptions(bootstrap=5))\ntable(c)\n"
        "from pipeline.comparison.page.data import page_data\nfrom pipeline.comparison.page import write_report\n"
        "write_report(c, page_data(c), Path('r.html'))\n"
        "assert 'bokeh' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
