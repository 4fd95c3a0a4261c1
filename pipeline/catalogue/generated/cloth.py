"""Cloth for the drawn garments: each pattern is a function of the position on the shirt."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pipeline.arrays import Bool, Float32, UInt8

Colour = tuple[int, int, int]
Palette = tuple[Colour, Colour, Colour]
Plane = Float32
Index = UInt8


def texture(name: str, u: Plane, v: Plane, palette: Palette, seed: int) -> UInt8:
    """The colour of the cloth at every pixel: uint8 (height, width, 3).

    Args:
        u, v: Position on the shirt in drawing units, float32 (height, width); u = 0 is the middle of the body.
        palette: The ground and two more colours; most patterns use the first two.
    """
    index = PATTERNS[name](u, v, np.random.default_rng(seed))
    return np.take(np.array(palette, np.uint8), index, axis=0)


def _solid(u: Plane, v: Plane, rng: np.random.Generator) -> Index:
    return np.zeros(u.shape, np.uint8)


def _horizontal(u: Plane, v: Plane, rng: np.random.Generator) -> Index:
    return _bands(v, rng.uniform(26, 46), rng.uniform(0.35, 0.55))


def _vertical(u: Plane, v: Plane, rng: np.random.Generator) -> Index:
    return _bands(u, rng.uniform(22, 36), rng.uniform(0.3, 0.5))


def _bands(x: Plane, period: float, share: float) -> Index:
    inside: Bool = np.mod(x, np.float32(period)) < np.float32(period * share)
    return inside.astype(np.uint8)


def _checks(u: Plane, v: Plane, rng: np.random.Generator) -> Index:
    period = rng.uniform(34, 52)
    across, down = _bands(u, period, 0.5), _bands(v, period, 0.5)
    # Where two bands cross the cloth has the strong colour, where one runs the middle one.
    return np.take(np.array([0, 2, 1], np.uint8), across + down)


def _dots(u: Plane, v: Plane, rng: np.random.Generator) -> Index:
    period = np.float32(rng.uniform(26, 42))
    radius = period * np.float32(rng.uniform(0.24, 0.32))
    row = np.floor(v / period)
    x = np.mod(u + np.mod(row, 2) * period / 2, period) - period / 2
    y = np.mod(v, period) - period / 2
    inside: Bool = x * x + y * y < radius * radius
    return inside.astype(np.uint8)


def _chevron(u: Plane, v: Plane, rng: np.random.Generator) -> Index:
    wide = np.float32(rng.uniform(46, 64))
    zigzag = np.abs(np.mod(u, wide) - wide / np.float32(2)) * np.float32(1.1)
    return _bands(np.add(v, zigzag, dtype=np.float32), rng.uniform(34, 46), 0.5)


def _floral(u: Plane, v: Plane, rng: np.random.Generator) -> Index:
    cell = np.float32(rng.uniform(44, 56))
    column, row = np.floor(u / cell), np.floor(v / cell)
    # A cheap hash of the cell gives each flower its own place and turn.
    noise = np.mod(np.sin(column * 12.9898 + row * 78.233 + np.float32(rng.uniform(0, 50))) * 437.585, 1)
    x = u - (column + 0.5) * cell - (noise - 0.5) * cell * np.float32(0.3)
    y = v - (row + 0.5) * cell + (np.mod(noise * 7, 1) - 0.5) * cell * np.float32(0.3)
    radius = np.hypot(x, y)
    angle = np.arctan2(y, x) + noise * 6
    petals = cell * (0.2 + 0.16 * np.abs(np.cos(2.5 * angle)))
    return np.where(radius < cell * 0.11, 2, np.where(radius < petals, 1, 0)).astype(np.uint8)


def _camouflage(u: Plane, v: Plane, rng: np.random.Generator) -> Index:
    first, second = _clouds(u, v, rng), _clouds(u, v, rng)
    return np.where(first > 0.55, 1, np.where(second > 0.5, 2, 0)).astype(np.uint8)


def _clouds(u: Plane, v: Plane, rng: np.random.Generator) -> Plane:
    total = np.zeros(u.shape, np.float32)
    for _ in range(5):
        angle, wave, phase = rng.uniform(0, np.pi), rng.uniform(0.06, 0.13), rng.uniform(0, 2 * np.pi)
        total += np.sin(np.float32(wave * np.cos(angle)) * u + np.float32(wave * np.sin(angle)) * v + np.float32(phase))
    return total


def _graphic(u: Plane, v: Plane, rng: np.random.Generator) -> Index:
    x, y = u / np.float32(1.3), (v - np.float32(322)) / np.float32(1.3)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    kind = rng.integers(4)
    if kind == 0:
        points = rng.integers(5, 8)
        shape = np.where(radius < 34 + 18 * np.cos(points * (angle + np.pi / 2)), 1, 0)
    elif kind == 1:
        shape = np.where(radius < 24, 2, np.where((radius > 34) & (radius < 52), 1, 0))
    elif kind == 2:
        hills = np.where(y > 18 - 26 * np.abs(np.mod(x / 26, 2) - 1), 2, 1)
        shape = np.where((np.abs(x) < 52) & (np.abs(y) < 48), hills, 0)
    else:
        line = np.floor((y + 48) / 24)
        letters = (np.mod(x + 19 * line, 22) < 14) & (np.mod(y + 48, 24) < 15)
        shape = np.where((np.abs(x) < 56 - 6 * np.mod(line, 2)) & (np.abs(y) < 48) & letters, 1 + np.mod(line, 2), 0)
    return shape.astype(np.uint8)


def _colour_block(u: Plane, v: Plane, rng: np.random.Generator) -> Index:
    kind = rng.integers(3)
    if kind == 0:
        return (v > 320).astype(np.uint8)
    if kind == 1:
        return np.where(v < 285, 0, np.where(v < 395, 1, 2)).astype(np.uint8)
    return (u > 0).astype(np.uint8)


PATTERNS: Mapping[str, Callable[[Plane, Plane, np.random.Generator], Index]] = {
    "floral": _floral,
    "camouflage": _camouflage,
    "chevron": _chevron,
    "horizontal stripes": _horizontal,
    "vertical stripes": _vertical,
    "checks": _checks,
    "graphic print": _graphic,
    "dots": _dots,
    "colour block": _colour_block,
    "solid": _solid,
}
"""Every pattern by name."""
