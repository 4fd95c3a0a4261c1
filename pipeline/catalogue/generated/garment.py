"""Draws a person in a T-shirt from a handful of numbers.

x = 0 is the middle of the body, y grows downwards from above the head; the shirt is about 190 units wide and runs
from y = 172 to about y = 520.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops

from pipeline.arrays import Float64
from pipeline.catalogue.generated.canvas import Canvas, Points, Shot, Window, ellipse, limb, shade
from pipeline.catalogue.generated.cloth import Colour, Palette, texture
from pipeline.catalogue.generated.necklines import NECKLINES, Trim, hood_behind

REACH = {"sleeveless": 0.0, "three-quarter": 0.64, "long": 1.0, "short": 0.33}
"""How far down the arm each sleeve reaches."""


_STEPS = 14


@dataclass(frozen=True)
class Look:
    """What one product looks like on its wearer.

    Attributes:
        neck, sleeve, pattern: Names from NECKLINES, REACH and PATTERNS.
        palette: Three colours of the cloth.
        trim: Of collar, cuffs and hems.
        skin, hair, trousers: RGB.
        arms: How far the hands hang from the body, in units.
        build, length: Of body and shirt, around 1.
        seed: Of everything random in the cloth.
    """

    neck: str
    sleeve: str
    pattern: str
    palette: Palette
    trim: Colour
    skin: Colour
    hair: Colour
    trousers: Colour
    arms: float
    build: float
    length: float
    seed: int


def draw(look: Look, shot: Shot) -> Image.Image:
    """The photo of a look: RGB, SIZE pixels; the same arguments give the same pixels."""
    canvas = Canvas(shot)
    trim = Trim(look.trim, shade(look.trim, 0.62), look.skin, look.palette[0])
    if look.neck == "hooded":
        hood_behind(canvas, trim)
    _draw_body(canvas, look)
    _draw_shirt(canvas, look)
    NECKLINES[look.neck](canvas, trim)
    return canvas.develop()


def _arm(look: Look, side: int, reach: float) -> Float64:
    t = np.linspace(0, reach, _STEPS)
    out = 74 * look.build + (18 + look.arms) * t + 16 * np.sin(np.pi * t)
    return np.stack([side * out, 222 + 252 * t], 1)


def _draw_body(canvas: Canvas, look: Look) -> None:
    b = look.build
    for side in (-1, 1):
        leg = [(0, 470), (side * 90 * b, 470), (side * 96 * b, 700), (side * 12, 700), (0, 570)]
        canvas.fill(leg, look.trousers)
        arm = _arm(look, side, 1.0)
        canvas.fill(limb(arm, np.linspace(54, 28, _STEPS) * b), shade(look.skin, 0.93))
        canvas.fill(ellipse(float(arm[0, 0]), float(arm[0, 1]), 27 * b, 27), shade(look.skin, 0.93))
        x, y = arm[-1]
        canvas.fill(ellipse(x + side * 2, y + 16, 15, 25), look.skin)
    canvas.fill([(-92 * b, 468), (92 * b, 468), (90 * b, 540), (-90 * b, 540)], look.trousers)
    canvas.fill(ellipse(0, 60, 51, 60, (150, 390)), look.hair)
    canvas.fill([(-28, 110), (28, 110), (34, 170), (84 * b, 200), (-84 * b, 200), (-34, 170)], shade(look.skin, 0.9))
    canvas.fill([(-80 * b, 190), (80 * b, 190), (76 * b, 290), (-76 * b, 290)], shade(look.skin, 0.96))
    canvas.fill(ellipse(0, 80, 43, 57), look.skin)
    canvas.fill([*ellipse(0, 62, 47, 46, (180, 360)), (34, 44), (0, 38), (-34, 44)], look.hair)
    for side in (-1, 1):
        canvas.fill(ellipse(side * 17, 78, 5, 3), shade(look.skin, 0.35))
    canvas.stroke([(-12, 114), (12, 114)], shade(look.skin, 0.6), 4)


def _draw_shirt(canvas: Canvas, look: Look) -> None:
    reach = REACH[look.sleeve]
    arms = {side: _arm(look, side, reach) for side in (-1, 1)} if reach else {}
    widths = np.linspace(62, 62 - 22 * reach, _STEPS) * look.build
    sleeves = {side: (limb(arm, widths), _cap(arm, look)) for side, arm in arms.items()}
    window = canvas.window(_torso(look), *(shape for shapes in sleeves.values() for shape in shapes))
    cloth = Image.fromarray(texture(look.pattern, window.u, window.v, look.palette, look.seed))
    cloth = ImageChops.multiply(cloth, folds(window, look.seed))
    for side, shapes in sleeves.items():
        canvas.lay(cloth, window, shapes, 7)
        canvas.stroke(_across(arms[side], float(widths[-1])), shade(look.trim, 0.8), 6)
    canvas.lay(cloth, window, [_torso(look)], 9)
    hem = 300 + 215 * look.length
    canvas.stroke([(-90 * look.build, hem - 4), (0, hem), (90 * look.build, hem - 4)], shade(look.trim, 0.8), 5)
    if not reach:
        for side in (-1, 1):
            canvas.stroke(_armhole(look, side), look.trim, 6)


def folds(window: Window, seed: int) -> Image.Image:
    """Soft light and shadow of the cloth; it changes slowly, so every sixth pixel is enough."""
    rng = np.random.default_rng(seed + 1)
    u, v = window.u[::6, ::6], window.v[::6, ::6]
    light = 238 - np.float32(0.0025) * u * u
    for _ in range(3):
        slope, wave, phase = rng.uniform(-0.25, 0.25), rng.uniform(0.05, 0.12), rng.uniform(0, 6)
        light += np.float32(6) * np.sin(np.float32(wave) * u + np.float32(wave * slope) * v + np.float32(phase))
    small = Image.fromarray(np.clip(light, 150, 255).astype(np.uint8))
    whole = small.resize((window.u.shape[1], window.u.shape[0]), Image.Resampling.BILINEAR)
    return Image.merge("RGB", [whole] * 3)


def _cap(arm: Float64, look: Look) -> Points:
    return ellipse(float(arm[0, 0]), float(arm[0, 1]), 31 * look.build, 30)


def _across(arm: Float64, width: float) -> Points:
    end, before = arm[-1], arm[-2]
    direction = (end - before) / np.linalg.norm(end - before)
    aside = np.array([-direction[1], direction[0]]) * (width / 2 - 2)
    back = end - direction * 4
    return [(float(x), float(y)) for x, y in (back + aside, back - aside)]


def _armhole(look: Look, side: int) -> Points:
    b = look.build
    return [(side * x * b, y) for x, y in ((68, 186), (63, 215), (66, 245), (76, 268), (88, 280))]


def _torso(look: Look) -> Points:
    b, hem = look.build, 300 + 215 * look.length
    right: list[tuple[float, float]] = [(40, 172)]
    right += _armhole(look, 1) if look.sleeve == "sleeveless" else [(92 * b, 193), (99 * b, 214), (88 * b, 280)]
    right += [(83 * b, 390), (92 * b, hem - 4), (46 * b, hem)]
    return [*right, *[(-x, y) for x, y in reversed(right)]]
