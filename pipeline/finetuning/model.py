"""A backbone with a classifier on top, and what steps it: optimizer, rates and number types."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.errors import OptionError
from pipeline.features.backbone.network import Backbone, FeatureModule
from pipeline.options import FinetuneOptions

_HEAD_FASTER = 10.0
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Model(torch.nn.Module):
    """A backbone and a linear classifier on its pooled vector: pixels (b, s, s, 3), 0 to 255, to logits (b, V)."""

    def __init__(self, backbone: Backbone, values: int) -> None:
        super().__init__()
        self.features = FeatureModule(backbone.net, backbone.transform, ("pooled",))
        self.classifier = torch.nn.Linear(backbone.blocks(("pooled",))["pooled"].dim, values)
        torch.nn.init.zeros_(self.classifier.weight)
        torch.nn.init.zeros_(self.classifier.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (b, s, s, 3) to logits (b, V)."""
        logits: Tensor = self.classifier(self.features(pixels)["pooled"])
        return logits


def make_optimizer(
    backbone: list[torch.nn.Parameter], classifier: torch.nn.Linear, options: FinetuneOptions
) -> torch.optim.Optimizer:
    """Weight decay is for weights: vectors (biases, scales of norms) are left alone, as in the heads.

    A group's `share` is its learning rate as a multiple of the schedule's.
    """
    head_lr = _HEAD_FASTER * options.lr if options.head_lr is None else options.head_lr
    groups = []
    for parameters, share in ((backbone, 1.0), (list(classifier.parameters()), head_lr / options.lr)):
        for matrices in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == matrices]
            decay = options.weight_decay if matrices else 0.0
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "share": share})
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum)
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=options.lr, betas=(options.betas[0], options.betas[1]))


def autocast_type(amp: str, device: torch.device) -> torch.dtype | None:
    """The type of mixed precision, None for single precision throughout.

    Raises:
        OptionError: For fp16 on a CPU.
    """
    if amp == "auto":
        return torch.bfloat16 if device.type == "cuda" else None
    if amp == "fp16" and device.type != "cuda":
        raise OptionError("--amp fp16 needs a GPU; use --amp off or bf16")
    return _TYPES.get(amp)
