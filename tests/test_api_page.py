"""docs/API.md cannot rot: its examples run, on a tiny network and a model that always says the same."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import Column, FeatureCache
from pipeline.catalogue.labels import LabelSchema
from pipeline.features.backbone.network import base_key, load_backbone
from pipeline.features.embed import EmbedOptions
from pipeline.features.runtimes.forward import ForwardPass
from pipeline.model.file import Decision, FeatureOrigin, Parts, build_model, save_model
from pipeline.model.predictor import LoadedModel, Predictor
from pipeline.options import BackboneOptions

PAGE = Path(__file__).resolve().parents[1] / "docs" / "API.md"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page names."""
    schema = LabelSchema(("neck", "style"), (("round", "v"), ("plain", "casual")), (True, False))
    backbone = load_backbone(BackboneOptions("test_resnet", "random:0", 32))
    key, block = base_key(backbone), backbone.blocks(["pooled"])["pooled"]
    origin = FeatureOrigin(
        [{"name": "pooled", "dim": block.dim, "digest": block.digest(key)}], key.to_json(), "random:0"
    )
    bias = np.array([np.log(9), 0, 1, 1], np.float32)
    member = {"kind": "dense", "layers": [(np.zeros((block.dim, 4), np.float32), bias)], "hidden": "relu"}
    parts = Parts([member], ["softmax", "sigmoid"])
    model = build_model(schema, parts, Decision([0, 0, 0.5, 0.5], "best"), origin, np.zeros((4, block.dim), np.float32))
    save_model(model, tmp_path / "best.joblib")
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)
    for name in ("a.jpg", "b.png"):
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    monkeypatch.chdir(tmp_path)
    X = ForwardPass(backbone, ["pooled"], ["identity"], EmbedOptions("cpu", "torch"))
    cache = FeatureCache("features")
    ids, _ = cache.files.ids(sorted((tmp_path / "photos").iterdir()))
    column = Column(block)
    with cache.writer(key) as writer:
        writer.append(ids, {column: X(np.zeros((2, 32, 32, 3), np.uint8))["pooled", "identity"]})
    return tmp_path


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_every_example_of_the_page_runs(place: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    examples = "\n".join(re.findall(r"```python\n(>>> .*?)```", page, re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 25
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    said: list[str] = []
    runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)


def test_the_page_names_every_public_method() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in ("predict", "predict_proba", "features"):
        assert f"| `{name}` |" in page and callable(getattr(Predictor, name))
    assert "predict_photos" in page and callable(LoadedModel.predict_photos)
