"""The command `export`, what takes its folder, and the programs of docs/EXCHANGE.md as they stand there."""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import SGDClassifier
from sklearn.multioutput import MultiOutputClassifier

from pipeline.cli.main import main
from pipeline.exchange.export import export_model
from pipeline.features.backbone.transform import Transform, square
from pipeline.model.file import decisions, proba, save_model
from pipeline.model.folder.preprocessing import preprocessing
from pipeline.model.predictor import Predictor, load_model
from pipeline.options import ModelExportOptions, PredictOptions
from tests.exchange.models import model_of
from tests.model.snippet import SNIPPET

PAGE = Path(__file__).resolve().parents[2] / "docs" / "EXCHANGE.md"
READING, ONNX = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos and model files."""
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(5)
    for i in range(8):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 5, 3)).astype(np.uint8))
        coarse.resize((60, 80), Image.Resampling.BICUBIC).save(tmp_path / "photos" / f"{i}.jpg", quality=95)
    for name in ("linear", "lightgbm", "logreg", "ensemble"):
        save_model(model_of(name), tmp_path / f"{name}.joblib")
    monkeypatch.chdir(tmp_path)
    return tmp_path


PREDICT = "--device cpu --runtime torch --probabilities"


@pytest.mark.parametrize("name", ["linear", "lightgbm", "logreg", "ensemble"])
def test_predict_takes_the_folder(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"export {name}.joblib --to {name}".split()) == 0
    digest = re.search(r"model\.json has SHA-256 ([0-9a-f]{64})", capsys.readouterr().out)
    assert digest is not None
    assert main(f"predict --model {name}.joblib photos --out file.csv {PREDICT}".split()) == 0
    assert main(f"predict --model {name} photos --out folder.csv --sha256 {digest[1]} {PREDICT}".split()) == 0
    assert (place / "file.csv").read_text() == (place / "folder.csv").read_text()
    assert main(f"predict --model {name} photos --out folder.csv --sha256 {'0' * 64} {PREDICT}".split()) == 1
    assert "the model was not loaded" in capsys.readouterr().err


def test_evaluate_and_load_model_take_the_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "linear.joblib", "--to", "exported"]) == 0
    rows = "\n".join(f"{i}.jpg,v{i % 3},v{i % 2}" for i in range(8))
    (place / "labelled.csv").write_text(f"filename,a0,a1\n{rows}\n")
    words = "evaluate --model linear.joblib,exported --data labelled.csv --images photos --device cpu --runtime torch"
    assert main([*words.split(), "--out", "tried", "--bootstrap", "20", "--json", "tried.json"]) == 0
    of_file, of_folder = (each["metrics"] for each in json.loads((place / "tried.json").read_text())["candidates"][:2])
    assert of_file == of_folder
    paths = sorted((place / "photos").iterdir())
    assert load_model("exported").predict(paths).equals(load_model("linear.joblib").predict(paths))


def test_a_folder_that_is_there_is_left_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "mine").mkdir()
    (place / "mine" / "letter.txt").write_text("dear")
    assert main(["export", "linear.joblib", "--to", "mine"]) == 1
    assert "error: mine is already there; name another folder with --to, or remove it" in capsys.readouterr().err
    assert [path.name for path in (place / "mine").iterdir()] == ["letter.txt"]
    (place / "here").mkdir()
    with contextlib.chdir(place / "here"):
        assert main(["export", "../linear.joblib", "--to", "."]) == 1
    assert "error: . is already there; name another folder" in capsys.readouterr().err
    assert main(["export", "linear.joblib"]) == 1
    assert "no folder is named; name one with --to" in capsys.readouterr().err


def test_what_cannot_be_exported_leaves_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    X = np.random.default_rng(0).normal(size=(40, 96))
    other = MultiOutputClassifier(SGDClassifier(loss="log_loss")).fit(X, (X[:, :9] > 0).astype(int))
    model = {**model_of("linear"), "members": [{"kind": "estimator", "estimator": other}]}
    model["selftest"] = {**model["selftest"], "P": proba(model, model["selftest"]["X"])}
    model["selftest"]["decisions"] = decisions(model, model["selftest"]["P"])
    save_model(model, place / "other.joblib")
    assert main(["export", "other.joblib", "--to", "exported"]) == 1
    assert "only logistic regression and LightGBM can be kept without a pickle" in capsys.readouterr().err
    assert not [path for path in place.iterdir() if "exported" in path.name]


def test_onnx_without_its_library_says_what_to_install(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def absent(name: str, *more: Any) -> Any:
        if name == "onnx":
            raise ImportError("No module named 'onnx'", name="onnx")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", absent)
    assert main(["export", "linear.joblib", "--to", "exported", "--onnx"]) == 1
    assert "--onnx needs the package 'onnx': pip install -r requirements-onnx.txt" in capsys.readouterr().err
    assert not (place / "exported").exists()


def test_the_page_reads_the_folder_into_the_model_of_the_other_page(place: Path) -> None:
    model = model_of("ensemble")
    model = {**model, "members": [member for member in model["members"] if member["kind"] != "estimator"]}
    P = proba(model, model["selftest"]["X"])
    model["selftest"] = {"X": model["selftest"]["X"], "P": P, "decisions": decisions(model, P)}
    save_model(model, place / "m.joblib")
    export_model(place / "m.joblib", ModelExportOptions(place / "exported"))
    functions = SNIPPET.partition("\n\nmodel = ")[0]
    names: dict[str, Any] = {}
    exec(compile(functions, "MODEL_FILE.md", "exec"), names)
    exec(compile(READING, PAGE.name, "exec"), names)
    X = np.random.default_rng(0).normal(size=(6, 2, model["selftest"]["X"].shape[1])).astype(np.float32)
    ours = Predictor(model, PredictOptions(device="cpu")).probabilities(X.transpose(1, 0, 2))
    np.testing.assert_allclose(names["predict_proba"](names["model"], X), ours, atol=1e-6)


def test_the_fifteen_lines_of_the_page_decide_as_predict_does(place: Path) -> None:
    pytest.importorskip("onnx", reason="pip install -r requirements-onnx.txt")
    pytest.importorskip("onnxruntime", reason="pip install -r requirements-onnx.txt")
    coarse = Image.fromarray(np.random.default_rng(6).integers(0, 256, (6, 5, 3)).astype(np.uint8))
    picture, turned, seen = coarse.resize((60, 80), Image.Resampling.BICUBIC), Image.Exif(), Image.new("L", (60, 80))
    seen.paste(255, (20, 30, 50, 70))
    turned[0x0112] = 6
    picture.save(place / "photos" / "turned.jpg", exif=turned)
    picture.quantize(16).save(place / "photos" / "palette.png")
    picture.putalpha(seen)
    picture.save(place / "photos" / "seen_through.png")
    code = ONNX[ONNX.index("said = ") :]
    assert len(code.strip().splitlines()) <= 15 and "pipeline" not in ONNX
    assert main(["export", "linear.joblib", "--to", "exported", "--onnx"]) == 0
    said = io.StringIO()
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(said):
        exec(compile(ONNX, PAGE.name, "exec"), names)
    predictor = Predictor("linear.joblib", PredictOptions(device="cpu", runtime="torch"))
    paths = sorted((place / "photos").iterdir())
    ours = predictor.predict(paths)
    lines = [line.split() for line in said.getvalue().splitlines()]
    assert [line[0] for line in lines] == [path.name for path in paths] and len(paths) == 11
    listed = [[p for values in row.values() for p in values.values()] for row in predictor.predict_proba(paths)]
    np.testing.assert_allclose(names["P"], listed, atol=0.01)
    for (_, *decided), values in zip(lines, ours, strict=True):
        several = {k: v if isinstance(v, list) else [v] for k, v in values.items() if v is not None}
        assert decided == [f"{attribute}={value}" for attribute, listed in several.items() for value in listed]
    assert len({tuple(line[1:]) for line in lines}) > 1, "not the same for every photo"


@pytest.mark.parametrize("mode", ["squash", "pad", "crop"])
@pytest.mark.parametrize(("width", "height"), [(60, 80), (80, 45), (33, 33), (200, 20)])
def test_the_manifest_says_what_becomes_of_a_photo(mode: str, width: int, height: int) -> None:
    """Its words, followed with Pillow, give the square that the network sees, but for rounding."""
    key = {"size": 32, "fit": mode, "interpolation": "bicubic", "mean": (0.5, 0.25, 0.1), "std": (1, 1, 1)}
    key["interpolation"] += " (keeps 0.875)" if mode == "crop" else ""
    how = preprocessing(key)
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)).resize((width, height))
    ours = square(np.asarray(photo), Transform(32, mode, "bicubic", (0.5, 0.25, 0.1), (1, 1, 1), 0.875))
    made = np.asarray(_followed(how, photo)).astype(int)
    assert np.abs(made - ours).max() <= 2


def _followed(how: dict[str, Any], photo: Image.Image) -> Image.Image:
    size, bicubic = how["size"], Image.Resampling[how["interpolation"].upper()]
    (width, height), short = photo.size, min(photo.size)
    if how["resize"] == "squash":
        return photo.resize((size, size), bicubic)
    if how["resize"] == "pad":
        scale = size / max(width, height)
        inner = [max(1, round(side * scale)) for side in (width, height)]
        whole = Image.new("RGB", (size, size), tuple(how["pad_colour"]))
        whole.paste(photo.resize(inner, bicubic), ((size - inner[0]) // 2, (size - inner[1]) // 2))
        return whole
    photo = _middle(photo, min(width, 8 * short), min(height, 8 * short))
    (width, height), short = photo.size, min(photo.size)
    resized = [how["resize_to"] if side == short else int(how["resize_to"] * side / short) for side in (width, height)]
    return _middle(photo.resize(resized, bicubic), size, size)


def _middle(photo: Image.Image, width: int, height: int) -> Image.Image:
    left, top = round((photo.width - width) / 2), round((photo.height - height) / 2)
    return photo.crop((left, top, left + width, top + height))
