"""A shoe from the side, a bag and a hat, in the manner of `wardrobe`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from pipeline.catalogue.generated.canvas import Canvas, Shot, ellipse, shade
from pipeline.catalogue.generated.looks import backdrop
from pipeline.catalogue.generated.wardrobe import GARMENTS, Curve, Item, bow, lay_cloth, mirror

_FRAMES = {
    "t-shirt": (1.08, -50.0),
    "shirt": (1.05, -50.0),
    "jacket": (1.0, -35.0),
    "dress": (0.98, -80.0),
    "skirt": (1.0, -70.0),
    "trousers": (1.05, -40.0),
    "shorts": (1.4, 75.0),
    "shoe": (1.18, -85.0),
    "bag": (0.96, -8.0),
    "hat": (1.08, -40.0),
}
"""Zoom and height at which each category fills the photo."""


def draw_item(item: Item, rng: np.random.Generator) -> Image.Image:
    """A photo of an item: RGB, SIZE pixels; the same arguments give the same pixels."""
    zoom, height = _FRAMES[item.category]
    shot = Shot(
        background=backdrop((item.palette[0], item.trim), rng),
        zoom=float(zoom * rng.uniform(0.9, 1.04)),
        shift=(float(rng.uniform(-14, 14)), float(height + rng.uniform(-12, 12))),
        tilt=float(rng.uniform(-0.09, 0.09)),
        turn=float(rng.choice([-1, 1]) * rng.uniform(0.92, 1.04)),
        light=float(rng.uniform(0.88, 1.08)),
        seed=int(rng.integers(2**31)),
    )
    canvas = Canvas(shot)
    ITEMS[item.category](canvas, item)
    return canvas.develop()


_LIFT = {"flat": 0.0, "block": 74.0, "stiletto": 112.0}


def shoe(canvas: Canvas, item: Item) -> None:
    """One shoe from the side, the toe to the right: sneaker-like when flat, a pump on a heel."""
    lift, b = _LIFT[item.one("heel")], item.girth
    ground, back = 430.0, 430.0 - 22 - _LIFT[item.one("heel")]
    left, toe = -168 * b, 178 * b
    sole: Curve = [(left, back), (-60 * b, back + 0.25 * lift), (60 * b, ground - 24), (toe, ground - 24)]
    bottom = [(toe + 6, ground - 6), (toe - 14, ground), (60 * b, ground), (-70 * b, back + 22 + 0.3 * lift)]
    if item.has("heel", "block"):
        canvas.fill([(left, back), (left + 84, back), (left + 78, ground), (left + 6, ground)], item.edge)
    elif item.has("heel", "stiletto"):
        canvas.fill([(left, back), (left + 62, back + 4), (left + 17, ground), (left + 3, ground)], item.edge)
    canvas.fill([*sole, *bottom, (left, back + 22)], item.trim)
    canvas.stroke([*sole, *bottom, (left, back + 22), sole[0]], item.edge, 3)
    if lift == 0:
        collar = back - 118
        dip: Curve = [(-104 * b, collar + 24)]
        front: Curve = [(-44 * b, collar + 2), (-6 * b, collar + 22), (50 * b, collar + 56), (120 * b, collar + 72)]
    else:
        collar = back - 74
        dip = [(-122 * b, collar + 44), (-40 * b, back - 14)]
        front = [(30 * b, ground - 78), (96 * b, ground - 68), (150 * b, ground - 46)]
    upper = [(left - 4, collar), *dip, *front, (166 * b, ground - 46), (toe, ground - 24), *reversed(sole[:3])]
    lay_cloth(canvas, item, [upper], 10)
    canvas.stroke([(left - 4, collar), *dip, front[0]], item.edge, 8)
    if item.has("closure_type", "laces"):
        for i in range(4):
            x, y = (-16 + 27 * i) * b, (collar + 24 + 14 * i if lift == 0 else ground - 84 + 6 * i)
            canvas.stroke([(x - 26, y + 14), (x + 16, y - 8)], (250, 250, 246), 9)
            canvas.stroke([(x - 26, y - 6), (x + 12, y + 16)], (250, 250, 246), 5)
    if item.has("closure_type", "strap"):
        strap: Curve = [
            (-132 * b, collar + 40),
            (-60 * b, collar + 8),
            (20 * b, collar + 44 if lift == 0 else ground - 74),
        ]
        canvas.stroke(strap, item.edge, 20)
        canvas.stroke(strap, item.trim, 14)
        canvas.fill(ellipse(-52 * b, collar + 10, 12, 12), (222, 190, 90))
    if item.has("ornament", "bow"):
        bow(canvas, (118 * b, ground - 92), 0.85, item)


def bag(canvas: Canvas, item: Item) -> None:
    """A bag: handle on top, shoulder strap, or both; zip, buckle, or open."""
    b = item.girth
    if item.has("handle", "shoulder strap"):
        strap = ellipse(0, 250, 148 * b, 270, (180, 360))
        canvas.stroke(strap, item.edge, 16)
        canvas.stroke(strap, item.trim, 10)
    if item.has("handle", "top handle"):
        for colour, width in ((item.edge, 26), (item.trim, 18)):
            canvas.stroke(ellipse(0, 262, 72 * b, 96, (180, 360)), colour, width)
    lay_cloth(canvas, item, [mirror([(128 * b, 250), (160 * b, 470), (150 * b, 490)])], 14)
    canvas.fill(mirror([(128 * b, 246), (131 * b, 272)]), item.trim)
    if item.has("closure_type", "zip"):
        canvas.stroke([(-116 * b, 294), (116 * b, 294)], (232, 232, 234), 14)
        canvas.stroke([(-116 * b, 294), (116 * b, 294)], (84, 84, 90), 6)
        canvas.fill([(98 * b, 290), (112 * b, 290), (110 * b, 330), (100 * b, 330)], (206, 208, 212))
    if item.has("closure_type", "buckle"):
        flap = [(128 * b, 250), (137 * b, 330), (60 * b, 384), (0, 392)]
        canvas.fill(mirror(flap), shade(item.palette[0], 0.8))
        canvas.stroke([*flap, *[(-x, y) for x, y in reversed(flap)]], item.edge, 4)
        canvas.fill([(-20, 356), (20, 356), (20, 418), (-20, 418)], item.edge)
        canvas.stroke([(-26, 374), (26, 374), (26, 408), (-26, 408), (-26, 374)], (222, 190, 90), 7)
    if item.has("ornament", "tassel"):
        x = 108 * b
        canvas.stroke([(x, 268), (x, 320)], item.edge, 5)
        canvas.fill([(x - 9, 318), (x + 9, 318), (x + 24, 420), (x - 24, 420)], item.trim)
        for offset in (-14, -5, 5, 14):
            canvas.stroke([(x + offset * 0.5, 324), (x + offset, 418)], item.edge, 2)
    if item.has("ornament", "bow"):
        bow(canvas, (-70 * b, 446), 1.0, item)


def hat(canvas: Canvas, item: Item) -> None:
    """A hat with a wide brim, a cap with a visor, or a knitted hat without either."""
    b = item.girth
    brim = item.one("brim")
    if brim == "wide":
        lay_cloth(canvas, item, [ellipse(0, 402, 212 * b, 50)], 8)
        crown = mirror([(30, 226), (84 * b, 216), (104 * b, 260), (112 * b, 398)])
    elif brim == "visor":
        crown = [*ellipse(0, 396, 128 * b, 158, (180, 360))]
    else:
        crown = [*ellipse(0, 380, 124 * b, 190, (180, 360)), (126 * b, 420), (-126 * b, 420)]
    lay_cloth(canvas, item, [crown], 14)
    if brim == "wide":
        canvas.fill(mirror([(109 * b, 352), (113 * b, 396)]), item.trim)
    elif brim == "visor":
        peak = [(20 * b, 388), (130 * b, 380), (214 * b, 424), (206 * b, 440), (90 * b, 426), (20 * b, 414)]
        canvas.fill(peak, item.trim)
        canvas.stroke([*peak, peak[0]], item.edge, 4)
        canvas.stroke(ellipse(0, 396, 44 * b, 158, (180, 360)), item.edge, 3)
        canvas.fill(ellipse(0, 240, 11, 8), item.trim)
    else:
        canvas.fill(mirror([(130 * b, 376), (134 * b, 436)]), item.trim)
        for x in np.linspace(-124, 124, 15):
            canvas.stroke([(float(x) * b, 380), (float(x) * b, 434)], item.edge, 3)
    if item.has("ornament", "pom-pom"):
        top = 216.0 if brim == "wide" else 238.0 if brim == "visor" else 192.0
        canvas.fill(ellipse(0, top - 14, 42, 40), item.edge)
        canvas.fill(ellipse(0, top - 16, 38, 36), shade(item.trim, 1.3))
        for angle in np.linspace(0, 2 * np.pi, 14):
            x, y = float(np.cos(angle)), float(np.sin(angle))
            canvas.stroke([(20 * x, top - 16 + 20 * y), (40 * x, top - 16 + 38 * y)], item.trim, 4)
    if item.has("ornament", "bow"):
        bow(canvas, (-66 * b, 376), 1.1, item)


ITEMS: Mapping[str, Callable[[Canvas, Item], None]] = {**GARMENTS, "shoe": shoe, "bag": bag, "hat": hat}
"""Everything that can be drawn, by category."""
