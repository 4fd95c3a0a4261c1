"""From photo files to a table, with a real (random, tiny) backbone and a model file on disk."""

from __future__ import annotations

import ast
import csv
import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

import pipeline
from pipeline.catalogue.labels import UNKNOWN, LabelSchema
from pipeline.cli.main import main
from pipeline.errors import BackboneError, ModelFileError, OptionError
from pipeline.features.backbone.network import base_key, load_backbone
from pipeline.features.embed import EmbedOptions, embed
from pipeline.features.runtimes.eager import EagerRuntime
from pipeline.model.feature_source import check_cache_key
from pipeline.model.file import Decision, FeatureOrigin, Parts, build_model, proba, read_model, save_model
from pipeline.model.photos import find_photos
from pipeline.model.predict import predict
from pipeline.model.prediction import as_dicts, decided_values, prediction_frame, write_predictions
from pipeline.model.predictor import LoadedModel, Predictor
from pipeline.options import BackboneOptions, PredictOptions

BACKBONE = BackboneOptions("test_resnet", "random:0", 32, "squash")
SCHEMA = LabelSchema(("neck", "style"), (("round", "v"), ("plain", "casual")), (True, False))
EAGER = PredictOptions(device="cpu", runtime="torch", batch_size=4, workers=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    (folder / "more").mkdir()
    for name in ("a.jpg", "b.png", "more/c.jpg"):
        Image.fromarray(rng.integers(0, 255, (40, 30, 3), np.uint8)).save(folder / name)
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])
    (folder / "Thumbs.db").write_bytes(b"not a photo")
    return folder


@pytest.fixture(scope="module")
def origin() -> FeatureOrigin:
    backbone = load_backbone(BACKBONE)
    attribute = base_key(backbone)
    block = backbone.blocks(["pooled"])["pooled"]
    blocks = [{"name": "pooled", "dim": block.dim, "digest": block.digest(attribute)}]
    return FeatureOrigin(blocks, attribute.to_json(), "random:0", ("identity", "hflip"))


def make_model(origin: FeatureOrigin) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    member = {"kind": "dense", "layers": [(rng.normal(size=(96, 4)) * 3, rng.normal(size=4))], "hidden": "relu"}
    parts = Parts([member], ["softmax", "sigmoid"])
    return build_model(SCHEMA, parts, Decision([0, 0, 0.5, 0.5], "best"), origin, rng.normal(size=(4, 96)))


