"""A backbone with a head per attribute on its pooled vector, and what steps it: optimizer, rates and number types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.arrays import Float32
from pipeline.errors import OptionError
from pipeline.features.backbone.network import Backbone
from pipeline.features.backbone.network.module import FeatureModule
from pipeline.finetuning.network.stages import Part
from pipeline.options import FinetuneOptions

Layers = list[tuple[Float32, Float32]]

_HEAD_FASTER = 3.0
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
HEADS = "heads."
NET = "features.net."
"""Where the tensors of the heads and of the backbone are in a model's state."""


class AttributeHeads(torch.nn.Module):
    """Pooled vectors (b, d) to logits (b, L): one head per attribute, side by side.

    Args:
        width: d.
        sizes: Values per attribute.
        hidden: Units of each attribute's own hidden layer, with a ReLU behind it; 0 for a linear head.
        dropout: Share of what the last layer sees that is dropped while training.
    """

    def __init__(self, width: int, sizes: Sequence[int], hidden: int, dropout: float) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(width, hidden * len(sizes)) if hidden else None
        self.values = torch.nn.ModuleList(torch.nn.Linear(hidden or width, size) for size in sizes)
        self.dropout = torch.nn.Dropout(dropout)
        for layer in self.values:
            # The first step moves the heads alone, and no noise of random ones goes through the backbone.
            torch.nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, pooled: Tensor) -> Tensor:
        """(b, d) to (b, L)."""
        if self.hidden is None:
            seen = [self.dropout(pooled)] * len(self.values)
        else:
            seen = list(self.dropout(torch.relu(self.hidden(pooled))).chunk(len(self.values), dim=1))
        return torch.cat([layer(part) for layer, part in zip(self.values, seen, strict=True)], dim=1)


class Model(torch.nn.Module):
    """Backbone and heads: pixels (b, s, s, 3), 0 to 255, to logits (b, L)."""

    def __init__(self, backbone: Backbone, sizes: Sequence[int], options: FinetuneOptions) -> None:
        super().__init__()
        self.features = FeatureModule(backbone.net, backbone.transform, ("pooled",))
        width = backbone.blocks(("pooled",))["pooled"].dim
        hidden = options.hidden if options.head == "mlp" else 0
        self.heads = AttributeHeads(width, sizes, hidden, options.dropout)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (b, s, s, 3) to logits (b, L)."""
        pooled = self.features(pixels)["pooled"]
        with torch.autocast(pixels.device.type, enabled=False):
            logits: Tensor = self.heads(pooled)
        return logits


def head_layers(state: Mapping[str, Tensor]) -> Layers:
    """The heads of a model's state as dense layers [(W (d_in, d_out), b (d_out,)), ...], float32."""
    of = {name.removeprefix(HEADS): tensor for name, tensor in state.items() if name.startswith(HEADS)}
    last = [(_array(of[f"values.{i}.weight"]).T, _array(of[f"values.{i}.bias"])) for i in range(_count(of))]
    bias = np.concatenate([b for _, b in last])
    if "hidden.weight" not in of:
        return [(np.concatenate([W for W, _ in last], axis=1), bias)]
    blocks = np.zeros((sum(len(W) for W, _ in last), len(bias)), np.float32)
    row = column = 0
    for W, _ in last:
        blocks[row : row + W.shape[0], column : column + W.shape[1]] = W
        row, column = row + W.shape[0], column + W.shape[1]
    return [(_array(of["hidden.weight"]).T, _array(of["hidden.bias"])), (blocks, bias)]


def _count(heads: Mapping[str, Tensor]) -> int:
    return sum(name.startswith("values.") and name.endswith(".bias") for name in heads)


def _array(tensor: Tensor) -> Float32:
    return tensor.detach().cpu().float().numpy()


def make_optimizer(model: Model, part: Part, options: FinetuneOptions) -> torch.optim.Optimizer:
    """Weight decay is for weights: vectors (biases, scales of norms) are left alone, as in the heads.

    A group's `share` is its learning rate as a multiple of the schedule's: that of a stage is `layer_decay` to the
    power of the stages above it.
    """
    groups = []
    for parameters, share in _with_shares(model, part, options):
        for matrices in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == matrices]
            decay = options.weight_decay if matrices else 0.0
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "share": share})
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum)
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=options.lr, betas=(options.betas[0], options.betas[1]), fused=True)


def _with_shares(
    model: Model, part: Part, options: FinetuneOptions
) -> Iterator[tuple[list[torch.nn.Parameter], float]]:
    if options.layer_decay == 1.0:
        yield part.parameters(), 1.0
    else:
        for above, parameters in enumerate(reversed(part.by_stage())):
            yield parameters, options.layer_decay**above
    head_lr = _HEAD_FASTER * options.lr if options.head_lr is None else options.head_lr
    yield list(model.heads.parameters()), head_lr / options.lr


def autocast_type(amp: str, device: torch.device) -> torch.dtype | None:
    """The type of mixed precision, None for single precision throughout.

    Raises:
        OptionError: For fp16 on a CPU.
    """
    if amp == "auto":
        return torch.bfloat16 if device.type == "cuda" or _multiplies_bf16() else None
    if amp == "fp16" and device.type != "cuda":
        raise OptionError("--amp fp16 needs a GPU; use --amp off or bf16")
    return _TYPES.get(amp)


def _multiplies_bf16() -> bool:
    """Whether the processor has matrix units for bf16; without them bf16 is no faster than single precision."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))
