"""A picture that is drawn on in drawing units, whatever the zoom, tilt and turn of the photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from pipeline.arrays import Float64
from pipeline.catalogue.generated.cloth import Colour, Plane

SIZE = (240, 320)
"""Width and height of a finished picture in pixels."""

_SAMPLES = 2
_CHEST = 290.0

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Shot:
    """How one photo is taken.

    Attributes:
        background: RGB.
        zoom: 1 shows 480 x 640 units.
        shift: Of the picture, in units.
        tilt: In radians.
        turn: How wide the body looks, 1 from the front.
        light: Brightness around 1.
        seed: Of the noise.
    """

    background: Colour
    zoom: float
    shift: tuple[float, float]
    tilt: float
    turn: float
    light: float
    seed: int


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels (left, top, right, bottom) with the position of each in units, float32 (height, width)."""

    box: tuple[int, int, int, int]
    u: Plane
    v: Plane


class Canvas:
    """A supersampled picture; every shape is given in units and placed by the shot."""

    def __init__(self, shot: Shot) -> None:
        self.shot = shot
        width, height = SIZE[0] * _SAMPLES, SIZE[1] * _SAMPLES
        self.scale = shot.zoom * width / 480
        cos, sin = np.cos(shot.tilt), np.sin(shot.tilt)
        self._matrix = self.scale * np.array([[cos * shot.turn, -sin], [sin * shot.turn, cos]])
        self._origin = np.array([width / 2, height / 2]) + self.scale * np.array(shot.shift)
        self._centre = np.array([0.0, _CHEST])
        self.image = _backdrop(shot).resize((width, height), Image.Resampling.BILINEAR)
        self._pen = ImageDraw.Draw(self.image)

    def window(self, *shapes: Points) -> Window:
        """The pixels around some shapes."""
        x, y = np.array([point for shape in shapes for point in self._place(shape)]).T
        left, top = max(int(x.min()) - 1, 0), max(int(y.min()) - 1, 0)
        right, bottom = min(int(x.max()) + 2, self.image.width), min(int(y.max()) + 2, self.image.height)
        inverse = np.linalg.inv(self._matrix).astype(np.float32)
        across = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(self._origin[0])
        down = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(self._origin[1])
        u = (inverse[0, 0] * across + np.float32(self._centre[0])) + inverse[0, 1] * down
        v = (inverse[1, 1] * down + np.float32(self._centre[1])) + inverse[1, 0] * across
        return Window((left, top, right, bottom), u, v)

    def fill(self, points: Points, colour: Colour) -> None:
        """Paint a polygon."""
        self._pen.polygon(self._place(points), fill=colour)

    def stroke(self, points: Points, colour: Colour, width: float) -> None:
        """Paint a line, its width in units."""
        self._pen.line(self._place(points), fill=colour, width=max(1, round(width * self.scale)), joint="curve")

    def lay(self, cloth: Image.Image, window: Window, shapes: Sequence[Points], softness: float) -> None:
        """Lay cloth, a picture of the window, inside the shapes, darker towards their edges as on a round body."""
        mask = Image.new("L", cloth.size)
        pen = ImageDraw.Draw(mask)
        for shape in shapes:
            pen.polygon([(x - window.box[0], y - window.box[1]) for x, y in self._place(shape)], fill=255)
        box = mask.getbbox()
        if box is None:
            return
        mask = mask.crop(box)
        depth = mask.filter(ImageFilter.BoxBlur(softness * self.scale))
        shading = depth.point([min(255, round(92 + 0.68 * level)) for level in range(256)])
        part = ImageChops.multiply(cloth.crop(box), Image.merge("RGB", [shading] * 3))
        self.image.paste(part, (window.box[0] + box[0], window.box[1] + box[1]), mask)

    def develop(self) -> Image.Image:
        """The finished picture: RGB, SIZE pixels, with the shot's light and a little noise."""
        small = self.image.reduce(_SAMPLES)
        noise = np.random.default_rng(self.shot.seed).standard_normal((small.height, small.width), np.float32)
        pixels = np.asarray(small) * np.float32(self.shot.light) + np.float32(2.5) * noise[:, :, None]
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    def _place(self, points: Points) -> list[tuple[float, float]]:
        placed = (np.asarray(points, float) - self._centre) @ self._matrix.T + self._origin
        return [(float(x), float(y)) for x, y in placed]


def shade(colour: Colour, factor: float) -> Colour:
    """The colour darker (factor below 1) or lighter (above 1)."""
    r, g, b = (round(c * factor) if factor <= 1 else round(255 - (255 - c) / factor) for c in colour)
    return r, g, b


def ellipse(x: float, y: float, rx: float, ry: float, arc: tuple[float, float] = (0, 360)) -> list[tuple[float, float]]:
    """Points of an ellipse, or of the arc between two angles: 0 degrees is to the right, 90 downwards."""
    angles = np.radians(np.linspace(*arc, 40))
    return [(x + rx * float(np.cos(a)), y + ry * float(np.sin(a))) for a in angles]


def limb(points: Float64, widths: Float64) -> list[tuple[float, float]]:
    """The outline of a line, (k, 2), that is as wide at each of its points as `widths`, (k,), says."""
    along = np.gradient(points, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.linalg.norm(along, axis=1, keepdims=True)
    aside = normal * widths[:, None] / 2
    return [(float(x), float(y)) for x, y in np.concatenate([points + aside, (points - aside)[::-1]])]


def _backdrop(shot: Shot) -> Image.Image:
    down = np.linspace(1.06, 0.88, 40)[:, None, None]
    across = 1 - 0.10 * np.linspace(-1, 1, 30)[None, :, None] ** 2
    return Image.fromarray(np.clip(np.array(shot.background) * down * across, 0, 255).astype(np.uint8))
