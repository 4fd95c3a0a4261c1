"""The frozen backbone, its one pass over the photos, and which of the cached vectors are meant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Resize = Literal["crop", "squash", "pad"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class BackboneOptions:
    """Which frozen network turns a photo into a vector, and how the photo is shown to it.

    Attributes:
        backbone: Any timm model name.
        weights: hub (timm's pretrained), package (tf_efficientnet_lite0), random:SEED, or a .pth or .safetensors file.
        size: Side of the square the network sees, in pixels (default: the model's own).
        resize: How a photo becomes that square: crop (resize, centre crop), squash (aspect ratio lost) or pad.
    """

    backbone: str = "resnext50_32x4d"
    weights: str = "hub"
    size: int | None = None
    resize: Resize = "squash"


@dataclass(frozen=True)
class CacheKeyOptions:
    """Which cached vectors are used, where the cache holds several kinds; what is not given matches anything.

    Attributes:
        backbone: The timm model the vectors were made with.
        weights: Where its weights came from, as given to extract.
        size: Side of the square the network saw, in pixels.
        resize: How a photo became that square.
        precision: Arithmetic of the forward pass.
    """

    backbone: str | None = None
    weights: str | None = None
    size: int | None = None
    resize: Resize | None = None
    precision: Literal["fp32", "half"] | None = None


@dataclass(frozen=True)
class ExtractOptions:
    """How photos are turned into cached vectors.

    Attributes:
        cache: Folder of the embedding cache.
        features: Feature blocks to keep, separated by commas: pooled, levels, grid (of the forward pass), colour (of
            the pixels).
        views: Which views of each photo are computed: identity, hflip, vflip.
        device: Where to compute; auto takes the GPU when there is one.
        runtime: auto, torch or another installed runtime.
        precision: Arithmetic of the forward pass; half needs a GPU (part of the cache key).
        dtype: How vectors are stored.
        batch_size: Photos per forward pass (default: chosen by device and memory).
        workers: Decoding threads (default: the number of cores).
        max_pixels: Photos with more pixels than this are rejected, not decoded.
        rehash: Read and hash every photo again instead of trusting size and modification time.
        wait: Seconds to wait for another extract that is writing to the same cache key (default: stop at once).
    """

    cache: Path = Path("features")
    features: tuple[str, ...] = ("pooled",)
    views: tuple[str, ...] = ("identity",)
    device: Device = "auto"
    runtime: str = "auto"
    precision: Literal["fp32", "half"] = "fp32"
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: int | None = None
    workers: int | None = None
    max_pixels: int = 110_000_000
    rehash: bool = False
    wait: float = 0.0
