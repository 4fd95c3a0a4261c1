"""The block `colour`: which colours a photo has and where, from the pixels that the network sees.

A network trained to tell things apart learns to overlook their colour. These 250 numbers keep it: four histograms and
a coarse picture. All sums are of whole numbers, and the one division and the one square root behind them are rounded
correctly by every machine, so a vector is the same bits whatever the machine and the size of the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from cache import Block
from pipeline.arrays import Float32, Int32, Int64, Pixels, UInt

SIDE = 56
GRID = (8, 6)
HUES, VALUES, GREYS, SHADES = 18, 12, 12, 4
_SHARES = HUES + VALUES + GREYS + SHADES**3
_WIDTH = _SHARES + 3 * GRID[0] * GRID[1]
_CHUNK = 16
"""Photos at a time: as many as stay in the processor's cache."""

COLOUR = Block("colour", _WIDTH, {"version": 1})
"""The cache's description of the block. Any change of `colour_of` is another version, hence another digest."""


def colour_of(pixels: Pixels) -> Float32:
    """Colour statistics of square photos, padding included.

    Each photo is first reduced to a square of n = min(s, 56) pixels: the side is cut into n equal cells, a pixel counts
    with the share of it that lies in the cell, and a cell's mean over rows and columns is rounded, halves upwards. Of
    the reduced photo, per pixel with r, g, b from 0 to 255, let

        v = max(r, g, b)                        value
        c = v - min(r, g, b)                    chroma
        h = 3 (g - b) / c        where v = r    hue in steps of 20 degrees, modulo 18
            3 (b - r) / c + 6    where v = g    (where c = 0 it has no weight)
            3 (r - g) / c + 12   where v = b

    The vector holds, one after the other, where a share is the sum of the weights of a bin's pixels by n^2:

        18   sqrt of the shares of floor(h), weighted by c / 255
        12   sqrt of the shares of floor(12 v / 256), weighted by 1 - c / 255
        12   sqrt of the shares of floor(12 (r + g + b) / 768)
        64   sqrt of the shares of 16 floor(r / 64) + 4 floor(g / 64) + floor(b / 64)
        144  mean r / 255, g / 255, b / 255 of 8 rows of 6 equal cells, the upper left cell first; a pixel that lies in
             two cells counts with its share in each

    A mirrored photo has the same histograms and the mirrored cells.

    Args:
        pixels: uint8 (b, s, s, 3), RGB.

    Returns:
        float32 (b, 250), each from 0 to 1; a row does not depend on the rows beside it.
    """
    made = np.empty((len(pixels), _WIDTH), np.float32)
    for at in range(0, len(pixels), _CHUNK):
        few = slice(at, at + _CHUNK)
        small = _reduced(pixels[few])
        made[few, :_SHARES] = _histograms(small)
        made[few, _SHARES:] = _cells(small)
    return made


