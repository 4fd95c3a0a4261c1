"""Garments as they lie on a table, without a wearer: what `sample --format B` draws beside shoes, bags and hats.

Coordinates are those of `garment`: x = 0 is the middle, y grows downwards, a photo shows about 480 x 640 units around
(0, 290). Every trait that a label names can be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops

from pipeline.catalogue.generated.canvas import Canvas, Points, ellipse, limb, shade
from pipeline.catalogue.generated.cloth import Colour, Palette, texture
from pipeline.catalogue.generated.garment import folds
from pipeline.catalogue.generated.necklines import NECKLINES, Trim

Curve = list[tuple[float, float]]

SLEEVES = {"sleeveless": 0.0, "short": 95.0, "three-quarter": 190.0, "long": 285.0}
"""Length of each sleeve from the shoulder, in units."""

HEMS = {"mini": 385.0, "knee": 470.0, "maxi": 590.0}
"""Where skirts and dresses end."""


@dataclass(frozen=True)
class Item:
    """What one product looks like.

    Attributes:
        traits: Attribute -> the values that can be seen.
        pattern: A name from PATTERNS.
        palette: Three colours of the cloth.
        trim: Of edges, soles and straps.
        girth: How wide it is, around 1.
        seed: Of everything random in the cloth.
    """

    category: str
    traits: Mapping[str, Sequence[str]]
    pattern: str
    palette: Palette
    trim: Colour
    girth: float
    seed: int

    @property
    def edge(self) -> Colour:
        """The dark line around what is trimmed."""
        return shade(self.trim, 0.55)

    def has(self, attribute: str, value: str) -> bool:
        """Whether a trait can be seen."""
        return value in self.traits.get(attribute, ())

    def one(self, attribute: str) -> str:
        """The first value of a trait, "" without one."""
        return next(iter(self.traits.get(attribute, ())), "")


def mirror(right: Sequence[tuple[float, float]]) -> Curve:
    """A closed outline from its right half, given from top to bottom."""
    return [*right, *[(-x, y) for x, y in reversed(right)]]


def lay_cloth(canvas: Canvas, item: Item, shapes: Sequence[Points], softness: float = 8) -> None:
    """The item's cloth inside these shapes, shaded and folded, with a dark outline."""
    window = canvas.window(*shapes)
    cloth = Image.fromarray(texture(item.pattern, window.u, window.v, item.palette, item.seed))
    canvas.lay(ImageChops.multiply(cloth, folds(window, item.seed)), window, shapes, softness)
    for shape in shapes:
        canvas.stroke([*shape, shape[0]], shade(item.palette[0], 0.5), 2.5)


def t_shirt(canvas: Canvas, item: Item) -> None:
    """A T-shirt with its neckline and sleeves."""
    _sleeves(canvas, item, 66)
    b = item.girth
    torso = mirror([(40, 172), (92 * b, 188), (104 * b, 214), (96 * b, 290), (94 * b, 516)])
    lay_cloth(canvas, item, [torso])
    canvas.stroke([(-93 * b, 506), (93 * b, 506)], item.edge, 4)
    _neckline(canvas, item)


def shirt(canvas: Canvas, item: Item) -> None:
    """A shirt: collar, buttons down the front, cuffs."""
    _sleeves(canvas, item, 60, cuffs=True)
    b = item.girth
    tail = [(70 * b, 520), (30 * b, 535)]
    lay_cloth(canvas, item, [mirror([(38, 168), (94 * b, 190), (100 * b, 220), (92 * b, 300), (96 * b, 500), *tail])])
    canvas.fill([(-11, 190), (11, 190), (11, 532), (-11, 532)], shade(item.palette[0], 0.86))
    for x in (-11, 11):
        canvas.stroke([(x, 190), (x, 532)], item.edge, 2)
    for y in range(232, 520, 46):
        canvas.fill(ellipse(0, y, 6, 6), (250, 248, 240))
        canvas.stroke(ellipse(0, y, 6, 6), item.edge, 2)
    if item.has("collar", "mandarin"):
        band = [(36, 146), (46, 172), (30, 200), (3, 214), (3, 188), (22, 172)]
    else:
        band = [(32, 146), (66, 186), (44, 246), (2, 206), (20, 172)]
    canvas.fill(mirror([(33, 146), (30, 172), (0, 206)]), shade(item.palette[0], 0.4))
    _both_sides(canvas, band, item.trim, item.edge)
    if item.has("detail", "pockets"):
        _patch(canvas, item, (26 * b, 272), (78 * b, 340))


