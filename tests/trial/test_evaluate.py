"""Fitted models on labelled photos: the figures of `compare`, on photos that had no part in a model."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from benchmarks.check_metrics import check
from pipeline.catalogue import name_digests
from pipeline.cli.main import main
from pipeline.comparison.compare import compare
from pipeline.comparison.page import render
from pipeline.comparison.page.data import page_data
from pipeline.comparison.records import Comparison, save_json
from pipeline.errors import ModelFileError, OptionError, RunError
from pipeline.experiment.fit_heads import fit_heads
from pipeline.features import embed as embed_module
from pipeline.features.extract import extract
from pipeline.model.file import read_model, save_model
from pipeline.model.training import prefixes
from pipeline.options import (
    BackboneOptions,
    CacheKeyOptions,
    CompareOptions,
    DataOptions,
    EvaluateOptions,
    ExtractOptions,
    FitOptions,
    SplitOptions,
)
from pipeline.trial.evaluate import EvaluateReport, evaluate
from tests.small_cache import SmallCatalogue, read_rows, write_catalogue, write_rows

SHOW = CompareOptions(bootstrap=50)


@dataclass(frozen=True)
class Fitted:
    """A catalogue with made-up vectors in the cache, and a run on it."""

    small: SmallCatalogue
    run: Path

    @property
    def data(self) -> DataOptions:
        return DataOptions(self.small.data)

    @property
    def model(self) -> Path:
        return self.run / "models" / "best.joblib"

    def options(self, out: Path, *models: Path, **others: Any) -> EvaluateOptions:
        return EvaluateOptions(model=models or (self.model,), cache=self.small.cache, out=out, **others)


def fit(small: SmallCatalogue, out: Path, **options: Any) -> Path:
    asked = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam",), epochs=15, out=out, **options)
    return fit_heads(DataOptions(small.data), CacheKeyOptions(), SplitOptions(near_duplicates=0), asked).run


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    folder = tmp_path_factory.mktemp("fitted")
    small = write_catalogue(folder, pictures=True)
    return Fitted(small, fit(small, folder / "run"))


@pytest.fixture
def no_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.features.backbone import network

    def refuse(*args: object) -> None:
        raise AssertionError("a backbone was built")

    monkeypatch.setattr(network, "load_backbone", refuse)


def judged(report: EvaluateReport) -> Comparison:
    return compare(report.folders, SHOW)


def figures(comparison: Comparison) -> Mapping[str, Any]:
    found = comparison.to_json()
    return {
        "best": {k: v for k, v in found["candidates"][0].items() if k in ("metrics", "intervals", "key_intervals")},
        "majority": found["majority"]["metrics"],
        "values": found["values"],
        "confusions": found["confusions"],
        "reliability": found["reliability"],
        "parts": found["parts"]["test"],
    }


def test_on_its_own_catalogue_a_model_has_the_figures_of_its_runs_test_part(
    fitted: Fitted, tmp_path: Path, no_backbone: None
) -> None:
    """What it was fit on is left out, the vectors come from the cache, the majority from training."""
    report = evaluate(fitted.data, fitted.options(tmp_path / "e"))
    of_run = compare([fitted.run], SHOW)
    assert figures(judged(report)) == figures(of_run)
    parts = of_run.parts
    assert (report.photos, report.fitted, report.cached) == (
        parts["test"],
        parts["train"] + parts["validation"],
        parts["test"],
    )
    assert f"{report.fitted} of 120 photos had a part in a model and are left out" in report.notes
    assert sum(finding.kind == "fitted" for finding in report.findings) == report.fitted


def test_fitted_photos_come_in_only_when_asked_for(fitted: Fitted, tmp_path: Path) -> None:
    report = evaluate(fitted.data, fitted.options(tmp_path / "e", include_fitted=True))
    assert report.photos == 120
    assert any("(--include-fitted): the figures flatter it" in note for note in report.notes)
    assert any("flatter" in note for note in judged(report).notes)


def test_a_catalogue_of_fitted_photos_alone_is_refused(fitted: Fitted, tmp_path: Path) -> None:
    test = {row["photo"] for row in json_split(fitted.run) if row["part"] == "test"}
    rows = [row for row in read_rows(fitted.small.data) if row[0] not in test]
    data = fitted.small.data.with_name("seen.csv")
    write_rows(data, rows)
    with pytest.raises(OptionError, match=r"no photo is left to judge by: of \d+, \d+ had a part in a model"):
        evaluate(DataOptions(data, images=data.parent / "images"), fitted.options(tmp_path / "e"))
    assert not (tmp_path / "e").exists()


def json_split(run: Path) -> list[dict[str, str]]:
    import csv

    with (run / "split.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_copy_of_a_fitted_photo_under_another_name_is_known(fitted: Fitted, tmp_path: Path) -> None:
    images, name = fitted.small.data.parent / "images", json_split(fitted.run)
    trained = next(row["photo"] for row in name if row["part"] == "train")
    home = tmp_path / "data" / "images"
    home.mkdir(parents=True)
    shutil.copy(images / trained, home / "another-name.jpg")
    new = next(row["photo"] for row in name if row["part"] == "test")
    shutil.copy(images / new, home / "new.jpg")
    write_rows(tmp_path / "data" / "a.csv", [("another-name.jpg", "0", "short"), ("new.jpg", "1", "long")])
    report = evaluate(DataOptions(tmp_path / "data"), fitted.options(tmp_path / "e"))
    assert (report.photos, report.fitted) == (1, 1)


def test_a_model_of_an_earlier_version_is_read_and_its_figures_say_what_is_not_known(
    fitted: Fitted, tmp_path: Path
) -> None:
    model = joblib.load(fitted.model)
    del model["training"]
    save_model(model, tmp_path / "old.joblib")
    report = evaluate(fitted.data, fitted.options(tmp_path / "e", tmp_path / "old.joblib"))
    found = judged(report)
    assert report.photos == 120
    assert any("does not say which photos it was fit on" in note for note in found.notes)
    assert any("majority baseline is that of the evaluated photos themselves" in note for note in found.notes)
    assert all(row.learnable and row.train == 0 for row in found.values)
    shares = [value for value in found.values if value.attribute == "neck"]
    most = max(row.support for row in shares) / sum(row.support for row in shares)
    assert found.majority.metrics.attributes[0].accuracy == pytest.approx(most)
    assert differing(report.folders[0], as_json(found, tmp_path)) == []


def differing(folder: Path, said: dict[str, Any]) -> list[str]:
    """What the check of its own, which shares no code with `compare`, finds wrong in what was said."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        count, lines = check(folder, said)
    assert count > 10
    return lines


