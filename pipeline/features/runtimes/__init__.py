"""Ways to run a frozen backbone, behind one contract.

A runtime is a name and a factory in `RUNTIMES`. It takes uint8 photos (b, s, s, 3), at most `batch_size` of them, and
returns {block: float32 (b, d)}. Batches are padded to `batch_size`, so a photo's vector does not depend on how many
others came with it. Eager PyTorch is the reference every other runtime is held to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.errors import BackboneError, OptionError, nearest
from pipeline.features.backbone.network import Backbone
from pipeline.features.runtimes.base import NoNetwork, Runtime, RuntimeOptions, Unavailable
from pipeline.machine import choose_device

__all__ = ["RUNTIMES", "Runtime", "RuntimeOptions", "make_runtime"]


def _eager(backbone: Backbone, blocks: Sequence[str], options: RuntimeOptions) -> Runtime:
    from pipeline.features.runtimes.eager import EagerRuntime

    return EagerRuntime(backbone, blocks, options)


def _openvino(backbone: Backbone, blocks: Sequence[str], options: RuntimeOptions) -> Runtime:
    from pipeline.features.runtimes.openvino import OpenVinoRuntime

    return OpenVinoRuntime(backbone, blocks, options)


def _cuda(backbone: Backbone, blocks: Sequence[str], options: RuntimeOptions) -> Runtime:
    from pipeline.features.runtimes.cuda import CudaRuntime

    return CudaRuntime(backbone, blocks, options)


# Each imports its own, because PyTorch takes seconds that a converted model has no need of.
RUNTIMES: dict[str, Callable[[Backbone, Sequence[str], RuntimeOptions], Runtime]] = {
    "torch": _eager,
    "openvino": _openvino,
    "cuda": _cuda,
}
_AUTO = {"cpu": "openvino", "cuda": "cuda"}


def make_runtime(name: str, backbone: Backbone, blocks: Sequence[str], options: RuntimeOptions) -> Runtime:
    """The runtime of that name; one that is not to be had here falls back to eager PyTorch and says so in `note`.

    Args:
        name: auto, or a name in `RUNTIMES`.
        backbone: The network.
        blocks: Which of its blocks; for none of them nothing is loaded, converted or run.
        options: How it is run.

    Returns:
        The runtime, ready to be called.

    Raises:
        OptionError: no such runtime or device, or a pair of them that cannot work.
        BackboneError: the backbone cannot give one of the blocks, or half precision is asked of the CPU.
    """
    options = replace(options, device=choose_device(options.device))
    if name == "auto":
        name = _AUTO[options.device]
    if name not in RUNTIMES:
        near = nearest(name, RUNTIMES)
        hint = f"; did you mean {near}?" if near else ""
        raise OptionError(f"there is no runtime {name!r}; there are auto, {', '.join(RUNTIMES)}{hint}")
    if (name == "cuda") != (options.device == "cuda") and name != "torch":
        raise OptionError(f"runtime {name} does not run on device {options.device}; use --runtime auto")
    if options.precision == "half" and options.device != "cuda":
        raise BackboneError("half precision needs a GPU; use --precision fp32")
    backbone.blocks(blocks)
    if not blocks:
        return NoNetwork(backbone, options)
    try:
        return RUNTIMES[name](backbone, blocks, options)
    except Unavailable as reason:
        runtime = _eager(backbone, blocks, options)
        runtime.note = f"runtime {name} is not available ({reason}); using eager PyTorch, which is slower"
        return runtime
