"""A generated catalogue of drawn garments, with the faults that real catalogues have at their real rates."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from PIL import Image

from pipeline.catalogue.generated.cloth import PATTERNS
from pipeline.catalogue.generated.format_b import FILES, RowB, make_products, make_row, write_rows
from pipeline.catalogue.generated.garment import REACH, Look, draw
from pipeline.catalogue.generated.looks import COLOURS, colour_name, make_look, make_shot
from pipeline.catalogue.generated.necklines import NECKLINES
from pipeline.errors import CatalogueError, OptionError
from pipeline.system import whole_file

ATTRIBUTES = ("neck", "sleeve_length", "pattern")
"""The attributes of format A, whose values are the positions in NAMES."""

NAMES = (tuple(NECKLINES), tuple(REACH), tuple(PATTERNS))
"""Per attribute, what each code looks like."""

ODD_FILES = ("truncated", "cmyk", "rotated", "grey", "alpha")
"""Photos that are stored in an unusual way, one of each."""

_KNOWN = ((124, 136, 130, 115, 134, 125, 1007), (128, 140, 145, 1362), (21, 37, 29, 46, 37, 38, 52, 32, 32, 1455))
_UNKNOWN = (452 / 2223, 448 / 2223, 444 / 2223)
_WITHOUT_PHOTO = 441 / 2223
_REPEATED = 15 / 2223
_PHOTOS_PER_PRODUCT = 2.0
_JUNK = {
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504),
    ".DS_Store": b"\x00\x00\x00\x01Bud1" + bytes(504),
}


@dataclass(frozen=True)
class SampleReport:
    """What was written.

    Attributes:
        data: The CSV file.
        images: Its folder; category_keys, allowed_values : the JSON files of format B, else None.
        photos: Image files that rows name.
        rows: Of the CSV.
        products: drawn.
        repeated: Rows that name an earlier row's photo.
        without_photo: Rows whose file does not exist.
        odd: How an unusual photo is stored -> its file name.
        junk: Files that are no photos.
    """

    data: Path
    images: Path
    category_attributes: Path | None
    allowed_values: Path | None
    photos: int
    rows: int
    products: int
    repeated: int
    without_photo: int
    odd: dict[str, str]
    junk: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    name: str
    codes: tuple[int, ...]
    unknown: tuple[bool, ...]
    look: Look

    def picture(self, rng: np.random.Generator) -> Image.Image:
        return draw(self.look, make_shot(self.look, rng))

    def renamed(self, name: str) -> _Row:
        return replace(self, name=name)

    def contradicted(self, rng: np.random.Generator) -> _Row:
        attribute = int(rng.integers(len(ATTRIBUTES)))
        codes = list(self.codes)
        codes[attribute] = (codes[attribute] + 1 + int(rng.integers(len(NAMES[attribute]) - 1))) % len(NAMES[attribute])
        return _Row(self.name, tuple(codes), (False,) * len(ATTRIBUTES), self.look)


AnyRow = TypeVar("AnyRow", _Row, RowB)


@dataclass(frozen=True)
class _Plan(Generic[AnyRow]):
    """The distinct rows in the order of the file, positions of those that have a photo, and the number of products."""

    rows: list[AnyRow]
    present: list[int]
    products: int


def write_sample(out: Path, format: str = "A", images: int = 300, seed: int = 0) -> SampleReport:
    """Write OUT/attributes.csv and OUT/images/ (for format B category_keys.json and attribute_values.json too).

    The same arguments give the same bytes. Writing again over the same sample is allowed.

    Raises:
        OptionError: For an unknown format or fewer than one image.
        CatalogueError: The folder holds other files.
    """
    if format not in ("A", "B"):
        raise OptionError(f"--format: there is no sample format {format!r}; expected A or B.")
    if images < 1:
        raise OptionError(f"--images {images}: at least one photo is needed.")
    rng = np.random.default_rng(seed)
    if format == "B":
        return _write(out, _plan_b(images, rng), seed, rng, write_rows)
    return _write(out, _plan(images, rng), seed, rng, _table_a)


def _write(
    out: Path,
    plan: _Plan[AnyRow],
    seed: int,
    rng: np.random.Generator,
    table: Callable[[Path, Sequence[AnyRow], np.random.Generator], list[tuple[object, ...]]],
) -> SampleReport:
    rows, present = plan.rows, plan.present
    images = len(present)
    odd = dict(zip(ODD_FILES[: max(images // 4, 1)], rng.permutation(images)[: len(ODD_FILES)].tolist(), strict=False))
    if "alpha" in odd:
        place = present[odd["alpha"]]
        rows[place] = rows[place].renamed(rows[place].name.removesuffix(".jpg") + ".png")
    folder = out / "images"
    _refuse_strangers(out, {rows[i].name for i in present} | set(_JUNK))
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {place: kind for kind, place in odd.items()}
    for i, place in enumerate(present):
        picture = rows[place].picture(np.random.default_rng((seed, place)))
        (folder / rows[place].name).write_bytes(_encode(picture, kinds.get(i, "")))
    for name, content in _JUNK.items():
        (folder / name).write_bytes(content)
    repeats = _repeats(rows, rng)
    with whole_file(out / "attributes.csv") as partial, partial.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table(out, _shuffle_in(rows, repeats, rng), rng))
    category_attributes, allowed_values = (out / name if (out / name).is_file() else None for name in FILES)
    return SampleReport(
        data=out / "attributes.csv",
        images=folder,
        category_attributes=category_attributes,
        allowed_values=allowed_values,
        photos=images,
        rows=len(rows) + len(repeats),
        products=plan.products,
        repeated=len(repeats),
        without_photo=len(rows) - images,
        odd={kind: rows[present[place]].name for kind, place in odd.items()},
        junk=tuple(_JUNK),
    )


def _plan_b(images: int, rng: np.random.Generator) -> _Plan[RowB]:
    """As `_plan`, with products of all categories."""
    total = max(images, round(images / (1 - _WITHOUT_PHOTO)))
    products = max(1, round(images / _PHOTOS_PER_PRODUCT))
    items = make_products(products, rng)
    owner = np.concatenate([np.arange(products), rng.choice(products, total - products)])
    serial = rng.permutation(90_000)[:products] + 10_000
    views = np.zeros(products, int)
    rows = []
    for product in owner.tolist():
        views[product] += 1
        category = items[product].category.title().replace("-", "")
        name = f"{serial[product]}-Selvedge-{category}-{serial[product] * 7 % 9973:04d}-{views[product]}.jpg"
        rows.append(make_row(name, items[product], rng))
    order = rng.permutation(total)
    return _Plan([rows[i] for i in order], np.flatnonzero(order < images).tolist(), products)


def _plan(images: int, rng: np.random.Generator) -> _Plan[_Row]:
    total = max(images, round(images / (1 - _WITHOUT_PHOTO)))
    products = max(1, round(images / _PHOTOS_PER_PRODUCT))
    least = 4 if products >= 150 else 3 if products >= 75 else 1
    codes = np.stack([_deal(weights, products, least, rng) for weights in _KNOWN], 1)
    colours = list(COLOURS)
    looks = []
    for neck, sleeve, pattern in codes.tolist():
        colour = colours[rng.integers(len(colours))]
        looks.append(make_look(NAMES[0][neck], NAMES[1][sleeve], NAMES[2][pattern], colour, rng))
    # Every product has a photo, those with a rare pattern a second one; the other rows show the common pattern.
    common = codes[:, 2] == len(NAMES[2]) - 1
    second = np.flatnonzero(~common)[: images - products]
    others = np.flatnonzero(common) if common.any() else np.arange(products)
    owner = np.concatenate([np.arange(products), second, rng.choice(others, total - products - len(second))])
    missing = np.concatenate([np.zeros(images, bool), np.ones(total - images, bool)])
    unknown = np.stack([_exactly(total, rate, rng) for rate in _UNKNOWN], 1)
    serial = rng.permutation(90_000)[:products] + 10_000
    views = np.zeros(products, int)
    rows = []
    for product, hidden in zip(owner.tolist(), unknown.tolist(), strict=True):
        views[product] += 1
        ground = colour_name(looks[product].palette[0]).title()
        name = f"{serial[product]}-Selvedge-Men-{ground}-T-shirt-{serial[product] * 7 % 9973:04d}-{views[product]}.jpg"
        rows.append(_Row(name, tuple(codes[product].tolist()), tuple(hidden), looks[product]))
    order = rng.permutation(total)
    return _Plan([rows[i] for i in order], np.flatnonzero(~missing[order]).tolist(), products)


def _deal(weights: Sequence[int], products: int, least: int, rng: np.random.Generator) -> np.ndarray:
    """A code per product: the real shares, but every value at least `least` times where there are products enough."""
    share = np.array(weights) / sum(weights)
    counts = np.maximum(np.round(share[:-1] * products).astype(int), least)
    codes = np.repeat(np.arange(len(weights) - 1), counts)[: products // 2 + 1]
    return rng.permutation(np.concatenate([codes, np.full(max(products - len(codes), 0), len(weights) - 1)])[:products])


def _exactly(n: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    chosen = np.zeros(n, bool)
    chosen[rng.permutation(n)[: round(n * rate)]] = True
    return chosen


def _repeats(rows: Sequence[AnyRow], rng: np.random.Generator) -> list[tuple[int, AnyRow]]:
    """Rows that name an earlier row's photo again, most of them with other labels."""
    repeats = []
    for place in rng.permutation(len(rows))[: max(1, round(len(rows) * _REPEATED))].tolist():
        row = rows[place]
        repeats.append((place, row.contradicted(rng) if rng.random() < 0.8 else row))
    return repeats