def as_json(found: Comparison, tmp_path: Path) -> dict[str, Any]:
    save_json(found, tmp_path / "figures.json")
    return json.loads((tmp_path / "figures.json").read_text())  # type: ignore[no-any-return]


def test_every_figure_is_scikit_learns_and_unknown_values_are_misses(fitted: Fitted, tmp_path: Path) -> None:
    test = {row["photo"] for row in json_split(fitted.run) if row["part"] == "test"}
    rows = read_rows(fitted.small.data)
    changed = [(name, "boat" if name in test and name.endswith("-0.jpg") else neck, s) for name, neck, s in rows]
    data = fitted.small.data.with_name("changed.csv")
    write_rows(data, changed)
    asked = DataOptions(data, images=data.parent / "images")
    found = judged(report := evaluate(asked, fitted.options(tmp_path / "e")))
    assert differing(report.folders[0], as_json(found, tmp_path)) == []
    boat = next(row for row in found.values if row.value == "boat")
    assert (boat.learnable, boat.recall, boat.decided) == (False, 0.0, 0)
    before = judged(evaluate(fitted.data, fitted.options(tmp_path / "before")))
    accuracy = [each.best_candidate.metrics.attributes[0].accuracy for each in (found, before)]
    assert accuracy[0] is not None and accuracy[1] is not None and accuracy[0] < accuracy[1]


def test_an_altered_coverage_is_seen_by_the_check(fitted: Fitted, tmp_path: Path) -> None:
    found = judged(report := evaluate(fitted.data, fitted.options(tmp_path / "e", at_precision=(0.8, 1.0))))
    said = as_json(found, tmp_path)
    assert differing(report.folders[0], said) == []
    said["coverage"][0]["coverage"] = 0.123
    (line,) = differing(report.folders[0], said)
    assert "neck at 0.8 coverage: compare says 0.123" in line


