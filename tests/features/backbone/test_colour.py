"""The block `colour`: its formulas, on known pictures and beside a slow reading of the docstring."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from math import floor, sqrt

import numpy as np
import pytest

from pipeline.features.backbone.colour import COLOUR, colour_of
from pipeline.features.backbone.transform import view

HUE, VALUE, GREY, RGB, CELLS = (slice(0, 18), slice(18, 30), slice(30, 42), slice(42, 106), slice(106, 250))


def noise(count, size):
    """Photos of pixels that look random, the same wherever they are made; some grey, so that chroma 0 occurs."""
    at = np.arange(count * size * size * 3, dtype=np.uint64)
    pixels = ((at * 2654435761 >> 13) ^ (at * 40503 >> 5)).astype(np.uint8).reshape(count, size, size, 3)
    pixels[:, ::5, ::3] = pixels[:, ::5, ::3, :1]
    return pixels


def plain(*colour, size=60):
    return np.full((1, size, size, 3), colour, np.uint8)


def shares(size, cells):
    """What share of each pixel lies in each of the equal cells of a side: cells x size."""
    edge = [Fraction(size * cell, cells) for cell in range(cells + 1)]
    return [
        [max(Fraction(0), min(edge[cell + 1], Fraction(at + 1)) - max(edge[cell], Fraction(at))) for at in range(size)]
        for cell in range(cells)
    ]


def averaged(photo, rows, columns):
    """Exact area averages: (h, w, 3) to rows x columns x 3."""
    down, across = shares(len(photo), rows), shares(len(photo[0]), columns)
    area = Fraction(len(photo), rows) * Fraction(len(photo[0]), columns)

    def mean(row, column, channel):
        across = {x: q for x, q in enumerate(column) if q}
        return sum(p * sum(q * int(photo[y][x][channel]) for x, q in across.items()) for y, p in enumerate(row) if p)

    return [[[mean(r, c, channel) / area for channel in range(3)] for c in across] for r in down]


def by_the_docstring(photo):
    side = min(56, len(photo))
    small = [
        [[floor(value + Fraction(1, 2)) for value in pixel] for pixel in row] for row in averaged(photo, side, side)
    ]
    bins = [[Fraction(0)] * count for count in (18, 12, 12, 64)]
    for r, g, b in (pixel for row in small for pixel in row):
        v, c = max(r, g, b), max(r, g, b) - min(r, g, b)
        if c:
            h = Fraction(3 * (g - b), c) if v == r else Fraction(3 * (b - r), c) + 6 if v == g else None
            h = Fraction(3 * (r - g), c) + 12 if h is None else h
            bins[0][floor(h) % 18] += Fraction(c, 255)
        bins[1][12 * v // 256] += 1 - Fraction(c, 255)
        bins[2][12 * (r + g + b) // 768] += 1
        bins[3][16 * (r // 64) + 4 * (g // 64) + b // 64] += 1
    histograms = [sqrt(weight / side**2) for counts in bins for weight in counts]
    cells = [float(value / 255) for row in averaged(small, 8, 6) for cell in row for value in cell]
    return np.array(histograms + cells, np.float32)


@pytest.mark.parametrize("size", [1, 3, 11, 56, 61])
def test_every_number_is_what_the_docstring_says(size):
    photo = noise(1, size)
    assert np.array_equal(colour_of(photo)[0], by_the_docstring(photo[0]))


@pytest.mark.parametrize("size", [7, 61, 64, 224])
def test_a_row_is_the_same_bits_in_any_batch(size):
    photos = noise(19, size)
    together = colour_of(photos)
    assert together.dtype == np.float32
    assert together.shape == (19, COLOUR.dim)
    for count in (1, 2, 7, 16, 18):
        parts = [colour_of(photos[at : at + count]) for at in range(0, 19, count)]
        assert np.concatenate(parts).tobytes() == together.tobytes()


def test_no_photos_have_no_rows():
    assert colour_of(np.empty((0, 32, 32, 3), np.uint8)).shape == (0, 250)


def test_red_is_one_hue_at_full_chroma():
    (found,) = colour_of(plain(255, 0, 0))
    assert found[HUE].tolist() == [1.0, *[0.0] * 17]
    assert found[VALUE].tolist() == [0.0] * 12
    assert np.flatnonzero(found[GREY]).tolist() == [3]  # a third of the way: 12 * 255 // 768
    assert np.flatnonzero(found[RGB]).tolist() == [3 * 16]
    assert np.array_equal(found[CELLS], np.tile(np.float32([1, 0, 0]), 48))


@pytest.mark.parametrize(
    ("colour", "hue"),
    [((255, 255, 0), 3), ((0, 255, 0), 6), ((0, 255, 255), 9), ((0, 0, 255), 12), ((255, 0, 255), 15)],
)
def test_hues_go_round_in_steps_of_20_degrees(colour, hue):
    (found,) = colour_of(plain(*colour))
    assert np.flatnonzero(found[HUE]).tolist() == [hue]


def test_grey_has_no_hue():
    (found,) = colour_of(plain(128, 128, 128))
    assert not found[HUE].any()
    assert np.flatnonzero(found[VALUE]).tolist() == np.flatnonzero(found[GREY]).tolist() == [6]
    assert found[VALUE][6] == found[GREY][6] == 1
    assert np.flatnonzero(found[RGB]).tolist() == [2 * 16 + 2 * 4 + 2]
    assert np.array_equal(found[CELLS], np.full(144, np.float32(128 / 255)))


def test_half_black_half_white():
    photo = plain(0, 0, 0)
    photo[:, :, 30:] = 255
    (found,) = colour_of(photo)
    half = np.float32(sqrt(0.5))
    assert not found[HUE].any()
    for part, last in ((VALUE, 11), (GREY, 11), (RGB, 63)):
        assert found[part][[0, last]].tolist() == [half, half]
        assert np.count_nonzero(found[part]) == 2
    assert np.array_equal(
        found[CELLS].reshape(8, 6, 3), np.broadcast_to(np.float32([0, 0, 0, 1, 1, 1])[:, None], (8, 6, 3))
    )


@pytest.mark.parametrize("size", [5, 61, 64])
@pytest.mark.parametrize(("name", "turned"), [("hflip", np.s_[:, :, ::-1]), ("vflip", np.s_[:, ::-1])])
def test_a_mirrored_photo_has_the_mirrored_grid(size, name, turned):
    photos = noise(3, size)
    seen, mirrored = colour_of(photos), colour_of(view(photos, name))
    assert np.array_equal(mirrored[:, :106], seen[:, :106])
    assert np.array_equal(mirrored[:, CELLS].reshape(3, 8, 6, 3), seen[:, CELLS].reshape(3, 8, 6, 3)[turned])
    assert not np.array_equal(mirrored, seen)


def test_vectors_of_another_definition_need_another_version():
    """The very bits of a version: where they change, the version in the params of `COLOUR` must, and then this."""
    made = colour_of(np.concatenate([noise(2, 224), 255 - noise(2, 224)]))
    assert (COLOUR.params["version"], hashlib.sha256(made.tobytes()).hexdigest()) == (
        1,
        "5f99ec403669baf6a9759dc17873597b9d9d91466530c216b321198489b6c013",
    )
