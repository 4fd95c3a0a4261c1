"""From squares of pixels to the features of a model, as a graph that PyTorch writes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor

from pipeline.exchange.graphs.colour import ColourModule
from pipeline.exchange.graphs.graph import IR_VERSION, OPSET, Refused
from pipeline.exchange.graphs.head import FEATURES
from pipeline.features.backbone.blocks import NETWORK_BLOCKS
from pipeline.features.backbone.network import Backbone
from pipeline.features.backbone.network.module import freeze
from pipeline.features.vectors.origin import Origin, origins_of
from pipeline.system import parsed

PHOTOS = "photos"

_FLIPS: Mapping[str, tuple[int, ...]] = {"identity": (), "hflip": (2,), "vflip": (1,)}


def photo_inputs(model: Mapping[str, Any]) -> list[str]:
    """Names of the inputs: `photos`, or `photos_0` and so on for several backbones."""
    count = len(origins_of(model))
    return [PHOTOS] if count == 1 else [f"{PHOTOS}_{i}" for i in range(count)]


class FeaturesModule(torch.nn.Module):
    """Per backbone uint8 (n, s, s, 3), RGB, to the features of a model, float32 (n, v d), one view after the other.

    Args:
        model: A checked model dict.
        backbones: Its backbones, in its order.
    """

    def __init__(self, model: Mapping[str, Any], backbones: Sequence[Backbone]) -> None:
        super().__init__()
        self.views = tuple(model["views"])
        pairs = zip(origins_of(model), backbones, strict=True)
        self.sources = torch.nn.ModuleList(_SourceModule(origin, backbone) for origin, backbone in pairs)

    def forward(self, *photos: Tensor) -> Tensor:
        """See the class."""
        # All views in one pass: the network stands in the graph once.
        made = [
            source(torch.cat([torch.flip(pixels, _FLIPS[view]) if _FLIPS[view] else pixels for view in self.views]))
            for source, pixels in zip(self.sources, photos, strict=True)
        ]
        rows = torch.cat(made, dim=1)
        return rows.reshape(len(self.views), -1, rows.shape[1]).permute(1, 0, 2).flatten(1)


class _SourceModule(torch.nn.Module):
    """The blocks of one backbone, side by side."""

    def __init__(self, origin: Origin, backbone: Backbone) -> None:
        super().__init__()
        self.names = tuple(str(block["name"]) for block in origin.blocks)
        network = [name for name in self.names if name in NETWORK_BLOCKS]
        self.network = backbone.module(network) if network else None
        self.colour = ColourModule(backbone.transform.size) if len(network) < len(self.names) else None

    def forward(self, pixels: Tensor) -> Tensor:
        blocks = {} if self.network is None else dict(self.network(pixels))
        if self.colour is not None:
            blocks["colour"] = self.colour(pixels)
        return torch.cat([blocks[name] for name in self.names], dim=1)


def network_model(model: Mapping[str, Any], backbones: Sequence[Backbone]) -> onnx.ModelProto:
    """The graph of a model's features: an input of uint8 pixels per backbone, the output `features`.

    Args:
        model: A checked model dict.
        backbones: Its backbones, in its order.

    Raises:
        Refused: PyTorch cannot write it.
    """
    module, stream = freeze(FeaturesModule(model, backbones)), io.BytesIO()
    # Two photos: of one, PyTorch may make a constant.
    examples = tuple(
        torch.zeros(2, each.transform.size, each.transform.size, 3, dtype=torch.uint8) for each in backbones
    )
    inputs = photo_inputs(model)
    with torch.no_grad(), warnings.catch_warnings(), parsed(Refused, "PyTorch cannot write the network (", ")", 1):
        # Deprecated by PyTorch; its successor needs one more library and fifteen times as long.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            examples,
            stream,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=[FEATURES],
            dynamic_axes={name: {0: "n"} for name in (*inputs, FEATURES)},
        )
        made = onnx.load_from_string(stream.getvalue())
    made.ir_version = IR_VERSION
    return made
