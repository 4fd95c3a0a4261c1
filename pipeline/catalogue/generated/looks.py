"""Random looks and shots: colours that can be told apart, bodies and cameras that vary a little."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

from pipeline.catalogue.generated.canvas import Shot, shade
from pipeline.catalogue.generated.cloth import Colour, Palette
from pipeline.catalogue.generated.garment import Look

COLOURS = {
    "red": (190, 44, 48),
    "orange": (226, 122, 40),
    "mustard": (205, 160, 44),
    "green": (54, 128, 70),
    "olive": (110, 114, 56),
    "teal": (30, 122, 126),
    "blue": (46, 92, 176),
    "navy": (34, 44, 92),
    "purple": (112, 62, 142),
    "pink": (222, 120, 156),
    "grey": (128, 130, 134),
    "black": (40, 40, 44),
    "white": (238, 238, 234),
}
"""Ground colours of the cloth by name."""

_SKINS = ((245, 214, 186), (232, 186, 152), (205, 150, 112), (160, 108, 76), (118, 76, 54), (84, 54, 40))
_HAIRS = ((36, 28, 26), (70, 46, 32), (120, 82, 46), (190, 150, 92), (110, 108, 106))
_TROUSERS = ((52, 66, 96), (38, 38, 42), (122, 110, 92), (88, 90, 96), (70, 80, 62))
_LEAST_CONTRAST = 75.0


def make_look(neck: str, sleeve: str, pattern: str, colour: str, rng: np.random.Generator) -> Look:
    """A look with these attributes whose other colours are random and stand off from the ground colour."""
    palette = make_palette(pattern, colour, rng)
    ground = palette[0]
    return Look(
        neck=neck,
        sleeve=sleeve,
        pattern=pattern,
        palette=palette,
        trim=trim_of(ground),
        skin=_skin_for(ground, rng),
        hair=vary(_HAIRS[rng.integers(len(_HAIRS))], rng, 8),
        trousers=vary(_TROUSERS[rng.integers(len(_TROUSERS))], rng, 8),
        arms=float(rng.uniform(26, 58)),
        build=float(rng.uniform(0.92, 1.08)),
        length=float(rng.uniform(0.95, 1.06)),
        seed=int(rng.integers(2**31)),
    )


def make_palette(pattern: str, colour: str, rng: np.random.Generator) -> Palette:
    """Three colours of a cloth whose ground is the named one."""
    ground = vary(COLOURS[colour], rng, 10)
    return _camouflage(ground) if pattern == "camouflage" else (ground, _contrasting(ground, rng), shade(ground, 0.55))


def trim_of(ground: Colour) -> Colour:
    """The colour of collars, cuffs and hems on this cloth."""
    return shade(ground, 1.7) if _brightness(ground) < 90 else shade(ground, 0.62)


def make_shot(look: Look, rng: np.random.Generator) -> Shot:
    """A photo of the look: bright background that differs from cloth and skin, small jitter of camera and pose."""
    return Shot(
        background=backdrop((look.palette[0], look.skin), rng),
        zoom=float(rng.uniform(1.08, 1.32)),
        shift=(float(rng.uniform(-14, 14)), float(rng.uniform(-10, 14))),
        tilt=float(rng.uniform(-0.06, 0.06)),
        turn=float(rng.choice([-1, 1]) * rng.uniform(0.88, 1.04)),
        light=float(rng.uniform(0.88, 1.08)),
        seed=int(rng.integers(2**31)),
    )


def backdrop(apart: Sequence[Colour], rng: np.random.Generator) -> Colour:
    """A bright background that differs from these colours."""
    while True:
        hue, saturation, value = rng.random(), rng.choice([0.02, 0.05, 0.25]), rng.uniform(0.72, 0.97)
        r, g, b = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, value))
        if min(_distance((r, g, b), colour) for colour in apart) > 45:
            return r, g, b


def colour_name(colour: Colour) -> str:
    """The nearest of the named colours."""
    return min(COLOURS, key=lambda name: _distance(COLOURS[name], colour))


def vary(colour: Colour, rng: np.random.Generator, by: int) -> Colour:
    """The colour moved at random, each channel by at most `by`."""
    r, g, b = (int(np.clip(c + rng.integers(-by, by + 1), 0, 255)) for c in colour)
    return r, g, b


def _contrasting(ground: Colour, rng: np.random.Generator) -> Colour:
    far = [c for c in COLOURS.values() if abs(_brightness(c) - _brightness(ground)) > _LEAST_CONTRAST]
    return vary(far[rng.integers(len(far))], rng, 8)


def _camouflage(ground: Colour) -> Palette:
    light = _brightness(ground) > 110
    return ground, shade(ground, 0.38 if light else 2.6), shade(ground, 0.66 if light else 1.5)


def _skin_for(ground: Colour, rng: np.random.Generator) -> Colour:
    order = rng.permutation(len(_SKINS))
    skins = [_SKINS[i] for i in order]
    return next(
        (skin for skin in skins if _distance(skin, ground) > 70), max(skins, key=lambda s: _distance(s, ground))
    )


def _brightness(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _distance(a: Colour, b: Colour) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))
