"""A catalogue in format A whose vectors are made up and cached: everything `fit-heads` needs, without a backbone."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cache import BaseKey, Block, Column, FeatureCache

DIM = 12
NECKS, SLEEVES = ("0", "1", "2"), ("short", "long")


@dataclass(frozen=True)
class SmallCatalogue:
    data: Path
    cache: Path
    attribute: BaseKey
    columns: tuple[Column, ...]


def base_key(**changes: object) -> BaseKey:
    fields = {
        "weights_sha256": "ab" * 32,
        "architecture": "resnet18",
        "size": 64,
        "fit": "squash",
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "pixel_policy": 1,
        "decoder": "pillow",
        "precision": "fp32",
    }
    return BaseKey(**{**fields, **changes})  # type: ignore[arg-type]


def write_catalogue(
    folder: Path,
    photos: int = 120,
    unknown_every: int = 7,
    informative: bool = True,
    tell: Collection[str] = (),
    pictures: bool = False,
) -> SmallCatalogue:
    """`photos` files of two per product; neck and sleeve can be read off the vectors by a linear head.

    Vectors that are not `informative` are noise; `tell` names photos whose first numbers give their neck away.
    The files are real photos only with `pictures`: fitting reads their ids, not their pixels.
    """
    images = folder / "data" / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(NECKS), len(SLEEVES), DIM)) * 2
    rows, vectors = [], []
    for i in range(photos):
        product = i // 2
        neck, sleeve = product % 3, (product // 3) % 2
        name = f"shirt{product}-{i % 2}.jpg"
        if pictures:
            Image.new("RGB", (120, 160), (i, 2 * i % 256, 255 - i)).save(images / name)
        else:
            (images / name).write_bytes(b"photo %d" % i)
        known = "#N/A" if product % unknown_every == 0 else NECKS[neck]
        rows.append((name, known, SLEEVES[sleeve]))
        vectors.append(centres[neck, sleeve] * informative + rng.normal(size=DIM))
        if name in tell:
            vectors[-1][:3] = 4.0 * (np.arange(3) == neck)
    data = folder / "data" / "attributes.csv"
    write_rows(data, rows)
    attribute, block = base_key(), Block("pooled", DIM)
    columns = tuple(Column(block, view) for view in ("identity", "hflip"))
    cache = FeatureCache(folder / "features")
    ids, problems = cache.files.ids([images / name for name, *_ in rows])
    assert not problems
    X = np.array(vectors, np.float32)
    with cache.writer(attribute, notes={"weights_source": "random:0", "random_weights": False}) as writer:
        writer.append(ids, {columns[0]: X, columns[1]: X + np.float32(0.1)})
    return SmallCatalogue(data, cache.root, attribute, columns)


def write_rows(path: Path, rows: list[tuple[str, str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("filename", "neck", "sleeve_length"))
        writer.writerows(rows)


def read_rows(path: Path) -> list[tuple[str, str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [(r["filename"], r["neck"], r["sleeve_length"]) for r in csv.DictReader(file)]
