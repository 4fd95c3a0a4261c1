"""OpenVINO on the CPU, in single precision, with one single-threaded stream per core."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.arrays import Pixels
from pipeline.errors import BackboneError
from pipeline.features.backbone.network import Backbone, base_key
from pipeline.features.backbone.network.known import code_digest, made_with
from pipeline.features.converted_models import read_converted, remove_temporary, store_converted
from pipeline.features.runtimes.base import Features, Runtime, RuntimeOptions, Unavailable
from pipeline.machine import cores

_GRAPH, _WEIGHTS = "model.xml", "model.bin"


class OpenVinoRuntime(Runtime):
    """The model converted once and compiled for this CPU.

    One stream per core rather than one batch over all cores: streams never wait for each other, so decoding threads
    can take a share of any core without stalling the rest.
    """

    name = "openvino"

    def __init__(self, backbone: Backbone, blocks: Sequence[str], options: RuntimeOptions) -> None:
        super().__init__(backbone, blocks, options)
        try:
            import openvino
        except ImportError:
            raise Unavailable("pip install openvino") from None
        self.streams = options.threads or cores()
        core = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            # Without this the plugin may choose bf16 on CPUs that have it, and the vectors would depend on the CPU.
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": str(self.streams),
            "INFERENCE_NUM_THREADS": str(self.streams),
            "ENABLE_CPU_PINNING": "NO",
        }
        model = self._stored(openvino, core) if options.store else self._converted()
        self._compiled = core.compile_model(model, "CPU", settings)
        self._local = threading.local()

    def _run(self, pixels: Pixels) -> Features:
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._compiled.create_infer_request()
        request.infer([pixels], share_inputs=True)
        # Copied out, because the request writes the next batch over the same memory.
        return {name: request.get_output_tensor(i).data.copy() for i, name in enumerate(self.blocks)}

    def _converted(self) -> Any:
        from pipeline.features.runtimes.conversion import converted

        # The decoder is kept for as long as the model, whose constants may lie in the traced module's memory.
        model, self._decoder = converted(self.backbone, self.blocks, self.batch_size)
        return model

    def _stored(self, openvino: Any, core: Any) -> Any:
        """The converted model from the store, put there on first use and again where it is not as it was written."""
        folder = Path(str(self.options.store)) / self._fingerprint(openvino.__version__)
        remove_temporary(folder.parent)
        damaged = False
        # A store that cannot be read or written, or another process that was faster, is no reason to stop.
        with contextlib.suppress(OSError):
            if damaged := folder.is_dir():
                try:
                    # Kept for as long as the model, whose constants lie in these very bytes.
                    self._files = read_converted(folder)
                    return core.read_model(self._files[_GRAPH], self._files[_WEIGHTS])
                except (BackboneError, KeyError, RuntimeError) as error:
                    self.note = f"{error}; the model was converted again"
        model = self._converted()
        with contextlib.suppress(OSError):
            store_converted(folder, lambda into: _save(model, into / _GRAPH), damaged)
        return model

    def _fingerprint(self, version: str) -> str:
        key = base_key(self.backbone)
        blocks = [block.digest(key) for block in self.backbone.blocks(self.blocks).values()]
        # The key does not say how timm and our own code compute the network, and the model is what they made of it.
        made = {**made_with(), "conversion": code_digest(Path(__file__).resolve().parent)}
        parts = ("openvino", version, made, key.digest, self.batch_size, self.size, *blocks)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _save(model: Any, path: Path) -> None:
    """Write a model; OSError where the library says no more than that its stream failed, as on a full disk."""
    import openvino

    try:
        openvino.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
