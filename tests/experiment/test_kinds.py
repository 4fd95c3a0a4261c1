"""Several backbones in one model: vectors side by side or member by member, and photos that are read once for all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cache import Block, Column, FeatureCache
from pipeline.cli.main import main
from pipeline.comparison.compare import compare
from pipeline.errors import BackboneError, ModelFileError, OptionError
from pipeline.experiment.fit_heads import fit_heads
from pipeline.experiment.kinds.fitting import on_kinds
from pipeline.experiment.rows import load_experiment
from pipeline.features import embed as embed_module
from pipeline.features.backbone.provenance import CHOICE, NOTE, TRAIN
from pipeline.features.cache_tools import export
from pipeline.features.extract import extract
from pipeline.heads import ChunkedSource, grid
from pipeline.model.file import TOLERANCE, decisions, proba, read_model, save_model
from pipeline.model.predictor import Predictor
from pipeline.model.training import prefixes
from pipeline.options import (
    BackboneOptions,
    CacheKeyOptions,
    CompareOptions,
    DataOptions,
    EvaluateOptions,
    ExportOptions,
    ExtractOptions,
    FitOptions,
    PredictOptions,
    SplitOptions,
    VectorKind,
)
from pipeline.trial.evaluate import evaluate
from tests.model.snippet import SNIPPET
from tests.small_cache import DIM, SmallCatalogue, base_key, read_rows, write_catalogue

EAGER = PredictOptions(device="cpu", runtime="torch", batch_size=4, workers=2)
BOTH = CacheKeyOptions(weights=("random:0", "random:1"))
FIRST, SECOND = (BackboneOptions("test_resnet", f"random:{seed}", size) for seed, size in ((0, 32), (1, 48)))


@dataclass(frozen=True)
class Fitted:
    """A catalogue seen by two backbones, and a run on both: heads on all vectors and on each kind, and an ensemble."""

    small: SmallCatalogue
    run: Path

    @property
    def data(self) -> DataOptions:
        return DataOptions(self.small.data)

    def model(self, name: str) -> Path:
        (path,) = (self.run / "models").glob(f"{name}*.joblib")
        return path


def fit(small: SmallCatalogue, out: Path, key: CacheKeyOptions = BOTH, **changes: Any) -> Path:
    asked = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam",), lr=(0.05,), epochs=8, out=out)
    split = SplitOptions(near_duplicates=0, split_from=changes.pop("split_from", None))
    return fit_heads(DataOptions(small.data), key, split, replace(asked, **changes)).run


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    folder = tmp_path_factory.mktemp("several")
    small = write_catalogue(folder, photos=60, pictures=True)
    images = [small.data.parent / "images" / row[0] for row in read_rows(small.data)]
    seen = replace(small, cache=folder / "seen")
    for backbone in (FIRST, SECOND):
        views = ("identity", "hflip")
        blocks = ("pooled", "levels", "colour") if backbone is FIRST else ("pooled", "colour")
        asked = ExtractOptions(cache=seen.cache, features=blocks, views=views, runtime="torch", device="cpu")
        extract(images, backbone, asked)
    heads = {"heads": ("linear", "kernel-ridge"), "vectors": ("joined", "each"), "keep": "all"}
    ensemble = {"ensemble": 2, "ensemble_from": "each-head", "loss": ("ce",), "views": ("identity", "hflip")}
    return Fitted(seen, fit(seen, folder / "run", **heads, **ensemble))


def predictions(run: Path, name: str) -> pd.DataFrame:
    (path,) = (run / "predictions").glob(f"{name}*.parquet")
    return pd.read_parquet(path).set_index("photo")


def test_the_model_file_names_every_backbone_and_whose_each_block_is(fitted: Fitted) -> None:
    model = read_model(fitted.model("ensemble-6"))
    assert model["version"] == 3 and not {"cache_key", "weights_source"} & set(model)
    assert [source["weights_source"] for source in model["sources"]] == ["random:0", "random:1"]
    assert [source["cache_key"]["size"] for source in model["sources"]] == [32, 48]
    blocks = [(block["name"], block["source"], block["order"]) for block in model["blocks"]]
    assert blocks == [("pooled", 0, 0), ("levels", 0, 1), ("colour", 0, 2), ("pooled", 1, 3)]
    first = sum(block["dim"] for block in model["blocks"][:3])
    whole = first + model["blocks"][3]["dim"]
    taken = Counter(str(member.get("columns")) for member in model["members"])
    assert taken == {"None": 2, f"[0, {first}]": 2, f"[{first}, {whole}]": 2}


def test_configurations_and_run_say_which_vectors_they_took(fitted: Fitted) -> None:
    info = json.loads((fitted.run / "run.json").read_text())
    assert [source["weights_source"] for source in info["sources"]] == ["random:0", "random:1"]
    assert all(len(source["cache_digest"]) == 64 for source in info["sources"]) and "cache_key" not in info
    assert info["options"]["key"]["weights"] == ["random:0", "random:1"]
    configs = pd.read_csv(fitted.run / "configs.csv", dtype=str).set_index("config_id")["vectors"]
    for config_id, vectors in configs.items():
        number = str(config_id).rpartition("-vectors")[2][:1] if "-vectors" in str(config_id) else "joined"
        assert vectors == (number if not str(config_id).startswith("ensemble") else "joined+1+2")
    assert sorted(configs.value_counts().to_dict().items()) == [("1", 2), ("2", 2), ("joined", 2), ("joined+1+2", 1)]


@pytest.mark.parametrize("name", ["ensemble-6", "linear-adam-vectors2", "kernel-ridge-vectors1"])
def test_predict_computes_what_the_run_read_from_the_cache(fitted: Fitted, name: str) -> None:
    frame, predictor = predictions(fitted.run, name), Predictor(fitted.model(name), EAGER)
    photos = [fitted.small.data.parent / "images" / photo for photo in frame.index[:9]]
    chances = predictor.predict_proba(photos)
    P = [[p for values in each.values() for p in values.values()] for each in chances if isinstance(each, dict)]
    np.testing.assert_allclose(P, frame.filter(like="p:").to_numpy()[:9], atol=1e-4)
    assert len(predictor.feature_source.backbones) == (2 if name == "ensemble-6" else 1)


def test_a_model_of_one_kind_alone_is_a_file_that_older_readers_take(fitted: Fitted) -> None:
    for name, version, weights in (("linear-adam-vectors2", 1, "random:1"), ("kernel-ridge-vectors1", 2, "random:0")):
        model = read_model(fitted.model(name))
        assert (model["version"], model["weights_source"]) == (version, weights)
        assert "sources" not in model and not any("source" in block for block in model["blocks"])
        assert not any("columns" in member for member in model["members"])
    single = fit(fitted.small, fitted.run.parent / "single", CacheKeyOptions(weights=("random:1",)), vectors=("each",))
    info = json.loads((single / "run.json").read_text())
    assert info["options"]["key"]["weights"] == "random:1" and "sources" not in info
    assert read_model(single / "models" / "best.joblib")["version"] == 1
    assert "vectors" not in pd.read_csv(single / "configs.csv").columns


def test_a_photo_is_read_once_and_decoded_once_per_transform(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    read, decoded = [], []
    reading, pixels = embed_module.read_source, embed_module.content_pixels
    monkeypatch.setattr(embed_module, "read_source", lambda photo: read.append(photo) or reading(photo))
    monkeypatch.setattr(embed_module, "content_pixels", lambda *args: decoded.append(args[1].size) or pixels(*args))
    photos = sorted((fitted.small.data.parent / "images").iterdir())[:6]
    predictor = Predictor(fitted.model("ensemble-6"), EAGER)
    X = predictor.features(photos)
    assert (len(read), Counter(decoded)) == (6, {32: 6, 48: 6})
    assert X.shape == (6, 2 * sum(block["dim"] for block in predictor.model["blocks"]))
    assert [note for note in predictor.notes if "RANDOM" in note] == [
        f"test_resnet (random:{i}, {size} px, squash): the backbone has RANDOM weights: these predictions mean nothing"
        for i, size in ((0, 32), (1, 48))
    ]


def test_the_snippet_takes_exported_vectors_of_all_backbones(fitted: Fitted, tmp_path: Path) -> None:
    path = fitted.model("ensemble-6")
    options = ExportOptions(out=tmp_path / "features.npz", cache=fitted.small.cache, model=path)
    export(fitted.data, CacheKeyOptions(), options, read_model(path))
    with np.load(tmp_path / "features.npz") as file:
        X, names = file["features"], file["filename"]
    photos = [fitted.small.data.parent / "images" / name for name in names[:3]]
    np.testing.assert_allclose(X[:3], Predictor(path, EAGER).features(photos), atol=1e-4)
    np.save(tmp_path / "features.npy", X)
    shutil.copy(path, tmp_path / "best.joblib")
    code = f"{SNIPPET}\nnp.save('P.npy', P)\nnp.save('D.npy', D)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    P, D = np.load(tmp_path / "P.npy"), np.load(tmp_path / "D.npy")
    expected = Predictor(path, EAGER).probabilities(X.reshape(len(X), 2, -1).transpose(1, 0, 2))
    np.testing.assert_allclose(P, expected, atol=TOLERANCE)
    assert (decisions(read_model(path), P) == D).all()
    frame = predictions(fitted.run, "ensemble-6")
    of_run = pd.DataFrame(P, names).loc[frame.index].to_numpy()
    np.testing.assert_allclose(of_run, frame.filter(like="p:").to_numpy(), atol=TOLERANCE)


def test_evaluate_takes_vectors_from_the_cache_when_it_has_those_of_all(fitted: Fitted, tmp_path: Path) -> None:
    models = (fitted.model("ensemble-6"), fitted.model("linear-adam-vectors2"))
    asked = EvaluateOptions(model=models, cache=fitted.small.cache, out=tmp_path / "e", runtime="torch", device="cpu")
    report = evaluate(fitted.data, asked)
    test = predictions(fitted.run, "linear-adam-vectors2").query("part == 'test'")
    assert report.cached == report.photos == len(test) > 0
    comparison = compare(report.folders, CompareOptions(bootstrap=5))
    assert {candidate.backbone for candidate in comparison.candidates} == {"test_resnet + test_resnet", "test_resnet"}
    assert {run.weights_source for run in comparison.runs} == {"random:0 + random:1", "random:1"}


def test_compare_sets_the_kinds_against_each_other(fitted: Fitted) -> None:
    comparison = compare([fitted.run], CompareOptions(bootstrap=5, by="vectors"))
    linear = [row.value for row in comparison.by_rows if row.among.startswith("head linear")]
    assert linear == ["1", "2", "joined"]
    backbones = {candidate.name: candidate.backbone for candidate in comparison.candidates}
    assert {backbones[name] for name in backbones if "vectors 2" in name} == {"test_resnet"}
    by_weights = compare([fitted.run], CompareOptions(bootstrap=5, by="weights"))
    sizes = [row.value for row in by_weights.by_rows]
    assert {"random:0", "random:1", "random:0 + random:1"} <= set(sizes)


def test_missing_weights_of_one_backbone_are_named(fitted: Fitted, tmp_path: Path) -> None:
    model = read_model(fitted.model("ensemble-6"))
    model["sources"][1]["weights_source"] = str(tmp_path / "gone.safetensors")
    photo = next((fitted.small.data.parent / "images").iterdir())
    with pytest.raises(BackboneError, match=r"gone.safetensors.*needs the weights of test_resnet \(.*gone.*, 48 px"):
        Predictor(model, EAGER).predict(photo)
    with pytest.raises(OptionError, match="--weights names 1 source, the model's backbones are: test_resnet .*; test_"):
        Predictor(model, replace(EAGER, weights=(Path("random:0"),))).predict(photo)
    given = replace(EAGER, weights=(Path("random:0"), Path("random:1")))
    assert Predictor(model, given).predict(photo)
    with pytest.raises(ModelFileError, match="weights_sha256"):
        Predictor(model, replace(EAGER, weights=(Path("random:1"), Path("random:1")))).predict(photo)


def test_heads_can_be_fit_on_one_of_the_kinds(fitted: Fitted, tmp_path: Path) -> None:
    configs = grid(FitOptions(heads=("linear", "network"), optimizers=("adam",)))
    assert [(c.head, c.vectors) for c in on_kinds(configs, ("2", "joined"), 2)] == [
        *(("linear", 2), ("linear", 0)),
        *(("network", 1), ("network", 2)),
    ]
    assert {c.vectors for c in on_kinds(configs, ("1",), 1)} == {0}
    with pytest.raises(OptionError, match="--vectors is '3'; with 2 kinds of vectors: joined, each, 1, 2"):
        on_kinds(configs, ("3",), 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("sources"), "sources is not there"),
        (lambda m: m["sources"].pop(), "blocks are of the sources .*; expected 0 to 0"),
        (lambda m: m["blocks"][3].pop("source"), r"blocks\[3\].source is not there"),
        (lambda m: m["blocks"][3].update(source=2), r"blocks are of the sources \[0, 0, 0, 2\]; expected 0 to 1"),
        (lambda m: m["blocks"][0].update(source=1), r"sources \[1, 0, 0, 1\]"),
        (lambda m: m["members"][1].update(columns=[3, 3]), "takes the columns from 3 to 3"),
        (lambda m: m["members"][1].update(columns=[0, "1"]), r"columns\[1\] is '1'"),
        (lambda m: m["members"][2].update(columns=[0, 10**6]), r"columns\[1\] is 1000000"),
        (lambda m: m["members"][0].update(columns=[0, 5]), r"expected W \(5, m\)"),
    ],
)
def test_a_wrong_file_of_several_backbones_is_named(fitted: Fitted, tmp_path: Path, change: Any, message: str) -> None:
    model = read_model(fitted.model("ensemble-6"))
    change(model)
    save_model(model, tmp_path / "m.joblib")
    with pytest.raises(ModelFileError, match=message):
        read_model(tmp_path / "m.joblib")


def two_kinds(folder: Path, photos: int = 90) -> tuple[SmallCatalogue, FeatureCache, Any]:
    """A catalogue with made-up vectors of two kinds, and the second one's key."""
    small = write_catalogue(folder, photos)
    cache, other = FeatureCache(small.cache), base_key(architecture="resnet34", size=96)
    reader = cache.reader(small.attribute.digest)
    ids = reader.ids(small.columns[0])
    X = reader.read(ids, [small.columns[0]])
    wide = Column(Block("levels", DIM + 3))
    with cache.writer(small.attribute) as writer:
        writer.append(ids, {Column(Block("colour", 2)): X[:, :2]})
    with cache.writer(other, notes={"weights_source": "random:9"}) as writer:
        writer.append(ids, {small.columns[0]: X[:, ::-1], Column(Block("colour", 2)): X[:, :2]})
        writer.append(ids[:-1], {wide: np.zeros((len(ids) - 1, DIM + 3), np.float32)})
    return small, cache, other