@pytest.fixture(scope="module")
def model_path(origin: FeatureOrigin, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "best.joblib"
    save_model(make_model(origin), path)
    return path


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_a_folder_becomes_a_table_with_every_photo(photos: Path, model_path: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "new" / "predictions.csv"
    done = predict([photos], model_path, replace(EAGER, out=out), lambda n, total: seen.append((n, total)))
    head, *rows = rows_of(out)
    assert head == ["filename", "neck", "style"]
    assert [row[0] for row in rows] == ["a.jpg", "b.png", "broken.jpg", "more/c.jpg"]
    assert rows[2] == ["broken.jpg", "#N/A", "#N/A"]
    assert all(row[1] in ("round", "v") for row in rows if row[0] != "broken.jpg")
    ((name, reason),) = done.rejects
    assert name == "broken.jpg"
    assert reason
    assert seen[-1] == (4, 4)
    assert done.photos == 4
    assert [p.name for p in out.parent.iterdir()] == ["predictions.csv"]
    assert any("RANDOM" in note for note in done.notes)


def test_predictions_are_those_of_the_model_on_the_embedded_vectors(photos: Path, model_path: Path) -> None:
    """Blocks in model order, probabilities averaged over the model's views."""
    predictor = LoadedModel(Predictor(model_path, EAGER))
    names, paths = find_photos([photos / "a.jpg", photos / "b.png"])
    feeding = EmbedOptions(device="cpu", runtime="torch", batch_size=4, workers=1)
    (batch,) = embed(paths, load_backbone(BACKBONE), ["pooled"], ["identity", "hflip"], feeding)
    P = (proba(predictor.predictor.model, batch.features["pooled", "identity"]) / 2) + (
        proba(predictor.predictor.model, batch.features["pooled", "hflip"]) / 2
    )
    frame = predictor.predict(paths)
    assert frame["filename"].tolist() == names
    assert frame["neck"].tolist() == [SCHEMA.values[0][i] for i in P[:, :2].argmax(axis=1)]
    for row, p in zip(frame["style"], P[:, 2:], strict=True):
        expected = [value for value, each in zip(SCHEMA.values[1], p, strict=True) if each >= 0.5]
        assert row == (expected or "#N/A")


def test_the_photos_predicted_with_do_not_matter(photos: Path, model_path: Path) -> None:
    predictor = LoadedModel(Predictor(model_path, replace(EAGER, probabilities=True)))
    alone = predictor.predict(photos / "b.png").iloc[0]
    among = predictor.predict(photos).set_index("filename").loc["b.png"]
    assert alone["neck"] == among["neck"]
    assert alone["p:neck"] == pytest.approx(among["p:neck"], abs=1e-5)


def test_a_photo_whose_features_are_no_numbers_is_rejected(
    photos: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = EagerRuntime._run

    def spoilt(self: EagerRuntime, pixels: Any) -> Any:
        made = run(self, pixels)
        made["pooled"] = made["pooled"].copy()
        made["pooled"][0, 7] = np.nan
        return made

    monkeypatch.setattr(EagerRuntime, "_run", spoilt)
    predictor = LoadedModel(Predictor(read_model(model_path), replace(EAGER, probabilities=True)))
    done = predictor.predict_photos([photos / "a.jpg", photos / "b.png"])
    assert done.rejects == ((str(photos / "a.jpg"), "the network's output for it is not finite"),)
    assert done.frame.loc[0, ["neck", "style"]].tolist() == ["#N/A", "#N/A"]
    assert done.frame.loc[1, "neck"] in ("round", "v")


def test_a_photo_whose_probabilities_are_no_numbers_is_rejected(
    photos: Path, origin: FeatureOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(make_model(origin), EAGER)
    right = predictor.probabilities
    first = iter([True])

    def spoilt(X: Any) -> Any:
        P = right(X)
        if next(first, False):
            P[0] = np.nan
        return P

    monkeypatch.setattr(predictor, "probabilities", spoilt)
    done = LoadedModel(predictor).predict_photos([photos / "a.jpg", photos / "b.png"])
    assert [name for name, _ in done.rejects] == [str(photos / "a.jpg")]
    assert done.frame.loc[0, ["neck", "style"]].tolist() == ["#N/A", "#N/A"]


def test_a_pipe_is_rejected_at_once(photos: Path, model_path: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    predictor = LoadedModel(Predictor(read_model(model_path), EAGER))
    results: list[Any] = []
    wait = threading.Thread(target=lambda: results.append(predictor.predict_photos(tmp_path / "pipe.jpg")), daemon=True)
    wait.start()
    wait.join(60)
    assert [done.rejects for done in results] == [((str(tmp_path / "pipe.jpg"), "not a regular file"),)]


def test_threshold_override(photos: Path, model_path: Path, tmp_path: Path) -> None:
    options = replace(EAGER, out=tmp_path / "p.jsonl", threshold="1")
    predict([photos / "a.jpg"], model_path, options)
    assert json.loads(options.out.read_text()) == {"filename": str(photos / "a.jpg"), "neck": None, "style": None}
    with pytest.raises(OptionError, match="no threshold policy 'often'"):
        predict([photos], model_path, replace(options, threshold="often"))


def test_threshold_has_the_grammar_of_fit_heads(photos: Path, model_path: Path, tmp_path: Path) -> None:
    written = []
    for threshold in ("fixed:0.4", "0.4"):
        options = replace(EAGER, out=tmp_path / "p.csv", threshold=threshold)
        predict([photos / "a.jpg"], model_path, options)
        written.append(options.out.read_bytes())
    assert written[0] == written[1]
    with pytest.raises(OptionError, match="fixed: comes a number from 0 to 1"):
        predict([photos], model_path, replace(options, threshold="1.5"))
    for threshold in ("precision:0.9", "per-label", "auto"):
        with pytest.raises(OptionError, match=f"needs labelled photos .*fit-heads --threshold {threshold} puts it"):
            predict([photos], model_path, replace(options, threshold=threshold))


def test_json_lines_keep_lists_and_csv_joins_them(tmp_path: Path) -> None:
    P = np.array([[0.9, 0.1, 0.7, 0.6], [0.4, 0.6, 0.2, 0.1]], np.float32)
    D = np.array([[1, 0, 1, 1], [0, 0, 0, 0]], bool)
    frame = prediction_frame(["é, x.jpg", "b.jpg"], P, D, SCHEMA, probabilities=True)
    write_predictions(frame, tmp_path / "p.jsonl")
    assert [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()] == [
        {"filename": "é, x.jpg", "neck": "round", "style": ["plain", "casual"], "p:neck": 0.9, "p:style": [0.7, 0.6]},
        {"filename": "b.jpg", "neck": None, "style": None, "p:neck": None, "p:style": None},
    ]
    write_predictions(frame, tmp_path / "p.csv")
    assert rows_of(tmp_path / "p.csv") == [
        ["filename", "neck", "style", "p:neck", "p:style"],
        ["é, x.jpg", "round", "plain|casual", "0.9", "0.7|0.6"],
        ["b.jpg", "#N/A", "#N/A", "", ""],
    ]


def test_predictions_as_dicts_hold_decided_keys_only(tmp_path: Path) -> None:
    P = np.array([[0.9, 0.1, 0.7, 0.6], [0.4, 0.6, 0.2, 0.1]], np.float32)
    D = np.array([[1, 0, 1, 1], [0, 0, 0, 0]], bool)
    frame = as_dicts(prediction_frame(["é, x.jpg", "b.jpg"], P, D, SCHEMA))
    write_predictions(frame, tmp_path / "p.csv")
    assert rows_of(tmp_path / "p.csv") == [
        ["filename", "predictions"],
        ["é, x.jpg", "{'neck': ['round'], 'style': ['plain', 'casual']}"],
        ["b.jpg", "{}"],
    ]
    write_predictions(as_dicts(prediction_frame(["a.jpg"], P[:1], D[:1], SCHEMA, True)), tmp_path / "p.jsonl")
    assert json.loads((tmp_path / "p.jsonl").read_text()) == {
        "filename": "a.jpg",
        "predictions": {"neck": ["round"], "style": ["plain", "casual"]},
        "probabilities": {"neck": [0.9], "style": [0.7, 0.6]},
    }


@pytest.mark.parametrize(("layout", "dicts"), [("auto", True), ("dict", True), ("columns", False)])
def test_a_model_of_format_b_answers_in_its_form(
    photos: Path, origin: FeatureOrigin, tmp_path: Path, layout: Literal["auto", "dict", "columns"], dicts: bool
) -> None:
    schema = replace(SCHEMA, attributes=("category", "style"), category_attribute="category")
    rng = np.random.default_rng(1)
    member = {"kind": "dense", "layers": [(rng.normal(size=(96, 4)) * 3, rng.normal(size=4))], "hidden": "relu"}
    decision = Decision([0, 0, 0.5, 0.5], "best")
    model = build_model(schema, Parts([member], ["softmax", "sigmoid"]), decision, origin, rng.normal(size=(4, 96)))
    save_model(model, tmp_path / "b.joblib")
    predict([photos / "a.jpg"], tmp_path / "b.joblib", replace(EAGER, out=tmp_path / "p.csv", layout=layout))
    header, row = rows_of(tmp_path / "p.csv")
    assert header == (["filename", "predictions"] if dicts else ["filename", "category", "style"])
    said = ast.literal_eval(row[1])["category"] if dicts else [row[1]]
    assert said in (["round"], ["v"])


def test_other_suffixes_are_refused_before_any_work(model_path: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"go to a \.csv or \.jsonl file, found 'p\.xlsx'"):
        predict(["nowhere"], model_path, PredictOptions(out=tmp_path / "p.xlsx"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("weights_sha256", "0" * 64, "weights_sha256: fitted on '000"),
        ("mean", [0.1, 0.2, 0.3], r"mean: fitted on \[0.1, 0.2, 0.3\], found \[0.5, 0.5, 0.5\]"),
        ("pixel_policy", 99, "pixel_policy: fitted on 99, found"),
        ("layout", 0, "layout: fitted on 0, found"),
    ],
)
def test_a_backbone_that_differs_is_named(
    origin: FeatureOrigin, photos: Path, field: str, value: Any, message: str
) -> None:
    model = make_model(replace(origin, cache_key={**origin.cache_key, field: value}))
    with pytest.raises(ModelFileError, match=message):
        LoadedModel(Predictor(model, EAGER)).predict(photos)


def test_other_weights_are_refused(model_path: Path, tmp_path: Path) -> None:
    import torch

    torch.save(load_backbone(replace(BACKBONE, weights="random:1")).net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelFileError, match="weights_sha256: fitted on"):
        _ = pipeline.load_model(model_path, weights=tmp_path / "w.pth").predictor.feature_source.backbones


def test_a_copy_of_the_weights_is_accepted(origin: FeatureOrigin, tmp_path: Path) -> None:
    import torch

    torch.save(load_backbone(BACKBONE).net.state_dict(), tmp_path / "w.pth")
    model = make_model(replace(origin, weights_source="/gone/weights.pth"))
    with pytest.raises(BackboneError, match="name a copy of them with --weights"):
        _ = Predictor(model, EAGER).feature_source.backbones
    copied = Predictor(model, replace(EAGER, weights=(tmp_path / "w.pth",)))
    assert copied.feature_source.backbones[0].name == "test_resnet"


def test_precision_is_a_note_not_an_error(origin: FeatureOrigin, photos: Path) -> None:
    backbone = load_backbone(BACKBONE)
    attribute = base_key(backbone, "half")
    block = backbone.blocks(["pooled"])["pooled"]
    check_cache_key(attribute.to_json(), base_key(backbone))
    blocks = [{"name": "pooled", "dim": block.dim, "digest": block.digest(attribute)}]
    model = make_model(replace(origin, cache_key=attribute.to_json(), blocks=blocks))
    done = LoadedModel(Predictor(model, EAGER)).predict_photos(photos / "a.jpg")
    assert any("fitted on half vectors, predicted from fp32 ones" in note for note in done.notes)


def test_another_block_of_the_same_name_is_refused(origin: FeatureOrigin) -> None:
    model = make_model(replace(origin, blocks=[{**origin.blocks[0], "digest": "ab" * 32}]))
    with pytest.raises(ModelFileError, match="another block 'pooled': 96 numbers, digest abababababab"):
        _ = Predictor(model, EAGER).feature_source.backbones


def test_photos_may_be_files_folders_and_patterns(photos: Path) -> None:
    assert find_photos([photos / "more"]) == (["c.jpg"], [str(photos / "more" / "c.jpg")])
    names, paths = find_photos([str(photos / "*.png"), photos / "a.jpg", photos / "b.png"])
    assert names == paths == [str(photos / "b.png"), str(photos / "a.jpg")]
    _, every = find_photos([str(photos / "**" / "*")])
    assert [Path(path).name for path in every] == ["a.jpg", "b.png", "broken.jpg", "c.jpg"]


def test_photos_that_are_not_there(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no such photo or folder: .*absent\.jpg"):
        find_photos([photos / "a.jpg", tmp_path / "absent.jpg"])
    with pytest.raises(OptionError, match="no photo found in"):
        find_photos([tmp_path])


def test_a_table_is_no_photo_and_a_photo_may_be_called_anything(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "p1000.csv").write_text("filename,neck\na.jpg,v\n")
    with pytest.raises(
        OptionError, match=r"is no photo \(not an image in a known format\); .*evaluate --data .*p1000\.csv"
    ):
        find_photos([photos / "a.jpg", tmp_path / "p1000.csv"])
    odd, bare = tmp_path / "a.upload", tmp_path / "a"
    for name in (odd, bare):
        name.write_bytes((photos / "a.jpg").read_bytes())
    assert find_photos([odd, bare])[1] == [str(odd), str(bare)]


def test_what_is_no_model_is_not_to_be_copied_again(model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Selvedge\n")
    with pytest.raises(ModelFileError, match=r"README\.md is no model file: .*runs/first/models/best\.joblib$"):
        Predictor(tmp_path / "README.md")
    (tmp_path / "models").mkdir()
    shutil.copy(model_path, tmp_path / "models" / "best.joblib")
    with pytest.raises(ModelFileError, match=r"is a run folder, its best model is .*best\.joblib"):
        Predictor(tmp_path)


def test_front_door_is_lazy() -> None:
    import subprocess
    import sys

    code = "import sys, pipeline\nassert 'numpy' not in sys.modules\nassert callable(pipeline.load_model)\n"
    code += "assert not {'torch', 'pandas', 'joblib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    with pytest.raises(AttributeError, match="no attribute 'load_modell'"):
        _ = pipeline.load_modell  # type: ignore[attr-defined]


@pytest.mark.parametrize(("sound", "code"), [(False, 1), (True, 0)])
def test_the_command_fails_where_every_photo_was_rejected(
    photos: Path, model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], sound: bool, code: int
) -> None:
    (tmp_path / "one.jpg").write_bytes(b"no photo")
    (tmp_path / "two.jpg").write_bytes((photos / ("a.jpg" if sound else "broken.jpg")).read_bytes())
    out = tmp_path / "p.csv"
    words = ["predict", str(tmp_path), "--model", str(model_path), "--out", str(out), "--device", "cpu"]
    assert main([*words, "--runtime", "torch", "--workers", "1"]) == code
    said = capsys.readouterr()
    assert f"predict: 2 photos, {2 - sound} rejected" in said.out
    assert "rejected one.jpg: not an image in a known format" in said.out
    line = f"error: every photo was rejected (2 of 2); {out} says #N/A of each\n"
    assert said.err.endswith(line) if code else "error" not in said.err
    assert rows_of(out)[1] == ["one.jpg", "#N/A", "#N/A"] and len(rows_of(out)) == 3


def test_values_are_told_as_text_list_or_nothing() -> None:
    schema = LabelSchema(("neck", "sleeve"), (("round", "v", UNKNOWN), ("long", "short")), (True, False))
    D = np.array([[1, 0, 0, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]], np.bool_)
    assert decided_values(D, schema) == [
        {"neck": "round", "sleeve": ["long", "short"]},
        {"neck": None, "sleeve": None},
        {"neck": None, "sleeve": ["short"]},
    ]