def test_several_models_are_set_against_each_other_on_the_same_photos(
    fitted: Fitted, tmp_path: Path, no_backbone: None
) -> None:
    other = fit(fitted.small, tmp_path / "other", lr=(0.0001,)) / "models" / "best.joblib"
    report = evaluate(fitted.data, fitted.options(tmp_path / "e", fitted.model, other))
    found = judged(report)
    assert [path.name for path in report.folders] == ["run-best", "other-best"]
    assert [candidate.name for candidate in found.candidates] == ["run-best", "other-best"]
    assert found.best == "run-best"
    (pair,) = found.pairs
    first, second = (candidate.metrics.overall.accuracy for candidate in found.candidates)
    assert first is not None and second is not None
    assert pair.differences["accuracy"].value == pytest.approx(first - second)
    assert {row.candidate for row in found.coverage} == {"run-best", "other-best"}


def test_models_that_know_different_values_are_compared_and_an_unknown_value_is_a_miss(
    fitted: Fitted, tmp_path: Path
) -> None:
    """The other model was fitted on labels without the neck 2: where that is true, it is wrong."""
    rows = read_rows(fitted.small.data)
    data = fitted.small.data.with_name("fewer.csv")
    write_rows(data, [(name, "#N/A" if neck == "2" else neck, sleeve) for name, neck, sleeve in rows])
    asked = FitOptions(
        cache=fitted.small.cache, heads=("linear",), optimizers=("adam",), epochs=15, out=tmp_path / "fewer"
    )
    split = SplitOptions(split_from=fitted.run, near_duplicates=0)
    images = DataOptions(data, images=data.parent / "images")
    other = fit_heads(images, CacheKeyOptions(), split, asked).run / "models" / "best.joblib"
    assert ("neck", "2") not in read_model(other)["labels"]
    found = judged(evaluate(fitted.data, fitted.options(tmp_path / "e", fitted.model, other)))
    every, fewer = (candidate.metrics.attributes[0] for candidate in found.candidates)
    assert (every.photos, every.scored_values) == (fewer.photos, fewer.scored_values)
    twos = next(row.support for row in found.values if (row.attribute, row.value) == ("neck", "2"))
    assert twos > 0 and fewer.accuracy is not None and fewer.accuracy <= 1 - twos / fewer.photos
    first, second = (candidate.metrics.overall.accuracy for candidate in found.candidates)
    assert first is not None and second is not None
    (pair,) = found.pairs
    assert pair.differences["accuracy"].value == pytest.approx(first - second)


def test_a_photo_that_one_model_learnt_from_judges_no_model(fitted: Fitted, tmp_path: Path) -> None:
    moved = fit_heads(
        fitted.data,
        CacheKeyOptions(),
        SplitOptions(split="10/10/80", split_seed=5, near_duplicates=0),
        FitOptions(cache=fitted.small.cache, heads=("linear",), optimizers=("adam",), epochs=3, out=tmp_path / "moved"),
    ).run
    tests = [{r["photo"] for r in json_split(run) if r["part"] == "test"} for run in (fitted.run, moved)]
    report = evaluate(fitted.data, fitted.options(tmp_path / "e", fitted.model, moved / "models" / "best.joblib"))
    assert {row["photo"] for row in json_split(report.folders[1])} == tests[0] & tests[1] != tests[0]


@dataclass(frozen=True)
class Products:
    """A run on the first photo of most products, which a column names, and a catalogue of all photos."""

    run: Path
    cache: Path
    every: Path

    def evaluate(self, out: Path, data: Path | None = None, **options: Any) -> EvaluateReport:
        model = options.pop("model", self.run / "models" / "best.joblib")
        asked = EvaluateOptions(model=(model,), cache=self.cache, out=out, **options)
        return evaluate(DataOptions(data or self.every, images=self.every.parent / "images"), asked)