def _reduced(pixels: Pixels) -> Pixels:
    side = min(SIDE, pixels.shape[1])
    sums, area = _area_sums(pixels, side, side)
    return ((sums + area // 2) // area).astype(np.uint8)


def _cells(small: Pixels) -> Float32:
    sums, area = _area_sums(small, *GRID)
    return (sums.reshape(len(small), -1) / np.float64(255 * area)).astype(np.float32)


def _histograms(small: Pixels) -> Float32:
    r, g, b = (small[..., channel].reshape(len(small), -1).astype(np.int32) for channel in range(3))
    value = np.maximum(np.maximum(r, g), b)
    chroma = value - np.minimum(np.minimum(r, g), b)
    counts = (
        _count(_hue(r, g, b, value, chroma), HUES, chroma),
        _count(VALUES * value >> 8, VALUES, 255 - chroma),
        255 * _count(GREYS * (r + g + b) // 768, GREYS),
        255 * _count((r >> 6) * SHADES**2 + (g >> 6) * SHADES + (b >> 6), SHADES**3),
    )
    shares = np.concatenate(counts, axis=1) / np.float64(255 * r.shape[1])
    return np.sqrt(shares).astype(np.float32)


def _hue(r: Int32, g: Int32, b: Int32, value: Int32, chroma: Int32) -> Int32:
    """floor(h) of `colour_of`, int32 (b, n); 0, 6 or 12 where the pixel is grey."""
    difference = np.where(value == r, g - b, np.where(value == g, b - r, r - g))
    sixth = np.where(value == r, 0, np.where(value == g, 6, 12))
    return (3 * difference // np.maximum(chroma, 1) + sixth) % HUES


def _count(bins: Int32, number: int, weights: Int32 | None = None) -> Int64:
    """Sums of weights by bin and photo: int32 (b, n) below `number` to int64 (b, number)."""
    at = bins + number * np.arange(len(bins), dtype=np.int32)[:, None]
    summed = np.bincount(at.reshape(-1), None if weights is None else weights.reshape(-1), number * len(bins))
    # With weights NumPy adds up in float64, in which these whole numbers are exact.
    return summed.astype(np.int64).reshape(len(bins), number)


def _area_sums(pixels: Pixels, rows: int, columns: int) -> tuple[UInt, int]:
    """Weighted sums of equal cells: uint8 (b, h, w, 3) to (b, rows, columns, 3), and the weight of each cell."""
    down, across = _cuts(pixels.shape[1], rows), _cuts(pixels.shape[2], columns)
    area = down.whole * across.whole
    dtype = np.min_scalar_type(256 * area)  # the narrowest that holds every sum, and half a cell more for rounding
    lines = _sums(pixels.reshape(*pixels.shape[:2], -1), down.take, down.weights, dtype)
    # Colours stand side by side, so that a column is three numbers, each with the column's weight.
    channels = (3 * across.take[:, :, None] + np.arange(3)).reshape(len(across.take), -1)
    cells = _sums(lines.reshape(len(pixels) * rows, -1, 1), channels, across.weights.repeat(3, axis=1), dtype)
    return cells.reshape(len(pixels), rows, columns, 3), area


def _sums(values: UInt, take: Int64, weights: Int64, dtype: np.dtype[np.unsignedinteger]) -> UInt:
    """Weighted sums along the second axis: (n, m, k) to (n, cells, k); take and weights as in `_Cuts`."""
    summed = np.zeros((len(values), take.shape[1], values.shape[2]), dtype)
    for at, weight in zip(take, weights, strict=True):
        part = values.take(at, axis=1).astype(dtype)
        part *= weight.astype(dtype)[:, None]
        summed += part
    return summed


def area_weights(side: int, cells: int) -> tuple[Int64, int]:
    """How much of each of `side` pixels lies in each of `cells` equal cells, (cells, side), and what a cell sums to."""
    cuts = _cuts(side, cells)
    weights = np.zeros((cells, side), np.int64)
    np.add.at(weights, (np.arange(cells)[None], cuts.take), cuts.weights)
    return weights, cuts.whole


@dataclass(frozen=True, eq=False)
class _Cuts:
    """A side cut into equal cells.

    Attributes:
        take: Pixels of the cells, int64 (most pixels of a cell, cells); where a cell has fewer, the last with weight 0.
        weights: How much of the pixel lies in the cell, of the same shape, in the largest unit that divides pixels and
            cells alike.
        whole: Length of a cell in that unit.
    """

    take: Int64
    weights: Int64
    whole: int


@cache
def _cuts(side: int, cells: int) -> _Cuts:
    unit = math.gcd(side, cells)
    pixel, whole = cells // unit, side // unit
    starts = whole * np.arange(cells)
    first, last = starts // pixel, (starts + whole - 1) // pixel
    at = first + np.arange((last - first).max() + 1)[:, None]
    weights = np.minimum((at + 1) * pixel, starts + whole) - np.maximum(at * pixel, starts)
    return _Cuts(np.minimum(at, side - 1), np.maximum(weights, 0), whole)