SIDE_BY_SIDE = CacheKeyOptions(backbone=("resnet18", "resnet34"))


def test_each_kind_gives_the_blocks_it_has_of_all_photos_and_colour_comes_once(tmp_path: Path) -> None:
    small, _, _ = two_kinds(tmp_path)

    def widths(**changes: Any) -> list[tuple[str, int]]:
        options = FitOptions(cache=small.cache, **changes)
        experiment = load_experiment(DataOptions(small.data), SIDE_BY_SIDE, SplitOptions(), options)
        X = experiment.source("train", limit=2**30)
        assert isinstance(X, np.ndarray) and X.shape[1] == experiment.features.dim
        np.testing.assert_array_equal(X[:, :DIM], X[:, experiment.features.span(1)[0] :][:, :DIM][:, ::-1])
        return list(experiment.features.blocks)

    assert widths() == [("pooled", DIM), ("colour", 2), ("pooled", DIM)]
    assert widths(use=("pooled", "colour")) == [("pooled", DIM), ("colour", 2), ("pooled", DIM)]
    with pytest.raises(OptionError, match=r"resnet18 .* has none of the blocks levels .*Run: .*--features levels"):
        widths(use=("levels",))
    with pytest.raises(OptionError, match="none of the 2 kinds of vectors has the block 'levels' of all these photos"):
        widths(use=("pooled", "levels"))
    with pytest.raises(OptionError, match="no feature block 'pold'"):
        widths(use=("pold",))


