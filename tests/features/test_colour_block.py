"""The block `colour` on its way: cached beside what the network gives, fitted on, predicted from."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cache import FeatureCache, id_array
from pipeline.cli.main import main
from pipeline.errors import OptionError
from pipeline.features.backbone.colour import COLOUR, colour_of
from pipeline.features.backbone.network import load_backbone
from pipeline.features.backbone.transform import to_pixels, view
from pipeline.features.embed import Embedder, EmbedOptions
from pipeline.features.extract import extract
from pipeline.features.runtimes.eager import EagerRuntime
from pipeline.model.file import proba, read_model
from pipeline.options import BackboneOptions, ExtractOptions

pytestmark = pytest.mark.usefixtures("one_thread")

BACKBONE = BackboneOptions(backbone="test_resnet", weights="random:0", size=32, resize="squash")
VIEWS = ("identity", "hflip")
HUES = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (40, 50, 190)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A catalogue of 45 plain photos, darker to one side, whose attribute is their colour."""
    images = tmp_path / "data" / "images"
    images.mkdir(parents=True)
    rng, rows = np.random.default_rng(0), []
    for i in range(45):
        name = list(HUES)[i % 3]
        pixels = np.array(HUES[name]) * np.linspace(0.6, 1.2, 40)[None, :, None] + rng.normal(0, 12, (44, 40, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(images / f"p{i:02}.png")
        rows.append((f"p{i:02}.png", name))
    with (tmp_path / "data" / "attributes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("filename", "colour"), *rows])
    return tmp_path / "data"


@pytest.fixture
def photos(data: Path) -> list[Path]:
    return sorted((data / "images").iterdir())


@pytest.fixture
def options(tmp_path: Path) -> ExtractOptions:
    return ExtractOptions(tmp_path / "features", runtime="torch", device="cpu", batch_size=4, workers=2)


@pytest.fixture
def no_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a forward pass ran")

    monkeypatch.setattr(EagerRuntime, "_run", refuse)


def expected(photos: list[Path], name: str) -> np.ndarray:
    transform = load_backbone(BACKBONE).transform
    return colour_of(view(np.stack([to_pixels(path.read_bytes(), transform) for path in photos]), name))


def cached(options: ExtractOptions, key: str, photos: list[Path], name: str) -> np.ndarray:
    reader = FeatureCache(options.cache).reader(key)
    (column,) = (c for c in reader.columns if (c.block.name, c.view) == ("colour", name))
    return reader.read(id_array(hashlib.sha256(path.read_bytes()).digest() for path in photos), [column])


def test_the_vectors_of_every_view_are_those_of_the_pixels_the_network_sees(
    photos: list[Path], options: ExtractOptions
) -> None:
    report = extract(photos, BACKBONE, replace(options, features=("pooled", "colour"), views=VIEWS))
    assert report.columns == tuple((b, v, d) for v in VIEWS for b, d in (("pooled", 96), ("colour", 250)))
    assert report.seconds["colour"] > 0
    for name in VIEWS:
        assert np.array_equal(cached(options, report.key, photos, name), expected(photos, name))
    assert not np.array_equal(expected(photos, "identity"), expected(photos, "hflip"))


def test_a_cache_of_the_other_blocks_gets_colour_without_a_forward_pass(
    photos: list[Path], options: ExtractOptions, request: pytest.FixtureRequest
) -> None:
    blocks = ("pooled", "levels")
    first = extract(photos, BACKBONE, replace(options, features=blocks, views=VIEWS))
    before = {path: path.read_bytes() for path in options.cache.rglob("*.h5")}
    request.getfixturevalue("no_forward_pass")
    second = extract(photos, BACKBONE, replace(options, features=(*blocks, "colour"), views=VIEWS))
    after = {path: path.read_bytes() for path in options.cache.rglob("*.h5")}
    assert second.key == first.key
    assert second.written == 45
    assert {path: after[path] for path in before} == before
    assert second.runtime.startswith("no network, batches of 4")
    assert np.array_equal(cached(options, second.key, photos, "hflip"), expected(photos, "hflip"))
    assert extract(photos, BACKBONE, replace(options, features=(*blocks, "colour"), views=VIEWS)).written == 0


@pytest.mark.usefixtures("no_forward_pass")
def test_without_a_forward_pass_none_is_timed(
    photos: list[Path], options: ExtractOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.features.engines.local._PROBE_AFTER", 0.0)
    report = extract(photos, BACKBONE, replace(options, features=("colour",)))
    assert (report.written, report.forward_per_second) == (45, None)


def test_other_weights_see_the_same_colours_under_another_key(
    photos: list[Path], options: ExtractOptions, tmp_path: Path
) -> None:
    weights = tmp_path / "tuned.pth"
    torch.save(load_backbone(replace(BACKBONE, weights="random:1")).net.state_dict(), weights)
    asked = replace(options, features=("colour",))
    keys = [extract(photos, replace(BACKBONE, weights=w), asked).key for w in ("random:0", str(weights))]
    assert keys[0] != keys[1]
    one, other = (cached(options, key, photos, "identity") for key in keys)
    assert np.array_equal(one, other)


def test_no_model_is_converted_for_colour(photos: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    store, backbone = tmp_path / "runtimes", load_backbone(BACKBONE)
    feeding = EmbedOptions("cpu", "openvino", batch_size=4, store=store)
    Embedder(backbone, ("colour",), VIEWS, feeding)
    assert not store.exists()
    Embedder(backbone, ("pooled", "levels"), VIEWS, feeding)
    converted = sorted(store.iterdir())
    assert len(converted) == 1
    asked = Embedder(backbone, ("pooled", "levels", "colour"), VIEWS, feeding)
    assert asked.runtime.blocks == ("pooled", "levels")
    assert sorted(store.iterdir()) == converted
    (batch,) = asked(photos[:3])
    assert np.array_equal(batch.features["colour", "hflip"], expected(photos[:3], "hflip"))


def test_every_network_has_it_and_none_computes_it() -> None:
    """A model that gives no feature maps too."""
    backbone = load_backbone(BackboneOptions("crossvit_9_240", "random:0"))
    assert backbone.blocks(["pooled", "colour"])["colour"] == COLOUR
    with pytest.raises(OptionError, match="block 'colour' is computed from the pixels; no network gives it"):
        backbone.module(["pooled", "colour"])


@pytest.mark.parametrize("use", [["--use", "pooled,colour"], []])
def test_a_model_fitted_on_it_predicts_from_photos(data: Path, tmp_path: Path, use: list[str]) -> None:
    """Extract, fit, export and predict as commands; without `--use`, colour is used because it is there."""
    cache, run, out = (str(tmp_path / name) for name in ("features", "run", "p.csv"))
    common = ["--data", str(data), "--cache", cache]
    network = ["--backbone", "test_resnet", "--weights", "random:0", "--size", "32"]
    assert main(["extract", *common, *network, "--features", "pooled,colour", "--views", "identity,hflip"]) == 0
    heads = ["--heads", "linear", "--optimizers", "adam", "--lr", "0.01", "--epochs", "30"]
    assert main(["fit-heads", *common, *heads, *use, "--views", "identity,hflip", "--out", run]) == 0
    path = Path(run) / "models" / "best.joblib"
    model = read_model(path)
    assert [(block["name"], block["dim"]) for block in model["blocks"]] == [("pooled", 96), ("colour", 250)]
    assert main(["predict", str(data / "images"), "--model", str(path), "--probabilities", "--out", out]) == 0
    frame = pd.read_csv(out).set_index("filename")
    assert (frame["colour"] == [list(HUES)[i % 3] for i in range(45)]).all()
    assert main(["cache", "export", *common, "--model", str(path), "--out", str(tmp_path / "x.h5")]) == 0
    with h5py.File(tmp_path / "x.h5") as file:
        X, names = file["features"][()], file["filename"].asstr()[()]
    P = np.mean([proba(model, part) for part in np.split(X, 2, axis=1)], axis=0)
    np.testing.assert_allclose(frame.loc[names, "p:colour"], P.max(axis=1), atol=1e-4)