def jacket(canvas: Canvas, item: Item) -> None:
    """A jacket: wide, long-sleeved, lined, open at the top; lapels, a stand-up collar or a hood."""
    b = item.girth
    if item.has("collar", "hooded"):
        canvas.fill(ellipse(0, 128, 86, 92), item.edge)
        canvas.fill(ellipse(0, 126, 80, 86), shade(item.palette[0], 0.85))
        canvas.fill(ellipse(0, 134, 52, 62), shade(item.palette[0], 0.4))
    _sleeves(canvas, item, 78, cuffs=True, length=285)
    lay_cloth(canvas, item, [mirror([(40, 160), (108 * b, 186), (118 * b, 224), (110 * b, 300), (116 * b, 500)])], 11)
    canvas.fill(mirror([(40, 158), (0, 290)]), (236, 234, 228))
    if item.has("closure_type", "zip"):
        canvas.stroke([(0, 280), (0, 498)], (225, 225, 228), 12)
        canvas.stroke([(0, 280), (0, 498)], (90, 90, 96), 6)
        canvas.fill([(-7, 282), (7, 282), (5, 312), (-5, 312)], (206, 208, 212))
    else:
        canvas.stroke([(0, 286), (0, 498)], item.edge, 4)
        for y in (320, 376, 432):
            canvas.fill(ellipse(15, y, 9, 9), item.edge)
            canvas.stroke(ellipse(15, y, 9, 9), (240, 236, 226), 2)
    if item.has("collar", "lapel"):
        _both_sides(canvas, [(40, 152), (86, 190), (70, 226), (92, 236), (4, 306), (24, 200)], item.trim, item.edge)
    elif item.has("collar", "stand-up"):
        _both_sides(canvas, [(46, 122), (58, 164), (48, 206), (6, 272), (14, 232), (32, 164)], item.trim, item.edge)
    canvas.fill([(-116 * b, 484), (116 * b, 484), (116 * b, 506), (-116 * b, 506)], item.trim)
    if item.has("closure_type", "belt"):
        _belt(canvas, 112 * b, 392)
    if item.has("detail", "pockets"):
        for side in (-1, 1):
            flap = [(side * 38 * b, 418), (side * 92 * b, 408), (side * 94 * b, 428), (side * 40 * b, 438)]
            canvas.fill(flap, item.trim)
            canvas.stroke([*flap, flap[0]], item.edge, 3)


def dress(canvas: Canvas, item: Item) -> None:
    """A dress: bodice, narrow waist, flared skirt."""
    _sleeves(canvas, item, 52)
    b, hem = item.girth, HEMS[item.one("length")]
    wide = 70 + 0.36 * (hem - 300)
    top = [(38, 172), (84 * b, 188), (82 * b, 222), (60 * b, 312)]
    lay_cloth(canvas, item, [mirror([*top, (wide * b, hem)])])
    _hem(canvas, item, wide * b, hem)
    canvas.fill([(-61 * b, 304), (61 * b, 304), (62 * b, 322), (-62 * b, 322)], item.trim)
    _neckline(canvas, item)
    if item.has("ornament", "bow"):
        bow(canvas, (0, 313), 1.25, item)


def skirt(canvas: Canvas, item: Item) -> None:
    """A skirt with its waistband."""
    b, hem, top = item.girth, HEMS[item.one("length")] - 20, 150.0
    wide = 66 + 0.34 * (hem - top) if item.has("fit", "a-line") else 84.0
    lay_cloth(canvas, item, [mirror([(62 * b, top), (84 * b, top + 90), (wide * b, hem)])])
    _hem(canvas, item, wide * b, hem)
    canvas.fill([(-63 * b, top - 8), (63 * b, top - 8), (66 * b, top + 18), (-66 * b, top + 18)], item.trim)
    if item.has("detail", "pockets"):
        _patch(canvas, item, (22 * b, top + 60), (66 * b, top + 116), both=True)
    if item.has("detail", "belt"):
        _belt(canvas, 66 * b, top + 6)


def trousers(canvas: Canvas, item: Item) -> None:
    """Trousers."""
    _legs(canvas, item, 470.0 if item.has("length", "cropped") else 586.0)


def shorts(canvas: Canvas, item: Item) -> None:
    """Shorts."""
    _legs(canvas, item, 350.0)


_LEG = {"slim": (44.0, 0.0), "straight": (62.0, 4.0), "wide": (96.0, 28.0)}


