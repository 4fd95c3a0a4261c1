"""`head.onnx` and `model.onnx` of a model, each written where it gives what we give, else said why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pipeline.arrays import Float32
from pipeline.errors import PipelineError
from pipeline.exchange.graphs.graph import IR_VERSION
from pipeline.exchange.graphs.head import FEATURES, head_model
from pipeline.exchange.graphs.network import network_model, photo_inputs
from pipeline.exchange.graphs.verify import largest_difference, sample_pictures
from pipeline.features.embed import EmbedOptions
from pipeline.features.runtimes.forward import ForwardPass
from pipeline.features.vectors.origin import origins_of
from pipeline.model.predictor import Predictor
from pipeline.system import file_digest

HEAD, WHOLE = "head.onnx", "model.onnx"


@dataclass(frozen=True)
class GraphReport:
    """What became of one graph.

    Attributes:
        name: Of its file.
        inputs: Name to shape, the number of photos as "n".
        difference: Largest difference of a probability from ours; None where it was not written.
        sha256: Of the file, "" where it was not written.
        reason: Why it was not written, "" where it was.
    """

    name: str
    inputs: Mapping[str, Sequence[str | int]]
    difference: float | None = None
    sha256: str = ""
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `model.json` says it."""
        if self.reason:
            return {"refused": self.reason}
        return {"sha256": self.sha256, "inputs": dict(self.inputs), "largest_difference": self.difference}


def write_graphs(predictor: Predictor, folder: Path) -> list[GraphReport]:
    """Write the graphs of a predictor's model into a folder; what cannot be written says why."""
    head = _written(folder / HEAD, predictor, _head_inputs(predictor.model), lambda: _head(predictor))
    return [head, _written(folder / WHOLE, predictor, _photo_inputs(predictor), lambda: _whole(predictor))]


_Batch = Callable[[int], tuple[Mapping[str, Any], Float32]]


def _written(
    path: Path,
    predictor: Predictor,
    inputs: Mapping[str, Sequence[str | int]],
    make: Callable[[], tuple[onnx.ModelProto, _Batch]],
) -> GraphReport:
    try:
        made, batch = make()
        difference = largest_difference(made, predictor.model, batch)
    except PipelineError as reason:
        return GraphReport(path.name, inputs, reason=str(reason))
    path.write_bytes(made.SerializeToString())
    return GraphReport(path.name, inputs, difference, file_digest(path))


def _head(predictor: Predictor) -> tuple[onnx.ModelProto, _Batch]:
    test, views = predictor.model["selftest"]["X"], len(predictor.model["views"])

    def batch(count: int) -> tuple[Mapping[str, Any], Float32]:
        rng = np.random.default_rng(count)
        # Between the rows of the self-test and a little around them: features as the model knows them.
        shares = rng.dirichlet(np.ones(len(test)), views * count)
        X = (shares @ test + 0.1 * test.std() * rng.normal(size=(len(shares), test.shape[1]))).astype(np.float32)
        X = X.reshape(count, views, -1)
        return {FEATURES: X.reshape(count, -1)}, predictor.probabilities(X.transpose(1, 0, 2))

    return head_model(predictor.model), batch


def _whole(predictor: Predictor) -> tuple[onnx.ModelProto, _Batch]:
    model, backbones = predictor.model, predictor.feature_source.backbones
    head = head_model(model)
    network = network_model(model, backbones)
    made = onnx.compose.merge_models(network, head, io_map=[(FEATURES, FEATURES)])
    made.ir_version, made.producer_name = IR_VERSION, head.producer_name
    views, origins = model["views"], origins_of(model)
    passes = [
        ForwardPass(backbone, [str(b["name"]) for b in origin.blocks], views, EmbedOptions("cpu", "torch"))
        for origin, backbone in zip(origins, backbones, strict=True)
    ]

    def batch(count: int) -> tuple[Mapping[str, Any], Float32]:
        pictures = sample_pictures([backbone.transform.size for backbone in backbones], count)
        blocks = [forward(pixels) for forward, pixels in zip(passes, pictures, strict=True)]
        X = [
            np.concatenate([blocks[i][b["name"], view] for i, o in enumerate(origins) for b in o.blocks], axis=1)
            for view in views
        ]
        return dict(zip(photo_inputs(model), pictures, strict=True)), predictor.probabilities(np.stack(X))

    return made, batch


def _head_inputs(model: Mapping[str, Any]) -> dict[str, Sequence[str | int]]:
    return {FEATURES: ["n", len(model["views"]) * sum(block["dim"] for block in model["blocks"])]}


def _photo_inputs(predictor: Predictor) -> dict[str, Sequence[str | int]]:
    sizes = [origin.cache_key.get("size", "s") for origin in origins_of(predictor.model)]
    return {name: ["n", size, size, 3] for name, size in zip(photo_inputs(predictor.model), sizes, strict=True)}