def _shuffle_in(
    rows: Sequence[AnyRow], repeats: Sequence[tuple[int, AnyRow]], rng: np.random.Generator
) -> list[AnyRow]:
    at: dict[int, list[AnyRow]] = {}
    for place, row in repeats:
        at.setdefault(int(rng.integers(place, len(rows))), []).append(row)
    entries: list[AnyRow] = []
    for place, row in enumerate(rows):
        entries.append(row)
        entries.extend(at.get(place, []))
    return entries


def _encode(picture: Image.Image, kind: str) -> bytes:
    data = io.BytesIO()
    if kind == "alpha":
        mask = Image.new("L", picture.size, 255)
        mask.paste(0, (0, 0, picture.width, 12))
        picture.putalpha(mask)
        picture.save(data, "PNG", compress_level=6)
        return data.getvalue()
    exif = Image.Exif()
    if kind == "rotated":
        exif[0x0112] = 6
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    elif kind in ("cmyk", "grey"):
        picture = picture.convert("CMYK" if kind == "cmyk" else "L")
    extra = {"exif": exif} if kind == "rotated" else {}
    picture.save(data, "JPEG", quality=88, subsampling=0, optimize=False, progressive=False, **extra)
    content = data.getvalue()
    return content[: len(content) * 6 // 10] if kind == "truncated" else content


def _table_a(out: Path, rows: Sequence[_Row], rng: np.random.Generator) -> list[tuple[object, ...]]:
    """The rows of the CSV with its header."""
    table: list[tuple[object, ...]] = [("filename", *ATTRIBUTES)]
    for row in rows:
        cells = ("#N/A" if hidden else code for code, hidden in zip(row.codes, row.unknown, strict=True))
        table.append((row.name, *cells))
    return table


def _refuse_strangers(out: Path, names: set[str]) -> None:
    if out.exists() and not out.is_dir():
        raise CatalogueError(f"{out} is a file; the sample needs a folder.")
    folder = out / "images"
    there = [p for p in out.iterdir() if p.name not in ("images", "attributes.csv", *FILES)] if out.is_dir() else []
    there += [p for p in folder.iterdir() if p.name not in names] if folder.is_dir() else []
    if there:
        raise CatalogueError(f"{out} already holds other files, such as {min(there)}; give an empty or a new folder.")
