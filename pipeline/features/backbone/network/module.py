"""The forward pass: uint8 photos in, named blocks of features out.

    pooled    timm's own feature vector: `forward` with num_classes=0
    levels    mean and standard deviation over space of the stem's and of every stage's output
    grid      the last feature map averaged over its upper and its lower half

All blocks asked for come from one forward pass; the block `colour` comes from the pixels and needs none (see
`pipeline.features.backbone.colour`). BatchNorm buffers never move and no gradient is ever kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from cache import Block
from pipeline.features.backbone.blocks import NETWORK_BLOCKS
from pipeline.features.backbone.transform import Transform

GRID = (2, 1)

_ModuleT = TypeVar("_ModuleT", bound=torch.nn.Module)


class FeatureModule(torch.nn.Module):
    """One forward pass over uint8 photos that returns the blocks asked for.

    `forward` takes uint8 (b, s, s, 3), RGB, and returns {block: float32 (b, d)} in the order asked for.
    Normalisation is inside, so every runtime gets it the same.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, net: torch.nn.Module, transform: Transform, names: Sequence[str]) -> None:
        super().__init__()
        self.net = net
        self.names = tuple(names)
        self.register_buffer("mean", 255 * torch.tensor(transform.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(transform.std).view(1, -1, 1, 1)), persistent=False)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """uint8 (b, s, s, 3) to {block: float32 (b, d)}."""
        images = (pixels.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) * self.scale
        if self.names == ("pooled",):
            return {"pooled": self.net(images).float()}
        last, levels = self.maps(images)
        compute: dict[str, Callable[[], torch.Tensor]] = {
            "pooled": lambda: self.net.forward_head(last),  # type: ignore[operator]
            "levels": lambda: torch.cat([_moments(level) for level in levels], dim=1),
            "grid": lambda: _halves(_last_map(self.net, last, levels)),
        }
        return {name: compute[name]().float() for name in self.names}

    @property
    def reentrant(self) -> bool:
        """Whether several threads may run it at once: a hook on the stem would hand one thread another's maps."""
        return self.names == ("pooled",) or _unlisted_stem(self.net) is None

    def maps(self, images: torch.Tensor) -> tuple[Any, list[torch.Tensor]]:
        """Normalised images (b, 3, s, s) to what the model pools, and the levels behind it (may be none)."""
        if not hasattr(self.net, "forward_intermediates"):
            return self.net.forward_features(images), []  # type: ignore[operator]
        stem: list[torch.Tensor] = []
        hook = None
        if module := _unlisted_stem(self.net):
            hook = module.register_forward_hook(lambda _module, _inputs, output: stem.append(output))
        try:
            last, levels = self.net.forward_intermediates(images, **_intermediates_arguments(self.net))  # type: ignore[operator]
        finally:
            if hook is not None:
                hook.remove()
        return last, [*stem, *levels]


def freeze(module: _ModuleT) -> _ModuleT:
    """Evaluation mode, no gradients: the one place that makes a module frozen."""
    return module.eval().requires_grad_(False)


def blocks_of(net: torch.nn.Module, transform: Transform) -> dict[str, Block]:
    """The cache's description of the blocks that a network can give, by name."""
    probe = freeze(FeatureModule(net, transform, NETWORK_BLOCKS))
    with torch.inference_mode():
        images = torch.zeros(1, 3, transform.size, transform.size)
        pooled = net(images)
        last, levels = probe.maps(images)
    blocks = {"pooled": Block("pooled", pooled.shape[1], {})}
    if not isinstance(last, torch.Tensor):  # several branches of tokens: nothing that has a place in the photo
        return blocks
    if levels and all(level.ndim == 4 for level in levels):
        names = level_names(net)
        params = {"levels": list(names), "statistics": ["mean", "std"]}
        blocks["levels"] = Block("levels", 2 * sum(level.shape[1] for level in levels), params)
    if _is_spatial(last, levels):
        channels = _last_map(net, last, levels).shape[1]
        blocks["grid"] = Block("grid", GRID[0] * GRID[1] * channels, {"grid": list(GRID)})
    return blocks


def level_names(net: torch.nn.Module) -> tuple[str, ...]:
    """Names of the outputs behind the block `levels`, in order."""
    if "extra_blocks" in _intermediates_arguments(net):
        return ("stem", *(f"blocks.{i}" for i in range(len(net.blocks))))  # type: ignore[arg-type]
    listed = tuple(str(level["module"]) for level in _feature_info(net))
    return ("stem", *listed) if _unlisted_stem(net) is not None else listed


def _is_spatial(last: torch.Tensor, levels: Sequence[torch.Tensor]) -> bool:
    return last.ndim == 4 or bool(levels and levels[-1].ndim == 4)


def _last_map(net: torch.nn.Module, last: torch.Tensor, levels: Sequence[torch.Tensor]) -> torch.Tensor:
    """The last feature map, channels first: what the model pools, or its last level where that is tokens."""
    if last.ndim != 4:
        return levels[-1]
    return last.permute(0, 3, 1, 2) if str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC") else last


def _intermediates_arguments(net: torch.nn.Module) -> dict[str, object]:
    # Some families list only one stage per resolution; `extra_blocks` makes them give every stage and the stem.
    accepted = inspect.signature(net.forward_intermediates).parameters  # type: ignore[arg-type]
    wanted = {"output_fmt": "NCHW", "extra_blocks": True}
    return {name: value for name, value in wanted.items() if name in accepted}


def _feature_info(net: torch.nn.Module) -> Sequence[Mapping[str, object]]:
    info = getattr(net, "feature_info", ())
    return getattr(info, "info", info)


def _unlisted_stem(net: torch.nn.Module) -> torch.nn.Module | None:
    stem = getattr(net, "stem", None)
    if not isinstance(stem, torch.nn.Module) or "extra_blocks" in _intermediates_arguments(net):
        return None
    listed = any(str(level["module"]).split(".")[0] == "stem" for level in _feature_info(net))
    return None if listed else stem


def _moments(level: torch.Tensor) -> torch.Tensor:
    """Mean and population standard deviation over space: (b, c, h, w) to (b, 2c)."""
    level = level.float()
    mean = level.mean(dim=(2, 3), keepdim=True)
    # Two passes: E[x^2] - E[x]^2 cancels badly in single precision where a channel is nearly flat.
    deviation = (level - mean).square().mean(dim=(2, 3)).sqrt()
    return torch.cat([mean.flatten(1), deviation], dim=1)


def _halves(features: torch.Tensor) -> torch.Tensor:
    """Averages of the upper and of the lower half: (b, c, h, w) to (b, 2c). An odd middle row belongs to both."""
    height = features.shape[2]
    upper, lower = features[:, :, : (height + 1) // 2], features[:, :, height // 2 :]
    return torch.cat([upper.mean(dim=(2, 3)), lower.mean(dim=(2, 3))], dim=1)
