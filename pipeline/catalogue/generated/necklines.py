"""The seven necklines, drawn over a shirt that closes straight below the neck."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.catalogue.generated.canvas import Canvas, Points, ellipse, shade
from pipeline.catalogue.generated.cloth import Colour


@dataclass(frozen=True)
class Trim:
    """Colours around the neck: the trim and its dark edge, the skin, the ground colour of the cloth."""

    colour: Colour
    edge: Colour
    skin: Colour
    cloth: Colour


def hood_behind(canvas: Canvas, trim: Trim) -> None:
    """The part of a hood that is behind the head; drawn before the body."""
    canvas.fill(ellipse(0, 112, 92, 108), trim.edge)
    canvas.fill(ellipse(0, 110, 87, 103), shade(trim.cloth, 0.86))
    canvas.fill(ellipse(0, 112, 66, 84), shade(trim.cloth, 0.5))


def _round(canvas: Canvas, trim: Trim) -> None:
    _opening(canvas, trim, [(38, 168), *ellipse(0, 170, 38, 30, (0, 180)), (-38, 168)])
    canvas.stroke(ellipse(0, 169, 41, 34, (-4, 184)), trim.edge, 12)
    canvas.stroke(ellipse(0, 169, 41, 34, (-4, 184)), trim.colour, 8)


def _v(canvas: Canvas, trim: Trim) -> None:
    _opening(canvas, trim, [(-38, 166), (38, 166), (0, 252)])
    edge = [(-41, 166), (0, 256), (41, 166)]
    canvas.stroke(edge, trim.edge, 13)
    canvas.stroke(edge, trim.colour, 9)


def _polo(canvas: Canvas, trim: Trim) -> None:
    _opening(canvas, trim, [(-30, 160), (30, 160), (0, 218)])
    _placket(canvas, trim, 208, 292, buttons=3)
    for side in (-1, 1):
        flap = [(side * x, y) for x, y in ((32, 146), (58, 184), (38, 238), (1, 206), (22, 176))]
        canvas.fill(flap, trim.colour)
        canvas.stroke([*flap, flap[0]], trim.edge, 4)


def _henley(canvas: Canvas, trim: Trim) -> None:
    _opening(canvas, trim, [(36, 168), *ellipse(0, 168, 36, 26, (0, 180)), (-36, 168)])
    _placket(canvas, trim, 196, 318, buttons=4)
    canvas.stroke(ellipse(0, 167, 38, 29, (-4, 184)), trim.edge, 9)
    canvas.stroke(ellipse(0, 167, 38, 29, (-4, 184)), trim.colour, 5)


def _mandarin(canvas: Canvas, trim: Trim) -> None:
    _opening(canvas, trim, [(-32, 158), (32, 158), (0, 204)])
    _placket(canvas, trim, 208, 262, buttons=2)
    for side in (-1, 1):
        band = [(side * x, y) for x, y in ((31, 146), (44, 174), (34, 196), (5, 216), (4, 188), (20, 176))]
        canvas.fill(band, trim.colour)
        canvas.stroke([*band, band[0]], trim.edge, 4)


def _hooded(canvas: Canvas, trim: Trim) -> None:
    _opening(canvas, trim, [(-34, 160), (34, 160), (0, 222)])
    for side in (1, -1):
        wrap = [(side * x, y) for x, y in ((38, 134), (86, 128), (92, 172), (60, 214), (-6, 250), (-4, 214), (26, 176))]
        canvas.fill(wrap, shade(trim.cloth, 0.88))
        canvas.stroke([*wrap, wrap[0]], trim.edge, 4)
    for side in (-1, 1):
        cord = [(side * 17, 234), (side * 21, 280), (side * 19, 322)]
        canvas.stroke(cord, trim.edge, 8)
        canvas.stroke(cord, (245, 243, 236), 5)


def _turtle(canvas: Canvas, trim: Trim) -> None:
    band = [
        (-33, 128),
        *ellipse(0, 134, 33, 8, (180, 0)),
        (33, 128),
        (38, 164),
        (46, 188),
        (0, 198),
        (-46, 188),
        (-38, 164),
    ]
    canvas.fill(band, trim.colour)
    for x in range(-30, 31, 10):
        canvas.stroke([(x, 140), (x * 1.2, 184)], shade(trim.colour, 0.82), 2)
    canvas.stroke([(-38, 164), (0, 172), (38, 164)], trim.edge, 4)
    canvas.stroke([*band, band[0]], trim.edge, 4)


def _opening(canvas: Canvas, trim: Trim, shape: Points) -> None:
    canvas.fill(shape, shade(trim.skin, 0.94))


def _placket(canvas: Canvas, trim: Trim, top: float, bottom: float, buttons: int) -> None:
    strip = [(-10, top), (10, top), (10, bottom), (-10, bottom)]
    canvas.fill(strip, trim.colour)
    canvas.stroke([*strip, strip[0]], trim.edge, 3)
    for i in range(buttons):
        y = top + (bottom - top) * (i + 0.75) / (buttons + 0.35)
        canvas.fill(ellipse(0, y, 5.5, 5.5), (250, 248, 240))
        canvas.stroke(ellipse(0, y, 5.5, 5.5), trim.edge, 2)


NECKLINES: Mapping[str, Callable[[Canvas, Trim], None]] = {
    "v neck": _v,
    "polo collar": _polo,
    "henley": _henley,
    "mandarin collar": _mandarin,
    "hooded": _hooded,
    "turtle neck": _turtle,
    "round neck": _round,
}
"""Every neckline by name."""
