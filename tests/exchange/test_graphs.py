"""ONNX graphs: what they say is what we say, at any number of photos, and what is not so is not written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="pip install -r requirements-onnx.txt")
ort = pytest.importorskip("onnxruntime", reason="pip install -r requirements-onnx.txt")

from pipeline.catalogue.labels import UNKNOWN, LabelSchema  # noqa: E402
from pipeline.evaluation.thresholds import decide  # noqa: E402
from pipeline.exchange.graphs.colour import ColourModule  # noqa: E402
from pipeline.exchange.graphs.graph import Refused  # noqa: E402
from pipeline.exchange.graphs.head import head_model  # noqa: E402
from pipeline.exchange.graphs.verify import largest_difference  # noqa: E402
from pipeline.exchange.graphs.write import write_graphs  # noqa: E402
from pipeline.features.backbone.colour import colour_of  # noqa: E402
from pipeline.features.backbone.network import Backbone  # noqa: E402
from pipeline.model.file import Decision, FeatureOrigin, Parts, build_model  # noqa: E402
from pipeline.model.predictor import Predictor  # noqa: E402
from pipeline.options import PredictOptions  # noqa: E402
from tests.exchange.models import NAMES, model_of, pictures  # noqa: E402

CPU = PredictOptions(device="cpu", runtime="torch")


def run(path: Path, **inputs: Any) -> tuple[np.ndarray, np.ndarray]:
    P, D = ort.InferenceSession(str(path)).run(["probabilities", "decisions"], inputs)
    return P, D


@pytest.mark.parametrize("name", [name for name in NAMES if name != "lightgbm"])
def test_the_head_says_what_the_model_says(name: str, tmp_path: Path) -> None:
    predictor = Predictor(model_of(name), CPU)
    (report,) = [each for each in write_graphs_of_the_head(predictor, tmp_path) if each.name == "head.onnx"]
    assert report.reason == "" and report.difference is not None and report.difference < 1e-4
    views, width = len(predictor.model["views"]), predictor.model["selftest"]["X"].shape[1]
    X = np.random.default_rng(2).normal(size=(5, views, width)).astype(np.float32)
    P, D = run(tmp_path / "head.onnx", features=X.reshape(5, -1))
    np.testing.assert_allclose(P, predictor.probabilities(X.transpose(1, 0, 2)), atol=1e-5)
    assert (decide(P, predictor.schema, predictor.model["thresholds"]) == D).all()


def write_graphs_of_the_head(predictor: Predictor, folder: Path) -> Any:
    """Both graphs of a model whose backbone is not to be had: the network's is refused at once."""
    lost = {**predictor.model, "weights_source": "random:none"}
    lost = (
        lost if "sources" not in lost else {**lost, "sources": [{**s, "weights_source": "no"} for s in lost["sources"]]}
    )
    reports = write_graphs(Predictor(lost, CPU), folder)
    assert reports[1].name == "model.onnx" and reports[1].reason
    assert not (folder / "model.onnx").exists()
    return reports


def test_trees_are_refused_with_the_reason(tmp_path: Path) -> None:
    head, whole = write_graphs(Predictor(model_of("lightgbm"), CPU), tmp_path)
    for report in (head, whole):
        assert "LightGBM's trees have no graph here" in report.reason
        assert report.to_json() == {"refused": report.reason}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["ensemble", "backbones"])
def test_the_whole_graph_takes_photos(name: str, tmp_path: Path) -> None:
    """Two views of three blocks, `colour` among them; and two networks of different sizes."""
    predictor = Predictor(model_of(name), CPU)
    _, report = write_graphs(predictor, tmp_path)
    assert report.reason == ""
    sizes = [int(shape[1]) for shape in report.inputs.values()]
    photos = [pictures(size, 3) for size in sizes]
    for count in (1, 3):
        P, _ = run(tmp_path / "model.onnx", **{n: p[:count] for n, p in zip(report.inputs, photos, strict=True)})
        if len(sizes) == 1:
            ours = predictor.predict_proba(list(photos[0][:count]))
            wanted = np.array([[p for values in row.values() for p in values.values()] for row in ours])
            np.testing.assert_allclose(P, wanted, atol=1e-4)
        assert P.shape == (count, 9)