def with_products(path: Path, rows: list[tuple[str, str, str]], column: str = "sku") -> Path:
    lines = [f"{name},{name.partition('-')[0].upper()},{neck},{sleeve}" for name, neck, sleeve in rows]
    path.write_text("\n".join([f"filename,{column},neck,sleeve_length", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Products:
    folder = tmp_path_factory.mktemp("products")
    small = write_catalogue(folder, pictures=True)
    rows = read_rows(small.data)
    with_products(small.data, [row for row in rows[:100] if row[0].endswith("-0.jpg")])
    split = SplitOptions(near_duplicates=0, group_column="sku")
    asked = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam",), epochs=3, out=folder / "run")
    run = fit_heads(DataOptions(small.data), CacheKeyOptions(), split, asked).run
    return Products(run, small.cache, with_products(small.data.with_name("every.csv"), rows))


def test_other_photos_of_a_product_that_was_trained_on_are_left_out(products: Products, tmp_path: Path) -> None:
    used = {row["photo"] for row in json_split(products.run) if row["part"] != "test"}
    report = products.evaluate(tmp_path / "e")
    assert report.photos == 120 - 2 * len(used) and report.fitted == 2 * len(used)
    left_out = {f.filename: f.detail for f in report.findings if f.kind == "fitted"}
    others = {name.replace("-0", "-1") for name in used}
    assert left_out == dict.fromkeys(used, "a model has learnt from it") | dict.fromkeys(
        others, "a model has learnt from another photo of its product"
    )
    said = f"{len(used)} of 120 photos had a part in a model, {len(used)} are of products of which another photo had,"
    assert f"{said} and are left out" in report.notes
    assert products.evaluate(tmp_path / "all", include_fitted=True).photos == 120


def test_products_are_named_by_a_regular_expression_too(products: Products, tmp_path: Path) -> None:
    plain = products.every.with_name("plain.csv")
    write_rows(plain, read_rows(products.every))
    unnamed = products.evaluate(tmp_path / "a", plain)
    assert any("nothing names those of these photos" in note for note in unnamed.notes)
    named = products.evaluate(tmp_path / "b", plain, group_regex="^(.+)-[0-9]")
    assert named.photos == unnamed.photos, "names in small letters are others"
    asked = FitOptions(cache=products.cache, heads=("linear",), optimizers=("adam",), epochs=1, out=tmp_path / "run")
    split = SplitOptions(near_duplicates=0, group_regex="^(.+)-[0-9]")
    run = fit_heads(DataOptions(plain, products.every.parent / "images"), CacheKeyOptions(), split, asked).run
    model = read_model(run / "models" / "best.joblib")
    seen = {row["photo"].partition("-")[0] for row in json_split(run) if row["part"] != "test"}
    assert set(model["training"]["groups"]) == set(prefixes(name_digests(seen)))


def test_a_model_without_products_is_read_as_before(products: Products, tmp_path: Path) -> None:
    model = joblib.load(products.run / "models" / "best.joblib")
    del model["training"]["groups"]
    save_model(model, tmp_path / "old.joblib")
    report = products.evaluate(tmp_path / "e", model=tmp_path / "old.joblib")
    assert report.fitted == len({row["photo"] for row in json_split(products.run) if row["part"] != "test"})


def test_the_page_has_the_figures_the_coverage_and_the_photos(fitted: Fitted, tmp_path: Path) -> None:
    found = judged(report := evaluate(fitted.data, fitted.options(tmp_path / "e")))
    page = render(found, page_data(found))
    assert f"best on {report.photos} labelled photos, 2 attributes" in page
    assert "How much can be filled in" in page
    assert "in that model&#39;s training photos" in page
    assert "is best of" not in page and "chosen by its validation score" not in page
    assert 'id="photos"' in page and '"pictures":{"0":' in page
    assert f"evaluate --data {fitted.small.data}" in page


def test_the_command_writes_table_page_json_and_csv(
    fitted: Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--model", str(fitted.model), "--data", str(fitted.small.data), "--out", str(tmp_path / "e")]
    words += ["--cache", str(fitted.small.cache), "--json", str(tmp_path / "e.json"), "--csv", str(tmp_path / "e.csv")]
    assert main([*words, "--at-precision", "0.7,0.95", "--bootstrap", "20"]) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "e.json").read_text())
    count = found["parts"]["test"]
    assert f"evaluate: 1 model on {count} labelled photos, vectors of {count} from {fitted.small.cache}" in said
    assert "How much best can fill in when so much of it must be right" in said
    assert [row["target"] for row in found["coverage"]] == [0.7, 0.95] * 2
    assert found["evaluated"][0]["model"] == str(fitted.model)
    assert "\ncoverage,best,,neck,0.7,coverage," in (tmp_path / "e.csv").read_text()
    assert (tmp_path / "e" / "report.html").is_file()
    assert main(words) == 1
    assert "already exists and is not empty; name another folder with --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": ()}, OptionError, "no model is named; name one or several model files with --model"),
        ({"model": (Path("absent.joblib"),)}, ModelFileError, r"no model file absent\.joblib"),
        ({"sha256": ("0" * 64,)}, ModelFileError, "not 0000"),
        ({"sha256": ("0" * 64,) * 2}, OptionError, "names 2 digests for 1 models"),
        ({"at_precision": (95.0,)}, OptionError, "--at-precision is 95; expected shares above 0"),
        ({"cache": Path("nowhere")}, OptionError, "no embedding cache at nowhere"),
    ],
)
def test_what_cannot_be_evaluated_is_said_and_leaves_nothing(
    fitted: Fitted, tmp_path: Path, change: Mapping[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate(fitted.data, replace(fitted.options(tmp_path / "e"), **change))
    assert not (tmp_path / "e").exists()


def test_labels_of_other_attributes_are_refused_and_some_are_enough(fitted: Fitted, tmp_path: Path) -> None:
    images = fitted.small.data.parent / "images"
    names = [row[0] for row in read_rows(fitted.small.data)]
    other = tmp_path / "other.csv"
    other.write_text("filename,colour\n" + "".join(f"{name},red\n" for name in names))
    with pytest.raises(OptionError, match=r"none of the attributes of .*\(neck, sleeve_length\) is labelled"):
        evaluate(DataOptions(other, images=images), fitted.options(tmp_path / "e"))
    other.write_text("filename,neck\n" + "".join(f"{row[0]},{row[1]}\n" for row in read_rows(fitted.small.data)))
    found = judged(evaluate(DataOptions(other, images=images), fitted.options(tmp_path / "e")))
    assert [row.photos > 0 for row in found.best_candidate.metrics.attributes] == [True, False]
    assert any("No test photo is known for sleeve_length" in note for note in found.notes)


def test_a_folder_of_figures_that_is_there_is_kept(fitted: Fitted, tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="already exists and is not empty"):
        evaluate(fitted.data, fitted.options(tmp_path / "e"))


@pytest.fixture(scope="module")
def seen_by_a_backbone(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """The same with the vectors of a real, tiny, random backbone: two models on different blocks of it."""
    folder = tmp_path_factory.mktemp("real")
    small = write_catalogue(folder, photos=60, pictures=True)
    images = small.data.parent / "images"
    backbone = BackboneOptions("test_resnet", "random:0", 32, "squash")
    asked = ExtractOptions(cache=folder / "real", features=("pooled", "levels"), runtime="torch", device="cpu")
    extract([images / row[0] for row in read_rows(small.data)], backbone, asked)
    real = replace(small, cache=folder / "real")
    run = fit(real, folder / "pooled", use=("pooled",))
    fit(real, folder / "both", use=("levels", "pooled"))
    return Fitted(real, run)


def test_what_the_cache_lacks_is_computed_once_for_all_models(
    seen_by_a_backbone: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, decoded = seen_by_a_backbone, []
    both = fitted.run.parent / "both" / "models" / "best.joblib"
    pixels = embed_module.content_pixels
    monkeypatch.setattr(embed_module, "content_pixels", lambda *args: decoded.append(1) or pixels(*args))
    asked = replace(fitted.options(tmp_path / "computed", fitted.model, both), runtime="torch", device="cpu")
    cached = evaluate(fitted.data, replace(asked, out=tmp_path / "cached"))
    assert not decoded and cached.cached == cached.photos > 0
    computed = evaluate(fitted.data, replace(asked, cache=None))
    assert len(decoded) == computed.photos == cached.photos and computed.cached == 0
    for one, other in zip(cached.folders, computed.folders, strict=True):
        P = [predictions(folder) for folder in (one, other)]
        assert np.abs(P[0] - P[1]).max() < 1e-4
    one, other = (judged(report).best_candidate.metrics.overall.accuracy for report in (cached, computed))
    assert one == other
    assert any("RANDOM weights" in note for note in computed.notes)


def predictions(folder: Path) -> np.ndarray:
    import pandas as pd

    frame = pd.read_parquet(folder / "predictions" / f"{folder.name}.parquet")
    return frame.drop(columns=["photo", "part"]).to_numpy()


def test_predict_takes_vectors_from_the_cache_and_says_how_many(
    seen_by_a_backbone: Fitted, tmp_path: Path, no_backbone: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = seen_by_a_backbone
    images = fitted.small.data.parent / "images"
    words = ["predict", str(images), "--model", str(fitted.model), "--probabilities"]
    assert main([*words, "--cache", str(fitted.small.cache), "--out", str(tmp_path / "cached.csv")]) == 0
    assert f"predict: 60 photos, 0 rejected, vectors of 60 from {fitted.small.cache}" in capsys.readouterr().out


def test_a_photo_that_the_cache_has_as_damaged_needs_no_backbone(
    seen_by_a_backbone: Fitted, tmp_path: Path, no_backbone: None
) -> None:
    from cache import FeatureCache, id_of

    fitted = seen_by_a_backbone
    (tmp_path / "broken.jpg").write_bytes(b"not a photo at all")
    cache = FeatureCache(fitted.small.cache)
    cache.files.reject(tmp_path / "broken.jpg", id_of(b"not a photo at all"), "not an image in a known format")
    first = fitted.small.data.parent / "images" / "shirt0-0.jpg"
    words = ["predict", str(first), str(tmp_path / "broken.jpg"), "--model", str(fitted.model)]
    out = tmp_path / "p.csv"
    assert main([*words, "--cache", str(fitted.small.cache), "--out", str(out)]) == 0
    assert out.read_text().splitlines()[2] == f"{tmp_path / 'broken.jpg'},#N/A,#N/A"


def test_predict_with_and_without_a_cache_agree(seen_by_a_backbone: Fitted, tmp_path: Path) -> None:
    import pandas as pd

    fitted = seen_by_a_backbone
    images = fitted.small.data.parent / "images"
    new = images.parent / "some"
    new.mkdir()
    for row in read_rows(fitted.small.data)[:7]:
        shutil.copy(images / row[0], new)
    shutil.copy(images / "shirt0-0.jpg", new / "z.jpg")
    (new / "z.jpg").write_bytes((new / "z.jpg").read_bytes() + b"other bytes, one picture")
    (new / "broken.jpg").write_bytes(b"no photo")
    words = ["predict", str(new), "--model", str(fitted.model), "--probabilities", "--runtime", "torch"]
    words += ["--threshold", "best"]  # so that every photo has a value, and its probability a place
    assert main([*words, "--cache", str(fitted.small.cache), "--out", str(tmp_path / "cached.csv")]) == 0
    assert main([*words, "--out", str(tmp_path / "computed.csv")]) == 0
    one, other = (pd.read_csv(tmp_path / f"{name}.csv", index_col=0) for name in ("cached", "computed"))
    assert one.index.tolist() == other.index.tolist() and len(one) == 9
    assert one[["neck", "sleeve_length"]].equals(other[["neck", "sleeve_length"]])
    assert np.nanmax(np.abs(one["p:neck"] - other["p:neck"])) < 1e-4
    assert np.isnan(one.loc["broken.jpg", "p:neck"])


def test_the_photos_of_a_fine_tuned_backbone_are_in_the_record(tmp_path: Path) -> None:
    from cache import FeatureCache, id_of
    from pipeline.features.backbone.provenance import CHOICE, NOTE, TRAIN
    from pipeline.model.training import was_seen

    small = write_catalogue(tmp_path)
    trained, chosen = (np.array([id_of(text)], "S32") for text in (b"trained", b"chosen"))
    cache = FeatureCache(small.cache)
    notes = {"weights_source": "tuned.safetensors", NOTE: {"train": 1, "choice": 1, "split": ""}}
    with cache.writer(small.attribute, notes=notes) as writer:
        writer.attach_ids(TRAIN, trained)
        writer.attach_ids(CHOICE, chosen)
    model = read_model(fit(small, tmp_path / "run") / "models" / "best.joblib")
    asked = np.concatenate([trained, chosen, np.array([id_of(b"other")], "S32")])
    found = was_seen(model, asked)
    assert found is not None and found.tolist() == [True, True, False]


def test_the_record_of_a_model_takes_eight_bytes_a_photo(fitted: Fitted) -> None:
    model = read_model(fitted.model)
    parts = compare([fitted.run], SHOW).parts
    assert model["training"]["seen"].nbytes == 8 * (parts["train"] + parts["validation"])
    known = model["training"]["known"]
    assert known.shape == (5,) and known.max() <= parts["train"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("seen", [1, 2], "training: seen is no list of 8-byte beginnings"),
        ("seen", np.zeros(3), "training: seen is no list of 8-byte beginnings"),
        ("known", np.zeros(2, np.int64), r"training: known has the shape \(2,\); expected \(5,\)"),
        ("positives", np.full(5, 9999), "training: positives are not within known"),
        ("known", None, "training: known is a NoneType"),
        ("groups", np.zeros((2, 2), np.uint64), "training: groups is no list of 8-byte beginnings of digests"),
    ],
)
def test_a_damaged_record_is_named(fitted: Fitted, tmp_path: Path, field: str, value: Any, message: str) -> None:
    model = joblib.load(fitted.model)
    model["training"][field] = value
    save_model(model, tmp_path / "bad.joblib")
    with pytest.raises(ModelFileError, match=message):
        read_model(tmp_path / "bad.joblib")
