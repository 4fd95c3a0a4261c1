"""The generated catalogue: its faults at their rates, its bytes, and pictures in which the labels can be seen."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from pipeline.catalogue import count_kinds, infer_schema, read_catalogue
from pipeline.catalogue.generated.accessories import ITEMS, draw_item
from pipeline.catalogue.generated.canvas import SIZE
from pipeline.catalogue.generated.cloth import PATTERNS
from pipeline.catalogue.generated.format_b import LOOKS
from pipeline.catalogue.generated.garment import REACH, draw
from pipeline.catalogue.generated.looks import make_look, make_shot
from pipeline.catalogue.generated.necklines import NECKLINES
from pipeline.catalogue.generated.sample import SampleReport, write_sample
from pipeline.catalogue.generated.wardrobe import Item
from pipeline.errors import CatalogueError, OptionError
from pipeline.options import DataOptions


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SampleReport:
    return write_sample(tmp_path_factory.mktemp("sample") / "a", images=150, seed=5)


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("form", ["A", "B"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, form: str) -> None:
    write_sample(tmp_path / "one", form, 12, seed=1)
    write_sample(tmp_path / "two", form, 12, seed=1)
    write_sample(tmp_path / "other", form, 12, seed=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    photos = [set(digests(tmp_path / name / "images").items()) for name in ("one", "other")]
    assert {name for name, _ in photos[0] & photos[1]} == {"Thumbs.db", ".DS_Store"}


def test_the_faults_come_at_their_real_rates(sample: SampleReport) -> None:
    catalogue = read_catalogue(DataOptions(data=sample.data))
    assert len(catalogue) == sample.photos == 150
    assert (sample.rows, sample.repeated, sample.without_photo) == (188, 1, 37)
    assert count_kinds(catalogue.findings) == {
        "repeated": 1,
        "missing-photo": 37,
        "not-an-image": 2,
        "unknown-cells": 3,
    }
    with sample.data.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for attribute in ("neck", "sleeve_length", "pattern"):
        assert 36 <= sum(row[attribute] == "#N/A" for row in rows) <= 38


def test_the_labels_are_skewed_and_every_value_occurs(sample: SampleReport) -> None:
    catalogue = read_catalogue(DataOptions(data=sample.data))
    assert infer_schema(catalogue).values == (tuple("0123456"), tuple("0123"), tuple("0123456789"))
    for attribute, majority, least in (("neck", "6", 0.4), ("sleeve_length", "3", 0.5), ("pattern", "9", 0.4)):
        counts = Counter(cell[0] for cell in catalogue.cells[attribute] if cell)
        assert counts.most_common(1)[0][0] == majority
        assert least < counts[majority] / len(catalogue) < 0.7


def test_a_product_has_several_photos_with_the_same_labels(sample: SampleReport) -> None:
    catalogue = read_catalogue(DataOptions(data=sample.data))
    products: dict[str, list[int]] = {}
    for row, name in enumerate(catalogue.filenames):
        products.setdefault(name.rpartition("-")[0], []).append(row)
    assert len(products) == sample.products == 75
    assert max(map(len, products.values())) >= 3
    for rows in products.values():
        for attribute in catalogue.attributes:
            assert len({catalogue.cells[attribute][row] for row in rows} - {None}) <= 1


def test_the_odd_files_are_what_they_are_called(sample: SampleReport) -> None:
    assert list(sample.odd) == ["truncated", "cmyk", "rotated", "grey", "alpha"]
    pictures = {kind: Image.open(sample.images / name) for kind, name in sample.odd.items()}
    with pytest.raises((OSError, UnidentifiedImageError), match=r"truncated"):
        pictures["truncated"].load()
    assert {kind: p.mode for kind, p in pictures.items() if kind != "truncated"} == {
        "cmyk": "CMYK",
        "rotated": "RGB",
        "grey": "L",
        "alpha": "RGBA",
    }
    assert pictures["rotated"].getexif()[0x0112] == 6
    assert pictures["rotated"].size == SIZE[::-1]
    assert sample.odd["alpha"].endswith(".png")
    assert sorted(p.name for p in sample.images.iterdir() if p.suffix not in (".jpg", ".png")) == [
        ".DS_Store",
        "Thumbs.db",
    ]


@pytest.fixture(scope="module")
def sample_b(tmp_path_factory: pytest.TempPathFactory) -> SampleReport:
    return write_sample(tmp_path_factory.mktemp("sample") / "b", "B", 120, seed=3)


def test_format_b_has_many_categories_and_keys_of_which_most_are_absent(sample_b: SampleReport) -> None:
    assert sample_b.category_attributes is not None and sample_b.allowed_values is not None
    catalogue = read_catalogue(DataOptions(data=sample_b.data, category_attributes=sample_b.category_attributes))
    assert catalogue.format == "B"
    listed = json.loads(sample_b.category_attributes.read_text())
    assert set(catalogue.categories or ()) - {None} == set(listed) == set(ITEMS)
    assert len(listed) == 10
    assert len({attribute for attributes in listed.values() for attribute in attributes}) == 14
    own = [attribute for attribute in catalogue.attributes if attribute not in ("category", "seller_note")]
    carried = np.mean([[bool(cell) for cell in catalogue.cells[attribute]] for attribute in own])
    assert carried < 0.4
    several = {attribute for attribute in own if any(cell and len(cell) > 1 for cell in catalogue.cells[attribute])}
    assert {"pattern", "colour", "detail"} <= several
    schema = infer_schema(catalogue)
    _, mask = schema.encode(catalogue.cells, catalogue.categories)
    hats = np.array([c == "hat" for c in catalogue.categories or ()])
    assert not mask[hats][:, schema.slices[schema.attributes.index("neck_type")]].any()


def test_format_b_is_dirty_and_its_list_of_values_tells(sample_b: SampleReport) -> None:
    assert sample_b.allowed_values is not None
    listed = json.loads(sample_b.allowed_values.read_text())
    assert all(values.count("none") == 1 for values in listed.values())
    assert any(values[-1] != "none" for values in listed.values()), "none stands anywhere"
    options = DataOptions(
        sample_b.data, category_attributes=sample_b.category_attributes, allowed_values=sample_b.allowed_values
    )
    catalogue = read_catalogue(options)
    kinds = count_kinds(catalogue.findings)
    assert {"value-not-allowed", "bad-attributes", "repeated", "missing-photo", "not-an-image"} <= set(kinds)
    values = {
        value for attribute in catalogue.attributes[1:] for cell in catalogue.cells[attribute] for value in cell or ()
    }
    assert values <= {value for each in listed.values() for value in each}
    assert "none" in sample_b.data.read_text(encoding="utf-8")


@pytest.mark.parametrize("images", [1, 2, 5])
def test_tiny_samples(tmp_path: Path, images: int) -> None:
    report = write_sample(tmp_path / "s", images=images)
    assert len(read_catalogue(DataOptions(data=report.data))) == images


def test_writing_again_is_allowed_but_not_over_other_files(tmp_path: Path) -> None:
    write_sample(tmp_path / "s", images=2)
    write_sample(tmp_path / "s", images=2)
    with pytest.raises(CatalogueError, match=r"already holds other files, such as .*give an empty or a new folder"):
        write_sample(tmp_path / "s", images=2, seed=1)
    (tmp_path / "file").write_text("x")
    with pytest.raises(CatalogueError, match=r"is a file; the sample needs a folder"):
        write_sample(tmp_path / "file", images=2)


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no sample format 'C'; expected A or B"):
        write_sample(tmp_path, "C")
    with pytest.raises(OptionError, match=r"--images 0: at least one photo"):
        write_sample(tmp_path, images=0)


# The labels can be seen: two looks that differ in one attribute differ much in the right place of the picture.


def picture(neck: str, sleeve: str, pattern: str) -> np.ndarray:
    rng = np.random.default_rng(8)
    look = make_look(neck, sleeve, pattern, "teal", rng)
    return np.asarray(draw(look, make_shot(look, np.random.default_rng(4))), np.float32)


def changed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one - other).max(2) > 40


@pytest.mark.parametrize(("axis", "names", "share"), [(0, NECKLINES, 0.006), (1, REACH, 0.015), (2, PATTERNS, 0.02)])
def test_every_pair_of_values_can_be_told_apart(axis: int, names: dict[str, object], share: float) -> None:
    plain = ["round neck", "short", "solid"]
    pictures = {name: picture(*(name if i == axis else p for i, p in enumerate(plain))) for name in names}
    for one in pictures:
        for other in pictures:
            if one < other:
                assert changed(pictures[one], pictures[other]).mean() > share, (one, other)


def test_a_neckline_changes_the_upper_half_only() -> None:
    difference = changed(picture("round neck", "short", "solid"), picture("polo collar", "short", "solid"))
    assert difference[: SIZE[1] // 2].sum() > 10 * difference[SIZE[1] // 2 :].sum()


@pytest.mark.parametrize("category", ITEMS)
def test_what_a_label_of_format_b_names_can_be_seen(category: str) -> None:
    """Every choice of every attribute gives another picture of the same product."""
    plain = {attribute: choices[0][0] for attribute, choices in LOOKS[category].items()}

    def picture_with(**traits: tuple[str, ...]) -> np.ndarray:
        palette = ((30, 122, 126), (240, 240, 240), (16, 64, 66))
        item = Item(category, plain | traits, "solid", palette, (90, 40, 30), 1.0, 7)
        return np.asarray(draw_item(item, np.random.default_rng(1)), np.float32)

    before = picture_with()
    assert changed(before, np.broadcast_to(before[:1, :1], before.shape)).mean() > 0.08, "the item fills the photo"
    for attribute, choices in LOOKS[category].items():
        for values, _ in choices[1:]:
            assert changed(before, picture_with(**{attribute: values})).mean() > 0.001, (attribute, values)
