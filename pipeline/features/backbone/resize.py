"""PyTorch's antialiased resize of 8-bit pictures, and the same bits from NumPy alone.

PyTorch takes a tenth of the time, but its import takes as long as some three hundred photos take here, so a process
that sees a few photos and needs PyTorch for nothing else does without it. Both compute it as Pillow does, columns first
and rows then, with weights rounded to 16 bits; `is_exact` compares them, and what it has not confirmed for an installed
version is not relied upon (see `pipeline.features.backbone.network.known`).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from pipeline.arrays import Float64, Int32, Int64, Pixels

_MANY = 256
"""Photos from which importing PyTorch pays."""
_MOST_BITS, _LARGEST_WEIGHT = 22, 2**15
_TRIED = (((533, 400), (224, 224)), ((61, 47), (96, 64)), ((900, 31), (33, 240)), ((16, 16), (7, 5)))
"""Pictures that `is_exact` tries: (height, width) from and to."""


def resize(pixels: Pixels, width: int, height: int, interpolation: str) -> Pixels:
    """Resize a picture, antialiased: by PyTorch where it is loaded, else by NumPy, with the same values.

    Args:
        pixels: uint8 (h, w, 3).
        width: Of the result.
        height: Of the result.
        interpolation: bilinear or bicubic.

    Returns:
        uint8 (height, width, 3).
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    by = by_torch if "torch" in sys.modules else by_numpy
    return by(pixels, width, height, interpolation)


def prepare(photos: int) -> None:
    """Get ready to resize so many photos."""
    if photos >= _MANY:
        importlib.import_module("torch")


@lru_cache(1)
def is_exact() -> bool:
    """Whether the installed PyTorch gives NumPy's values, tried on a few pictures."""
    dice = np.random.default_rng(0)
    for (height, width), (to_height, to_width) in _TRIED:
        noise = dice.integers(0, 256, (height, width, 3), np.uint8)
        for pixels in (noise, np.where(noise < 128, np.uint8(0), np.uint8(255))):
            for interpolation in _FILTERS:
                asked = pixels, to_width, to_height, interpolation
                if not np.array_equal(by_torch(*asked), by_numpy(*asked)):
                    return False
    return True


def by_torch(pixels: Pixels, width: int, height: int, interpolation: str) -> Pixels:
    """As `resize`, by PyTorch."""
    import torch

    # A leading batch axis and no copy: PyTorch sees channels_last memory, for which its 8-bit resize is fastest.
    tensor = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(tensor, size=(height, width), mode=interpolation, antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def by_numpy(pixels: Pixels, width: int, height: int, interpolation: str) -> Pixels:
    """As `resize`, by NumPy."""
    if pixels.shape[1] != width:
        pixels = _rows(np.ascontiguousarray(pixels.transpose(1, 0, 2)), width, interpolation).transpose(1, 0, 2)
    if pixels.shape[0] != height:
        pixels = _rows(np.ascontiguousarray(pixels), height, interpolation)
    return np.ascontiguousarray(pixels)


def _rows(pixels: Pixels, height: int, interpolation: str) -> Pixels:
    """uint8 (h, w, 3) to (height, w, 3)."""
    first, weights, bits = _taps(len(pixels), height, interpolation)
    total = np.full((height, *pixels.shape[1:]), 1 << (bits - 1), np.int32)
    for tap in range(weights.shape[1]):
        at = np.minimum(first + tap, len(pixels) - 1)
        total += pixels[at] * weights[:, tap, None, None]
    resized: Pixels = np.clip(total >> bits, 0, 255).astype(np.uint8)
    return resized


@lru_cache(64)
def _taps(before: int, after: int, interpolation: str) -> tuple[Int64, Int32, int]:
    """Per output row its first input row, (after,), the whole weights from there on, (after, taps); and their bits."""
    kernel, reach = _FILTERS[interpolation]
    scale = before / after
    support = reach * max(scale, 1.0)
    taps = int(np.ceil(support)) * 2 + 1
    centre = scale * (np.arange(after) + 0.5)
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    count = np.minimum(np.minimum((centre + support + 0.5).astype(np.int64), before) - first, taps)
    tap = np.arange(taps)
    weights = kernel((tap + first[:, None] - centre[:, None] + 0.5) * (1 / max(scale, 1.0)))
    weights[tap >= count[:, None]] = 0
    # Added up one by one: NumPy's own sum rounds in another order.
    weights /= np.cumsum(weights, axis=1)[:, -1:]
    largest, bits = weights.max(), 0
    while bits < _MOST_BITS and int(0.5 + largest * (1 << (bits + 1))) < _LARGEST_WEIGHT:
        bits += 1
    rounded = np.trunc(weights * (1 << bits) + np.where(weights < 0, -0.5, 0.5))
    return first, rounded.astype(np.int32), bits


def _bilinear(x: Float64) -> Float64:
    weights: Float64 = np.maximum(1 - np.abs(x), 0)
    return weights


def _bicubic(x: Float64) -> Float64:
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_FILTERS: dict[str, tuple[Callable[[Float64], Float64], float]] = {"bilinear": (_bilinear, 1), "bicubic": (_bicubic, 2)}
