"""A CUDA GPU: channels_last, tensor cores, compiled once per batch shape, pinned transfers that overlap the kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.arrays import Pixels
from pipeline.features.backbone.network import Backbone
from pipeline.features.runtimes.base import Features, Runtime, RuntimeOptions, Unavailable
from pipeline.features.runtimes.rounding import set_rounding


class CudaRuntime(Runtime):
    """torch.compile on one GPU; where compiling fails, the same module eagerly, and `note` says so.

    Two streams: while one thread waits for its batch, the other's photos are copied and queued. One, where the network
    cannot be run by two threads at once.
    """

    name = "cuda"
    streams = 2

    def __init__(self, backbone: Backbone, blocks: Sequence[str], options: RuntimeOptions) -> None:
        super().__init__(backbone, blocks, options)
        if not torch.cuda.is_available():
            raise Unavailable("PyTorch sees no GPU")
        self.half = options.precision == "half"
        set_rounding(self.half)
        module = backbone.module(blocks)
        self.streams = type(self).streams if module.reentrant else 1
        eager = module.to("cuda").to(memory_format=torch.channels_last)
        self.module: torch.nn.Module = eager
        warm = np.zeros((self.batch_size, self.size, self.size, 3), dtype=np.uint8)
        try:
            self.module = torch.compile(eager, dynamic=False)  # type: ignore[assignment]
            self._run(warm)
        except torch.cuda.OutOfMemoryError:
            raise
        except (RuntimeError, ImportError, OSError) as error:
            # Without a C compiler or Triton there is no compiling; the features are the same, only slower.
            self.module = eager
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self.note = f"torch.compile is not available here ({reason[:120]}); running the GPU eagerly"
            self._run(warm)

    def _run(self, pixels: Pixels) -> Features:
        on_card = torch.from_numpy(pixels).pin_memory().to("cuda", non_blocking=True)
        with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.half):
            features = self.module(on_card)
            return {name: rows.cpu().numpy() for name, rows in features.items()}