def _legs(canvas: Canvas, item: Item, hem: float) -> None:
    b, top = item.girth, 80.0
    width, apart = _LEG[item.one("fit")]
    outer = 98.0 + apart
    hips = [(70 * b, top), (98 * b, top + 110)]
    lay_cloth(canvas, item, [mirror([*hips, (outer * b, hem), ((outer - width) * b, hem), (3, top + 150)])], 10)
    for side in (-1, 1):
        canvas.stroke([(side * (outer - width) * b, hem - 9), (side * outer * b, hem - 9)], item.edge, 5)
    canvas.fill([(-72 * b, top - 10), (72 * b, top - 10), (74 * b, top + 16), (-74 * b, top + 16)], item.trim)
    canvas.stroke([(0, top + 16), (0, top + 96)], item.edge, 4)
    if item.has("detail", "pockets"):
        for side in (-1, 1):
            pocket = [(side * 34 * b, top + 18), (side * 46 * b, top + 62), (side * 90 * b, top + 76)]
            canvas.stroke(pocket, (245, 240, 225), 6)
            canvas.stroke(pocket, item.edge, 2)
    if item.has("detail", "belt"):
        _belt(canvas, 73 * b, top + 3)


def bow(canvas: Canvas, at: tuple[float, float], size: float, item: Item) -> None:
    """A bow in the colour of the trim."""
    x, y = at
    for side in (-1, 1):
        wing = [(x, y), (x + side * 44 * size, y - 26 * size), (x + side * 44 * size, y + 26 * size)]
        tail = [(x, y), (x + side * 26 * size, y + 58 * size), (x + side * 8 * size, y + 58 * size)]
        for shape in (tail, wing):
            canvas.fill(shape, item.trim)
            canvas.stroke([*shape, shape[0]], item.edge, 3)
    canvas.fill(ellipse(x, y, 11 * size, 11 * size), item.edge)


def _neckline(canvas: Canvas, item: Item) -> None:
    ground = item.palette[0]
    NECKLINES[f"{item.one('neck_type')} neck"](canvas, Trim(item.trim, item.edge, shade(ground, 0.45), ground))


def _sleeves(canvas: Canvas, item: Item, width: float, cuffs: bool = False, length: float | None = None) -> None:
    reach = SLEEVES[item.one("sleeve_length")] if length is None else length
    if not reach:
        return
    t = np.linspace(0, reach, 10)
    for side in (-1, 1):
        arm = np.stack([side * (84 * item.girth + 0.40 * t), 208 + 0.92 * t], 1)
        cap = ellipse(side * 78 * item.girth, 210, 0.46 * width, 0.46 * width)
        lay_cloth(canvas, item, [cap, limb(arm, np.linspace(width, width - 0.10 * reach, 10))], 6)
        if cuffs:
            canvas.fill(limb(arm[-2:], np.full(2, width - 0.08 * reach)), item.trim)


def _hem(canvas: Canvas, item: Item, wide: float, hem: float) -> None:
    if item.has("hem", "ruffled"):
        for x in np.linspace(-wide, wide, 9):
            canvas.fill(ellipse(float(x), hem, wide / 7.5, 26, (0, 180)), item.trim)
            canvas.stroke(ellipse(float(x), hem, wide / 7.5, 26, (0, 180)), item.edge, 3)
    elif item.has("hem", "pleated"):
        for x in np.linspace(-0.86, 0.86, 9):
            canvas.stroke([(0.72 * wide * float(x), hem - 95), (wide * float(x), hem)], shade(item.palette[0], 0.42), 4)
    canvas.stroke([(-wide, hem), (wide, hem)], item.edge, 5)


def _patch(canvas: Canvas, item: Item, low: tuple[float, float], high: tuple[float, float], both: bool = False) -> None:
    (a, top), (c, bottom) = low, high
    for side in (-1, 1) if both else (1,):
        right = ((a, top), (c, top), (c, bottom - 10), ((a + c) / 2, bottom), (a, bottom - 10))
        patch = [(side * x, y) for x, y in right]
        canvas.fill(patch, item.trim)
        canvas.stroke([*patch, patch[0]], item.edge, 3)


def _belt(canvas: Canvas, wide: float, y: float) -> None:
    canvas.fill([(-wide, y - 11), (wide, y - 11), (wide, y + 11), (-wide, y + 11)], (74, 46, 28))
    buckle = [(-17, y - 16), (17, y - 16), (17, y + 16), (-17, y + 16)]
    canvas.stroke([*buckle, buckle[0]], (222, 190, 90), 6)


def _both_sides(canvas: Canvas, right: Sequence[tuple[float, float]], colour: Colour, edge: Colour) -> None:
    for side in (-1, 1):
        shape = [(side * x, y) for x, y in right]
        canvas.fill(shape, colour)
        canvas.stroke([*shape, shape[0]], edge, 3.5)


GARMENTS: Mapping[str, Callable[[Canvas, Item], None]] = {
    "t-shirt": t_shirt,
    "shirt": shirt,
    "jacket": jacket,
    "dress": dress,
    "skirt": skirt,
    "trousers": trousers,
    "shorts": shorts,
}
"""Every garment by category."""
