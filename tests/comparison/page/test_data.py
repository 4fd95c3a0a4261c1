"""What the page shows beyond the comparison: every configuration, every threshold, photos, and how to do it again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from pipeline.catalogue.labels import LabelSchema
from pipeline.cli.app import app
from pipeline.cli.parsing import parse
from pipeline.comparison.compare import compare
from pipeline.comparison.details import CONFUSION_VALUES, confusions
from pipeline.comparison.page import photos as photos
from pipeline.comparison.page import render
from pipeline.comparison.page.data import PageData, page_data
from pipeline.comparison.page.photos import badness
from pipeline.comparison.page.recipes import recipe
from pipeline.comparison.pairs import Predicted
from pipeline.errors import RunError
from pipeline.evaluation.metrics import evaluate
from pipeline.evaluation.threshold_sweep import sweep_thresholds
from pipeline.evaluation.thresholds import decide
from pipeline.evaluation.unseen import Unseen
from pipeline.options import CacheKeyOptions, CompareOptions, DataOptions, FitOptions, SplitOptions
from tests.comparison.runfolder import CONFIGS, NAMES, ROWS, write_run

LINEAR, MLP = CONFIGS
SCHEMA = LabelSchema(("neck", "style"), (("round", "v"), ("plain", "casual", "sporty")), (True, False))


def data_of(*runs: Path) -> PageData:
    return page_data(compare(runs, CompareOptions(bootstrap=5)))


def test_every_configuration_is_there_with_its_curves(tmp_path: Path) -> None:
    tried = {each.name: each for each in data_of(write_run(tmp_path / "a")).tried}
    assert list(tried) == [*NAMES, "mlp · lr 0.01"]
    assert tried["linear"].epochs == (0.0, 1.0, 2.0)
    assert tried["linear"].curves == {"train loss": (0.6, 0.3, 0.2), "validation loss": (0.7, 0.35, 0.233)}
    assert (tried["mlp · lr 0.01"].score, tried["mlp · lr 0.01"].curves) == (0.6, {})


def test_names_say_their_run_when_there_are_several(tmp_path: Path) -> None:
    data = data_of(write_run(tmp_path / "a"), write_run(tmp_path / "x" / "a"))
    assert data.tried[0].name == f"{tmp_path / 'a'}/linear"
    assert len(data.tried) == 6


def test_a_run_that_changed_since_is_an_error(tmp_path: Path) -> None:
    comparison = compare([write_run(tmp_path / "a")], CompareOptions(bootstrap=5))
    (tmp_path / "a" / "predictions" / f"{LINEAR}.parquet").unlink()
    with pytest.raises(RunError, match=f"no longer holds the predictions of {LINEAR}; compare again"):
        page_data(comparison)


def test_counts_at_every_threshold_are_those_of_deciding_there() -> None:
    random = np.random.default_rng(0)
    P = random.random((60, 5)).round(2).astype(np.float32)
    Y = (random.random((60, 5)) < 0.4).astype(np.uint8)
    mask = np.repeat(random.random((60, 2)) < 0.8, (2, 3), axis=1)
    truth = (Y, mask, Unseen((), np.zeros((len(Y), 0), bool)))
    found = sweep_thresholds(P, *truth, SCHEMA, np.array([0.0, 0.0, 0.3, 0.5, 0.5]))
    assert [(sweep.attribute, sweep.overall.threshold) for sweep in found] == [("neck", 0.0), ("style", None)]
    for t in (0, 7, 29, 50, 58, 100):
        D = decide(P, SCHEMA, np.full(5, t / 100))
        for sweep, columns in zip(found, SCHEMA.slices, strict=True):
            decided = D[:, columns] & mask[:, columns]
            assert sweep.overall.decided[t] == decided.sum()
            assert sweep.overall.right[t] == (decided & (Y[:, columns] == 1)).sum()
            assert sweep.overall.positives == (mask & (Y == 1))[:, columns].sum()
        micro = evaluate(P, D, Y, mask, SCHEMA).attributes[1].micro_f1
        style = found[1].overall
        assert 2 * style.right[t] / (style.decided[t] + style.positives) == pytest.approx(micro)
    assert [row.name for row in found[1].values] == sorted(
        ("plain", "casual", "sporty"), key=lambda name: -(mask & (Y == 1))[:, 2 + SCHEMA.values[1].index(name)].sum()
    )


def test_values_that_training_never_saw_are_true_at_every_threshold() -> None:
    """Left out, they would raise the recall that the slider shows."""
    P = np.full((2, SCHEMA.size), 0.4, np.float32)
    Y, mask = np.zeros((2, SCHEMA.size), np.uint8), np.ones((2, SCHEMA.size), bool)
    name = SCHEMA.attributes[0]
    nothing = Unseen((), np.zeros((2, 0), bool))
    unseen = Unseen(((name, "another"),), np.array([[True], [False]]))
    limits = np.zeros(SCHEMA.size)
    (before, *_), (after, *others) = (sweep_thresholds(P, Y, mask, each, SCHEMA, limits) for each in (nothing, unseen))
    assert (before.overall.positives, after.overall.positives) == (0, 1)
    assert [each.overall.positives for each in others] == [0] * len(others)


def test_the_surest_mistakes_come_first_and_unknown_truth_is_no_mistake() -> None:
    P = np.array([[0.9, 0.1, 0.9, 0.1, 0.1], [0.6, 0.4, 0.9, 0.1, 0.1], [0.1, 0.9, 0.1, 0.1, 0.8]], np.float32)
    Y = np.array([[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 0, 0]], np.uint8)
    known = np.array([[1] * 5, [1] * 5, [0, 0, 1, 1, 1]], bool)
    D = decide(P, SCHEMA, np.array([0, 0, 0.5, 0.5, 0.5]))
    assert badness(Predicted(P, D, Y, known, SCHEMA, Unseen.none(3))) == pytest.approx([0.9, 0.6, 0.9])


def test_gallery_holds_the_worst_and_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "a")
    whole = data_of(run).gallery
    # i1 says round, is round; its style is not known, and at 0.5 all three are decided.
    (i1,) = [photo for photo in whole.photos if photo.name == "i1.jpg"]
    assert i1.attributes == (
        ((0, 700, True, True),),
        (None, (0, 500, False, True), (1, 500, False, True), (2, 500, False, True)),
    )
    assert whole.photos[0].name == "h1.jpg"
    assert whole.photos[0].attributes[0] == ((0, 600, False, True), (1, 400, True, False))
    monkeypatch.setattr(photos, "PHOTOS", 4)
    monkeypatch.setattr(photos, "WORST", 2)
    some = data_of(run).gallery
    assert (len(some.photos), some.total) == (4, 6)
    assert some.photos[:2] == whole.photos[:2]
    assert [photo for photo in whole.photos if photo in some.photos] == list(some.photos)


def test_dropped_rows_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    lines = [f"missing-photo,x{i}.jpg,not on disk" for i in range(9)]
    (run / "dropped.csv").write_text("\n".join(["kind,photo,detail", *lines]))
    (found,) = data_of(run).dropped
    assert (found.kind, found.count) == ("missing-photo", 3)
    assert found.examples[0] == ("x0.jpg", "not on disk")
    assert len(found.examples) == 8


def test_the_commands_of_a_recipe_are_read_back_as_the_same_options() -> None:
    fit = FitOptions(heads=("mlp",), lr=(0.01, 0.1), nesterov=True, use=("pooled",), cache=Path("my cache"), refit=True)
    data = DataOptions(data=Path("a'b.csv"), image_name="{id}.jpg", attributes=("neck", "sleeve"))
    options = {
        "data": asdict(data),
        "key": CacheKeyOptions(backbone=("resnet18",)).to_json(),
        "split": asdict(SplitOptions(split_seed=3)),
        "fit": asdict(fit),
    }
    attribute = {"architecture": "resnet18", "size": 224, "fit": "squash", "precision": "fp32"}
    info = {
        "options": options,
        "cache_key": attribute,
        "weights_source": "hub",
        "blocks": [{"name": "pooled", "digest": "aa"}],
        "views": ["identity"],
    }
    extract, fit_heads = recipe("a", info).commands
    bound = parse(app, _words(fit_heads)).keywords
    assert (bound["data"], bound["options"], bound["split"].split_seed) == (data, fit, 3)
    bound = parse(app, _words(extract)).keywords
    assert (bound["data"], bound["backbone"].backbone, bound["options"].cache) == (data, "resnet18", Path("my cache"))


def test_a_run_without_recorded_options_has_no_commands() -> None:
    assert recipe("a", {"data_digest": "12"}).commands == ()
    assert recipe("a", {"data_digest": "12"}).digests == {"data": "12"}


def test_a_large_confusion_matrix_keeps_every_photo_and_its_worst_mistakes() -> None:
    names = tuple(f"v{i}" for i in range(60))
    schema = LabelSchema(("type",), (names,), (True,))
    true = np.arange(600) % 60
    true[:300] = np.arange(300) % 3
    said = true.copy()
    said[:12] = 59
    Y, D = np.eye(60, dtype=np.uint8)[true], np.eye(60, dtype=bool)[said]
    D[599] = False
    (found,) = confusions(Predicted(D.astype(np.float32), D, Y, np.ones(Y.shape, bool), schema, Unseen.none(600)))
    assert len(found.values) == CONFUSION_VALUES
    assert found.values[:3] == ("v0", "v1", "v2")
    assert found.values[-1] == "all others"
    assert sum(map(sum, found.counts)) == 600
    assert sum(row[-1] for row in found.counts) == 1
    assert sorted(found.mistakes)[:3] == [("v0", "v59", 4), ("v1", "v59", 4), ("v2", "v59", 4)]
    assert ("v59", "nothing", 1) in found.mistakes


def test_values_that_training_never_saw_are_shown_as_such(tmp_path: Path) -> None:
    """Two test photos of a value that no other photo has, taken for another one: they may not be left out."""
    odd = [(*row[:3], "polo", row[4]) if row[0] in ("i1.jpg", "j1.jpg") else row for row in ROWS]
    comparison = compare([write_run(tmp_path / "a", rows=odd, unseen=[["neck", "polo"]])], CompareOptions(bootstrap=5))
    neck = comparison.confusions[0]
    assert (neck.values, neck.counts) == (("round", "v"), ((2, 0, 0), (1, 1, 0)))
    assert (neck.unseen, neck.unseen_counts) == (("polo",), ((2, 0, 0),))
    assert neck.mistakes[0] == ("polo", "round", 2)
    data = page_data(comparison)
    assert data.gallery.values[0] == ("round", "v", "polo (never in training)")
    cells = {photo.name: photo.attributes[0] for photo in data.gallery.photos}
    assert cells["i1.jpg"] == ((0, 700, False, True), (2, 0, True, False))
    assert "i1.jpg" in [photo.name for photo in data.gallery.photos[:3]]
    page = render(comparison, data)
    assert '<th scope="row">polo <span class="badge warn">never in training</span></th>' in page


def test_a_true_value_that_training_never_saw_is_the_surest_mistake() -> None:
    """Where nothing is decided, too: it would look right."""
    nothing = np.zeros((2, SCHEMA.size), bool)
    P, known = nothing.astype(np.float32), np.ones_like(nothing)
    unseen = Unseen((("neck", "polo"),), np.array([[False], [True]]))
    assert badness(Predicted(P, nothing, nothing.astype(np.uint8), known, SCHEMA, unseen)).tolist() == [0.0, 1.0]


def test_unseen_values_of_a_large_confusion_matrix_are_taken_together_too() -> None:
    schema = LabelSchema(("type",), (tuple(f"v{i}" for i in range(60)),), (True,))
    Y = np.zeros((80, 60), np.uint8)
    D = np.eye(60, dtype=bool)[np.arange(80) % 60]
    unseen = Unseen(tuple(("type", f"new{i}") for i in range(40)), np.eye(40, dtype=bool)[np.arange(80) % 40])
    (found,) = confusions(Predicted(D.astype(np.float32), D, Y, np.ones(Y.shape, bool), schema, unseen))
    assert len(found.unseen) == CONFUSION_VALUES
    assert found.unseen[-1] == "all others"
    assert {len(row) for row in (*found.counts, *found.unseen_counts)} == {CONFUSION_VALUES + 1}
    assert (sum(map(sum, found.counts)), sum(map(sum, found.unseen_counts))) == (0, 80)


def _words(command: str) -> list[str]:
    import shlex

    return shlex.split(command)[2:]