def test_what_was_taken_is_said(tmp_path: Path) -> None:
    small, _, _ = two_kinds(tmp_path)
    options = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam",), epochs=3, out=tmp_path / "run")
    report = fit_heads(DataOptions(small.data), SIDE_BY_SIDE, SplitOptions(near_duplicates=0), options)
    assert any("vectors side by side: resnet18 (random:0, 64 px" in note for note in report.notes)
    assert any("fp32): pooled, colour; resnet34 (random:9, 96 px" in note for note in report.notes)


def test_what_does_not_fit_into_memory_is_streamed_with_the_same_columns(tmp_path: Path) -> None:
    small, _, _ = two_kinds(tmp_path)
    experiment = load_experiment(DataOptions(small.data), SIDE_BY_SIDE, SplitOptions(), FitOptions(cache=small.cache))
    X, stream = experiment.source("train", limit=2**30), experiment.source("train", limit=4000)
    assert isinstance(X, np.ndarray) and isinstance(stream, ChunkedSource)
    for rows, features in stream.batches(16, None):
        np.testing.assert_array_equal(features.numpy(), X[rows.numpy()])
    alone = experiment.on(2).source("train", limit=2**30)
    np.testing.assert_array_equal(alone, X[:, slice(*experiment.features.span(1))])


def test_a_refit_on_all_photos_keeps_each_member_on_its_vectors(tmp_path: Path) -> None:
    small, _, other = two_kinds(tmp_path)
    ensemble = {"ensemble": 2, "ensemble_from": "each-head", "vectors": ("each",), "refit": True, "final": True}
    run = fit(small, tmp_path / "run", SIDE_BY_SIDE, **ensemble)
    models = {path.stem: read_model(path) for path in (run / "models").glob("*.joblib")}
    spans = [[0, DIM + 2], [DIM + 2, 2 * DIM + 2]]
    for name in ("best", "final"):
        assert models[name]["info"]["config_id"] == "ensemble-2-refit"
        assert [member["columns"] for member in models[name]["members"]] == spans
    single = {name: model for name, model in models.items() if "-vectors2-" in name}
    (model,) = single.values()
    assert model["cache_key"] == other.to_json() and [block["name"] for block in model["blocks"]] == ["pooled"]


