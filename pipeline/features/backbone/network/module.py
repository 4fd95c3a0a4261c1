"""Frozen timm backbones: uint8 photos in, named blocks of features out, and the key that names them.

    pooled    timm's own feature vector: `forward` with num_classes=0
    levels    mean and standard deviation over space of the stem's and of every stage's output
    grid      the last feature map averaged over its upper and its lower half

All blocks asked for come from one forward pass; the block `colour` comes from the pixels and needs none (see
`pipeline.features.backbone.colour`). BatchNorm buffers never move and no gradient is ever kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import timm
import torch
from timm.data.config import resolve_model_data_config

from cache import BaseKey, Block
from pipeline.errors import BackboneError, OptionError
from pipeline.features.backbone.blocks import BLOCKS, NETWORK_BLOCKS, PIXEL_BLOCKS
from pipeline.features.backbone.colour import COLOUR
from pipeline.features.backbone.provenance import TrainingProvenance, nothing_seen, read_seen
from pipeline.features.backbone.transform import DECODER, PIXEL_POLICY, Transform
from pipeline.features.backbone.weights import digest, load_net
from pipeline.options import BackboneOptions

GRID = (2, 1)
PRECISIONS = ("fp32", "half")

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


@dataclass(frozen=True)
class Backbone:
    """A frozen network, how photos are shown to it, and what names its vectors.

    Attributes:
        name: timm's name of the model.
        net: The timm model without classifier: eval mode, no gradients.
        transform: How a photo becomes its input.
        weights_sha256: Canonical digest of the weights (see `pipeline.features.backbone.weights.digest`).
        weights_source: hub, package, random:SEED or the file's path, as asked for.
        provenance: Photos whose labels had a part in the weights, as far as the file says.
    """

    name: str
    net: torch.nn.Module
    transform: Transform
    weights_sha256: str
    weights_source: str
    provenance: TrainingProvenance = field(default_factory=nothing_seen)

    @property
    def random(self) -> bool:
        """Whether the weights were never trained (tests and speed only)."""
        return self.weights_source.startswith("random:")

    def module(self, names: Sequence[str] = ("pooled",)) -> FeatureModule:
        """The eager module for these blocks: uint8 (b, s, s, 3) to {block: float32 (b, d)}.

        Raises:
            OptionError: there is no block of that name, or it is none of the network's.
            BackboneError: this model cannot give one of the blocks.
        """
        self.blocks(names)
        if strange := [name for name in names if name in PIXEL_BLOCKS]:
            raise OptionError(f"the block {strange[0]!r} is computed from the pixels; no network gives it")
        return freeze(FeatureModule(self.net, self.transform, names))

    def blocks(self, names: Sequence[str]) -> dict[str, Block]:
        """The cache's description of these blocks, the network's and others, in the order asked for.

        Raises:
            OptionError: there is no block of that name.
            BackboneError: this model cannot give one of the blocks.
        """
        for name in names:
            if name not in BLOCKS:
                raise OptionError(f"there is no feature block {name!r}; the blocks are {', '.join(BLOCKS)}")
            if name not in self._available:
                raise BackboneError(
                    f"{self.name} cannot give the block {name!r} (its layers do not output feature maps); "
                    f"it can give {', '.join(self._available)}"
                )
        return {name: self._available[name] for name in names}

    @cached_property
    def _available(self) -> dict[str, Block]:
        return {**self._of_the_network(), COLOUR.name: COLOUR}

    def _of_the_network(self) -> dict[str, Block]:
        probe = freeze(FeatureModule(self.net, self.transform, NETWORK_BLOCKS))
        size = self.transform.size
        with torch.inference_mode():
            images = torch.zeros(1, 3, size, size)
            pooled = self.net(images)
            last, levels = probe.maps(images)
        blocks = {"pooled": Block("pooled", pooled.shape[1], {})}
        if not isinstance(last, torch.Tensor):  # several branches of tokens: nothing that has a place in the photo
            return blocks
        if levels and all(level.ndim == 4 for level in levels):
            names = level_names(self.net)
            params = {"levels": list(names), "statistics": ["mean", "std"]}
            blocks["levels"] = Block("levels", 2 * sum(level.shape[1] for level in levels), params)
        if _is_spatial(last, levels):
            channels = _last_map(self.net, last, levels).shape[1]
            blocks["grid"] = Block("grid", GRID[0] * GRID[1] * channels, {"grid": list(GRID)})
        return blocks


def load_backbone(options: BackboneOptions) -> Backbone:
    """The backbone, weights and transform that the options name.

    Raises:
        BackboneError: no such model, or its weights cannot be had or do not fit.
        OptionError: the size or the resize mode cannot be.
    """
    config = timm.get_pretrained_cfg(options.backbone)
    build: dict[str, object] = {}
    if options.size and config is not None and config.fixed_input_size and options.size != config.input_size[-1]:
        build["img_size"] = options.size
    net = freeze(load_net(options.backbone, options.weights, **build))
    resolved: dict[str, Any] = resolve_model_data_config(net)  # type: ignore[no-untyped-call]
    transform = Transform(
        size=options.size or resolved["input_size"][-1],
        resize_mode=options.resize,
        interpolation=resolved["interpolation"],
        mean=tuple(resolved["mean"]),
        std=tuple(resolved["std"]),
        crop_pct=resolved["crop_pct"],
    )
    return Backbone(options.backbone, net, transform, digest(net), options.weights, read_seen(options.weights))


def freeze(module: _ModuleT) -> _ModuleT:
    """Evaluation mode, no gradients: the one place that makes a module frozen."""
    return module.eval().requires_grad_(False)


def base_key(backbone: Backbone, precision: str = "fp32") -> BaseKey:
    """Everything of a backbone that can change a vector.

    For the resize mode `crop` the share kept stands beside the interpolation, because it changes the pixels too.

    Raises:
        OptionError: There is no such precision class.
    """
    if precision not in PRECISIONS:
        raise OptionError(f"precision is {precision!r}; it can be {', '.join(PRECISIONS)}")
    transform = backbone.transform
    kept = f" (keeps {transform.crop_pct:g})" if transform.resize_mode == "crop" else ""
    return BaseKey(
        weights_sha256=backbone.weights_sha256,
        architecture=backbone.name,
        size=transform.size,
        fit=transform.resize_mode,
        interpolation=transform.interpolation + kept,
        mean=transform.mean,
        std=transform.std,
        pixel_policy=PIXEL_POLICY,
        decoder=DECODER,
        precision=precision,
    )


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
