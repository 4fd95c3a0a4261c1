"""A frozen backbone: what names its vectors, and its network for those who run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from cache import BaseKey, Block
from pipeline.errors import BackboneError, OptionError
from pipeline.features.backbone.blocks import BLOCKS, PIXEL_BLOCKS
from pipeline.features.backbone.colour import COLOUR
from pipeline.features.backbone.provenance import TrainingProvenance, nothing_seen
from pipeline.features.backbone.transform import DECODER, PIXEL_POLICY, Transform

if TYPE_CHECKING:
    import torch

    from pipeline.features.backbone.network.module import FeatureModule

PRECISIONS = ("fp32", "half")


@dataclass(frozen=True)
class Backbone:
    """A frozen network, how photos are shown to it, and what names its vectors.

    Attributes:
        name: timm's name of the model.
        transform: How a photo becomes its input.
        weights_sha256: Canonical digest of the weights (see `pipeline.features.backbone.weights.digest`).
        weights_source: hub, package, random:SEED or the file's path, as asked for.
        load: Gives the network; called once, by whoever is the first to need more than its name.
        provenance: Photos whose labels had a part in the weights, as far as the file says.
        known_blocks: What the network is known to give; None: to be asked of it.
    """

    name: str
    transform: Transform
    weights_sha256: str
    weights_source: str
    load: Callable[[], torch.nn.Module]
    provenance: TrainingProvenance = field(default_factory=nothing_seen)
    known_blocks: tuple[Block, ...] | None = None

    @cached_property
    def net(self) -> torch.nn.Module:
        """The timm model without classifier: evaluation mode, no gradients.

        Raises:
            BackboneError: The weights are gone, or others than when they were last read.
        """
        return self.load()

    @cached_property
    def network_blocks(self) -> tuple[Block, ...]:
        """What the network gives, in the cache's description."""
        if self.known_blocks is not None:
            return self.known_blocks
        from pipeline.features.backbone.network.module import blocks_of

        return tuple(blocks_of(self.net, self.transform).values())

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
        from pipeline.features.backbone.network.module import FeatureModule, freeze

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
        available = {block.name: block for block in (*self.network_blocks, COLOUR)}
        for name in names:
            if name not in BLOCKS:
                raise OptionError(f"there is no feature block {name!r}; the blocks are {', '.join(BLOCKS)}")
            if name not in available:
                raise BackboneError(
                    f"{self.name} cannot give the block {name!r} (its layers do not output feature maps); "
                    f"it can give {', '.join(available)}"
                )
        return {name: available[name] for name in names}


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