@pytest.mark.parametrize(("field", "value"), [("mean", (0.4, 0.5, 0.5)), ("precision", "half"), ("decoder", "other")])
def test_a_refit_takes_no_vectors_that_differ_in_more_than_the_weights(
    tmp_path: Path, field: str, value: object
) -> None:
    small, cache, _ = two_kinds(tmp_path)
    ids = cache.reader(small.attribute.digest).ids(small.columns[0])
    X = np.random.default_rng(5).normal(size=(len(ids), DIM)).astype(np.float32)
    key = base_key(weights_sha256="ef" * 32, **{field: value})
    with cache.writer(key, notes={"weights_source": "random:7"}) as writer:
        writer.append(ids, {small.columns[0]: X})
    first = CacheKeyOptions(backbone=("resnet18",), weights=("random:0",))
    asked = {"use": ("pooled",), "refit": True, "refit_weights": ("random:7",)}
    with pytest.raises(OptionError, match=f"but for the weights. They differ in .*{field}: "):
        fit(small, tmp_path / "run", first, **asked)


def test_an_average_over_some_kinds_names_these_alone(tmp_path: Path) -> None:
    small, cache, _ = two_kinds(tmp_path)
    ids = cache.reader(small.attribute.digest).ids(small.columns[0])
    noise = np.random.default_rng(5).normal(size=(len(ids), DIM)).astype(np.float32)
    with cache.writer(base_key(architecture="noise"), notes={"weights_source": "random:7"}) as writer:
        writer.append(ids, {small.columns[0]: noise})
    key = CacheKeyOptions(backbone=("resnet18", "noise", "resnet34"))
    run = fit(small, tmp_path / "run", key, ensemble=2, vectors=("each",), use=("pooled",))
    path = run / "models" / "ensemble-2.joblib"
    model = read_model(path)
    assert [source["cache_key"]["architecture"] for source in model["sources"]] == ["resnet18", "resnet34"]
    assert sorted(member["columns"] for member in model["members"]) == [[0, DIM], [DIM, 2 * DIM]]
    options = ExportOptions(out=tmp_path / "features.npz", cache=small.cache, model=path)
    export(DataOptions(small.data), CacheKeyOptions(), options, model)
    frame = predictions(run, "ensemble-2")
    with np.load(tmp_path / "features.npz") as file:
        P = pd.DataFrame(proba(model, file["features"]), file["filename"]).loc[frame.index]
    np.testing.assert_allclose(P.to_numpy(), frame.filter(like="p:").to_numpy(), atol=1e-5)


