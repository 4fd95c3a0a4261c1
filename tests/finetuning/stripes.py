"""Photos of one of three stripe directions, so that a tiny network can learn them in a few steps."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = ("across", "down", "plain")
SIZE = 32


def write_stripes(folder: Path, photos: int = 48) -> Path:
    """A format A catalogue with the single-valued attributes `stripes` and `tone`; one photo is damaged."""
    images = folder / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(photos):
        kind, wave = KINDS[i % 3], 110 * np.sign(np.sin(np.arange(SIZE) * np.pi / 4 + rng.uniform(0, 6)))
        pattern = {"across": wave[:, None], "down": wave[None, :], "plain": np.zeros((1, 1))}[kind]
        pixels = 128 + np.broadcast_to(pattern, (SIZE, SIZE))[..., None] + rng.normal(0, 8, (SIZE, SIZE, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(images / f"p{i:02}.png")
        rows.append((f"p{i:02}.png", "#N/A" if i % 11 == 5 else kind, "dark" if i % 2 else "light"))
    (images / "p00.png").write_bytes(b"no photo")
    with (folder / "attributes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("filename", "stripes", "tone"), *rows])
    return folder / "attributes.csv"