def test_a_network_that_cannot_be_written_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Strange(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"pooled": torch.linalg.eigvals(pixels.float()[:, :, :32, 0]).real.repeat(1, 3)}

    monkeypatch.setattr(Backbone, "module", lambda self, names: Strange())
    head, whole = write_graphs(Predictor(model_of("linear"), CPU), tmp_path)
    assert not head.reason and whole.reason.startswith("PyTorch cannot write the network (")
    assert "\n" not in whole.reason
    assert [path.name for path in tmp_path.iterdir()] == ["head.onnx"]


def test_a_graph_that_says_something_else_is_refused() -> None:
    model = model_of("linear")
    W, b = model["members"][0]["layers"][0]
    other = {**model, "members": [{**model["members"][0], "layers": [(W, b + 0.01)]}]}
    predictor, X = Predictor(model, CPU), model["selftest"]["X"]

    def batch(count: int) -> Any:
        return {"features": np.resize(X, (count, X.shape[1]))}, predictor.probabilities(
            np.resize(X, (count, X.shape[1]))
        )

    assert largest_difference(head_model(model), model, batch) < 1e-6
    with pytest.raises(Refused, match=r"its probabilities differ from ours by 0\.0.* at a batch of 1; at most 0\.0001"):
        largest_difference(head_model(other), model, batch)
    with pytest.raises(Refused, match="its decisions are others than ours at a batch of 1"):
        largest_difference(head_model({**model, "thresholds": model["thresholds"] + 2}), model, batch)
    with pytest.raises(Refused, match="ONNX Runtime cannot run it"):
        largest_difference(head_model(model), model, lambda n: ({"features": X[:, :5]}, batch(n)[1]))


GATED = LabelSchema(
    attributes=("category", "neck", "style"),
    values=(("shirt", "skirt", "hat"), ("round", "v", UNKNOWN), ("plain", UNKNOWN, "sporty")),
    single=(True, True, False),
    gate={"shirt": ("neck", "style"), "skirt": ("style",)},
    category_attribute="category",
)


@pytest.fixture(scope="module", params=[True, False])
def deciding(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A head whose probabilities are a sigmoid of its features, in ONNX Runtime; and its model."""
    schema = replace(GATED, single=(request.param, True, False))
    member = {"kind": "dense", "layers": [(np.eye(9), np.zeros(9))], "hidden": "relu"}
    origin = FeatureOrigin([{"name": "pooled", "dim": 9, "digest": "aa"}], {}, "random:0")
    parts = Parts([member], ["sigmoid"] * 3)
    model = build_model(
        schema, parts, Decision(np.linspace(0.3, 0.5, 9), "per-label"), origin, np.eye(9, dtype=np.float32)
    )
    return ort.InferenceSession(head_model(model).SerializeToString()), model, schema


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.lists(st.sampled_from([-2.0, -0.6, -0.2, 0.0, 0.0, 1.0]), min_size=9, max_size=9), min_size=1, max_size=6
    )
)
def test_decisions_follow_the_one_rule(deciding: Any, rows: list[list[float]]) -> None:
    """Ties, unknown values, a gate with a category that it does not list, and with several categories at once."""
    session, model, schema = deciding
    P, D = session.run(["probabilities", "decisions"], {"features": np.array(rows, np.float32)})
    assert (decide(P, schema, model["thresholds"]) == D).all()


@pytest.mark.parametrize("size", [7, 32, 56, 100])
def test_colour_in_the_graph_is_the_block(size: int) -> None:
    rng = np.random.default_rng(size)
    photos = rng.integers(0, 256, (4, size, size, 3)).astype(np.uint8)
    photos[1] = photos[1, :, :, :1]
    photos[2] = 255 * (photos[2] > 128)
    assert (ColourModule(size)(torch.from_numpy(photos)).numpy() == colour_of(photos)).all()