def test_kinds_that_cannot_stand_side_by_side_are_refused(tmp_path: Path) -> None:
    small, _, _ = two_kinds(tmp_path)
    with pytest.raises(OptionError, match=r"resnet18 .* is named twice"):
        fit(small, tmp_path / "x", CacheKeyOptions(backbone=("resnet18",), size=(64, 64)))
    with pytest.raises(OptionError, match="as many values of each option, or one; found --backbone 2, --size 3"):
        fit(small, tmp_path / "x", CacheKeyOptions(backbone=("a", "b"), size=(1, 2, 3)))
    kinds = CacheKeyOptions(backbone=("a",), weights=("hub", "w.pth"), size=(224, 96)).kinds()
    assert kinds == (VectorKind("a", "hub", 224), VectorKind("a", "w.pth", 96))
    assert CacheKeyOptions().kinds() == (VectorKind(),)


def test_photos_that_any_backbone_learnt_from_are_not_judged_on(tmp_path: Path) -> None:
    small, cache, other = two_kinds(tmp_path)
    run = fit(small, tmp_path / "run", SIDE_BY_SIDE)
    split = pd.read_csv(run / "split.csv")
    ids = {part: np.array([bytes.fromhex(c) for c in rows["content"]], "S32") for part, rows in split.groupby("part")}
    outside = np.array([bytes([7]) * 32], "S32")
    with cache.writer(other, notes={"weights_source": "tuned.safetensors", NOTE: {"train": 3, "choice": 1}}) as writer:
        writer.attach_ids(TRAIN, np.concatenate([ids["train"][:2], outside]))
        writer.attach_ids(CHOICE, ids["validation"][:1])
    again = fit(small, tmp_path / "again", SIDE_BY_SIDE, split_from=run)
    seen = read_model(again / "models" / "best.joblib")["training"]["seen"]
    assert np.isin(prefixes(outside), seen).all()
    with cache.writer(other, notes={NOTE: {"train": 4, "choice": 1}}) as writer:
        writer.attach_ids(TRAIN, ids["test"][:1])
    with pytest.raises(OptionError, match=r"fine-tuned backbone tuned.safetensors .*1 of the \d+ test photos trained"):
        fit(small, tmp_path / "refused", SIDE_BY_SIDE, split_from=run)
    assert not (tmp_path / "refused").exists()


def test_words_and_files_name_several_kinds_by_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, _, _ = two_kinds(tmp_path)
    words = ["fit-heads", "--data", str(small.data), "--cache", str(small.cache), "--heads", "linear", "--epochs", "2"]
    assert main([*words, "--backbone", "resnet18, resnet34", "--size", "64,96", "--out", str(tmp_path / "words")]) == 0
    assert "vectors side by side: resnet18" in capsys.readouterr().out
    (tmp_path / "o.yaml").write_text("backbone: [resnet18, resnet34]\nfit-heads: {vectors: [joined, each]}\n")
    assert main([*words, "--config", str(tmp_path / "o.yaml"), "--out", str(tmp_path / "file")]) == 0
    assert len(pd.read_csv(tmp_path / "file" / "configs.csv")) == 6
    report = tmp_path / "report.html"
    assert main(["compare", str(tmp_path / "file"), "--report", str(report), "--bootstrap", "5"]) == 0
    page = report.read_text()
    assert "--backbone resnet34 --weights random:9 --size 96" in page and "--backbone resnet18,resnet34" in page
