"""From a PyTorch module to a model of OpenVINO."""

from __future__ import annotations

import contextlib
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from pipeline.features.backbone.network import Backbone


def converted(backbone: Backbone, blocks: Sequence[str], batch_size: int) -> tuple[Any, Any]:
    """The model of a backbone's blocks for batches of one size, and what must live as long as it."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    size = backbone.transform.size
    module = _Ordered(backbone.module(blocks), blocks)
    example = torch.zeros(batch_size, size, size, 3, dtype=torch.uint8)
    with torch.inference_mode(), warnings.catch_warnings():
        # Tracing is deprecated in PyTorch, but still how OpenVINO takes a model in; no check by a second trace.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
    # The reader itself rather than `convert_model`, which reports every conversion to its makers.
    reader = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=(example,))
    with _signals_held():
        model = reader.convert(reader.load(decoder))
    model.reshape(list(example.shape))
    return model, decoder


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Have stopping signals wait: the reader calls Python, and makes an error of its own of what a handler raises."""
    if threading.current_thread() is not threading.main_thread():
        # Python runs the handlers in the main thread alone.
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


class _Ordered(torch.nn.Module):
    """The feature module with its outputs in a fixed order instead of by name."""

    def __init__(self, module: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self.names = tuple(names)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.module(pixels)
        return tuple(features[name] for name in self.names)
