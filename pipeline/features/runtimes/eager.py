"""Eager PyTorch: the reference that every other runtime is held to."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.arrays import Pixels
from pipeline.features.backbone.network import Backbone
from pipeline.features.runtimes.base import Features, Runtime, RuntimeOptions
from pipeline.features.runtimes.rounding import set_rounding


class EagerRuntime(Runtime):
    """The module as it is, in channels_last memory order, on the CPU or a GPU."""

    name = "torch"

    def __init__(self, backbone: Backbone, blocks: Sequence[str], options: RuntimeOptions) -> None:
        super().__init__(backbone, blocks, options)
        self.device = torch.device("cuda" if options.device == "cuda" else "cpu")
        self.half = options.precision == "half"
        if self.device.type == "cuda":
            set_rounding(self.half)
        # Uint8 photos arrive as (b, h, w, c); viewed channels first they are channels_last already.
        self.module = backbone.module(blocks).to(self.device).to(memory_format=torch.channels_last)

    def _run(self, pixels: Pixels) -> Features:
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
            features = self.module(torch.from_numpy(pixels).to(self.device))
            return {name: rows.cpu().numpy() for name, rows in features.items()}
