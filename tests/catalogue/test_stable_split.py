"""The split that stays: who moves when photos come, go or are labelled anew, how even it is, what a given one keeps."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalogue import (
    PARTS,
    Catalogue,
    Finding,
    groups_of,
    identities_of,
    infer_schema,
    keyed_split,
    make_split,
    split_rows,
    write_split,
)
from pipeline.errors import CatalogueError
from pipeline.options import SplitOptions

SHARES = (0.64, 0.16, 0.20)


def content(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def catalogue(names: Sequence[str], values: Sequence[str], products: Sequence[str | None] | None = None) -> Catalogue:
    cells = {"colour": [(value,) for value in values]}
    paths = [Path(name) for name in names]
    return Catalogue(Path(), names, paths, ("colour",), cells, groups=products)


def split(
    rows: Catalogue, options: SplitOptions, contents: Mapping[str, str] | None = None
) -> tuple[dict[str, str], tuple[Finding, ...]]:
    """The part of each photo, as `fit-heads` would split, and what was found."""
    ids = np.array([content((contents or {}).get(name, name)) for name in rows.filenames], "S32")
    groups = groups_of(rows.filenames, options.group_regex, rows.groups, ids)
    made, found = split_rows(rows, infer_schema(rows), ids, groups, options)
    return dict(
        zip(rows.filenames, made.parts.tolist(), strict=True),
    ), found


def save(path: Path, parts: Mapping[str, str]) -> Path:
    from pipeline.catalogue import Split

    names = list(parts)
    ids = np.array([content(name) for name in names], "S32")
    write_split(path, names, ids, groups_of(names), Split(np.array(list(parts.values()))))
    return path


# Who moves


@settings(max_examples=60, deadline=None)
@given(
    products=st.lists(st.integers(1, 4), min_size=80, max_size=120),
    added=st.integers(1, 200),
    seed=st.integers(0, 2**31),
    column=st.booleans(),
)
def test_added_removed_shuffled_and_relabelled_rows_move_nobody_else(
    products: list[int], added: int, seed: int, column: bool
) -> None:
    """New photos of old and of new products, with values that nobody had; then photos go, then labels change."""
    draw = random.Random(seed)
    options = SplitOptions(split_seed=seed)

    def parts(names: list[str], values: int) -> dict[str, str]:
        names = draw.sample(names, len(names))
        named = [name.split("-")[0] for name in names] if column else None
        return split(catalogue(names, [f"v{draw.randrange(values)}" for _ in names], named), options)[0]

    old = [f"p{i}-{n}.jpg" for i, count in enumerate(products) for n in range(count)]
    new = [f"p{draw.randrange(len(products))}-{10 + n}.jpg" if n % 3 else f"q{n}-1.jpg" for n in range(added)]
    before = parts(old, 3)
    grown = parts([*old, *new], 9)
    assert {name: grown[name] for name in old} == before
    kept = draw.sample(old, len(old) - 15)
    assert parts(kept, 2) == {name: before[name] for name in kept}


def test_the_hash_is_this_one() -> None:
    """A later version must deal as this one did."""
    names = ["a-1.jpg", "a-2.jpg", "shoes/b.jpg", "c.png", "ü.jpg", *(f"{i}.jpg" for i in range(20))]
    identities = identities_of(names)
    assert identities[0] == identities[1] == (0, "product a")
    parts = keyed_split(groups_of(names), identities, SHARES, 0)
    expected = []
    for _, text in identities:
        digest = hashlib.blake2b(text.encode(), digest_size=16, key=b"0").digest()
        at = int.from_bytes(digest[:8], "big") / 2**64
        expected.append("train" if at < 0.64 else "validation" if at < 0.80 else "test")
    assert set(expected) == set(PARTS)
    assert parts.tolist() == expected


def test_the_seed_decides() -> None:
    rows = catalogue([f"{i}.jpg" for i in range(300)], ["a"] * 300)
    one, again, other = (split(rows, SplitOptions(split_seed=seed))[0] for seed in (1, 1, 2))
    assert one == again
    assert 100 < sum(one[name] != other[name] for name in one) < 220


def test_a_photo_that_links_products_moves_these_alone() -> None:
    """Bytes of b in a photo of a: the two are one group now, and no other photo hears of it."""
    names = [f"{i:03}-1.jpg" for i in range(200)]
    before, _ = split(catalogue(names, ["x"] * 200), SplitOptions())
    differing = next(n for n in names if before[n] != before[names[0]])
    grown, _ = split(catalogue([*names, "000-2.jpg"], ["x"] * 201), SplitOptions(), {"000-2.jpg": differing})
    moved = [name for name in names if grown[name] != before[name]]
    assert grown[names[0]] == grown[differing] == grown["000-2.jpg"]
    assert len(moved) == 1 and moved[0] in (names[0], differing)


def test_linked_products_are_spread_as_all_others_are() -> None:
    """Pairs of products that are one group each: their shares are those of single products, not of the lower draw."""
    names = [f"{i:05}-1.jpg" for i in range(8000)]
    same = {name: names[i - i % 2] for i, name in enumerate(names)}
    parts, _ = split(catalogue(names, ["x"] * 8000), SplitOptions(), same)
    shares = np.array([Counter(parts.values())[part] / 8000 for part in PARTS])
    assert np.abs(shares - SHARES).max() < 0.02


def test_another_class_folder_is_another_label_and_no_other_part() -> None:
    """In folders by class a photo goes by its bytes, or by a product's name, whatever folder it lies in."""
    names = [f"{'shirt' if i % 2 else 'skirt'}/{i}.jpg" for i in range(100)] + ["shirt/p-1.jpg", "skirt/q-1.jpg"]
    bytes_of = {name: name for name in names}
    rows = replace(catalogue(names, [n.split("/")[0] for n in names]), format="folder")
    before, _ = split(rows, SplitOptions(), bytes_of)
    relabelled = {name: f"dress/{Path(name).name}" for name in [*names[:50], "shirt/p-1.jpg"]}
    moved = [relabelled.get(name, name) for name in names]
    rows = replace(catalogue(moved, [n.split("/")[0] for n in moved]), format="folder")
    after, _ = split(rows, SplitOptions(), {relabelled.get(name, name): name for name in names})
    assert [after[name] for name in moved] == [before[name] for name in names]


def test_photos_without_a_product_in_the_column_go_by_their_bytes() -> None:
    names, products = [f"{i}.jpg" for i in range(90)], [None if i % 2 else f"P{i}" for i in range(90)]
    before, _ = split(catalogue(names, ["a"] * 90, products), SplitOptions())
    renamed = [f"new-{name}" for name in names]
    same = dict(zip(renamed, names, strict=True))
    after, _ = split(catalogue(renamed, ["a"] * 90, products), SplitOptions(), same)
    assert list(after.values()) == list(before.values())


# How even it is


def value_of(photos: int) -> npt.NDArray[np.int64]:
    """A value per photo, each rarer than the one before: 50 %, 25 %, ... of the photos."""
    return np.minimum(np.random.default_rng(0).geometric(0.5, photos), 8)


@pytest.mark.parametrize(
    ("photos", "share", "value"), [(200, 0.075, 0.20), (2000, 0.025, 0.065), (200_000, 0.003, 0.006)]
)
def test_shares_and_values_are_within_the_stated_bounds(photos: int, share: float, value: float) -> None:
    """The bounds of docs/FIGURES.md: 2.6 standard deviations of independent draws, for values that a tenth have."""
    names = [f"{i}.jpg" for i in range(photos)]
    groups, identities, values = groups_of(names), identities_of(names), value_of(photos)
    outside = 0
    for seed in range(1 if photos > 10_000 else 40):
        parts = keyed_split(groups, identities, SHARES, seed)
        every = np.array([(parts == part).mean() for part in PARTS])
        of_value = [np.array([(parts[values == v] == part).mean() for part in PARTS]) for v in (1, 2, 3)]
        outside += np.abs(every - SHARES).max() > share or max(np.abs(o - SHARES).max() for o in of_value) > value
    assert outside <= 4


def test_few_products_leave_no_part_empty() -> None:
    for count in range(3, 12):
        names = [f"{i}.jpg" for i in range(count)]
        for seed in range(30):
            parts = keyed_split(groups_of(names), identities_of(names), SHARES, seed)
            assert set(parts.tolist()) == set(PARTS)
    with pytest.raises(CatalogueError, match="at least 3 groups are needed"):
        keyed_split(groups_of(["a.jpg", "b.jpg"]), identities_of(["a.jpg", "b.jpg"]), SHARES, 0)


def test_by_labels_is_the_stratified_split() -> None:
    names = [f"{i}.jpg" for i in range(300)]
    rows = catalogue(names, [f"v{v}" for v in value_of(300)])
    schema = infer_schema(rows)
    expected = make_split(groups_of(names), *schema.encode(rows.cells), SHARES, 5)
    assert list(split(rows, SplitOptions(split_by="labels", split_seed=5))[0].values()) == expected.parts.tolist()


# A split made earlier


def test_a_given_split_keeps_its_photos_and_only_the_new_ones_are_placed(tmp_path: Path) -> None:
    old = [f"p{i:03}-1.jpg" for i in range(200)]
    before, _ = split(catalogue(old, ["red"] * 200), SplitOptions(split_seed=3))
    path = save(tmp_path / "split.csv", before)
    new = [*(f"p{i:03}-2.jpg" for i in range(20)), *(f"n{i:03}-1.jpg" for i in range(40))]
    rows = catalogue([*new, *old[1:]], ["red"] * 20 + ["green"] * 40 + ["blue"] * 199)
    after, found = split(rows, SplitOptions(split_from=path))
    assert {name: after[name] for name in old[1:]} == {name: before[name] for name in old[1:]}
    assert all(after[f"p{i:03}-2.jpg"] == before[f"p{i:03}-1.jpg"] for i in range(1, 20))
    green = Counter(after[name] for name in new[20:])
    assert min(green[part] for part in PARTS) >= 4, "a value that only new photos have gets its share everywhere"
    said = next(f.detail for f in found if f.kind == "split-taken")
    joined = sum(name.startswith("p") for name in new) - 1
    assert said.startswith(f"199 photo(s) keep the part that {path} gives them; of 60 new one(s) {joined} joined")


def test_new_photos_bring_the_shares_back(tmp_path: Path) -> None:
    """A given split with too few test photos: those that come make up for it, and nobody is moved."""
    old = {f"p{i}.jpg": "train" if i < 90 else PARTS[1 + i % 2] for i in range(100)}
    names = [*old, *(f"n{i}.jpg" for i in range(100))]
    after, _ = split(catalogue(names, ["red"] * 200), SplitOptions(split_from=save(tmp_path / "split.csv", old)))
    assert {name: after[name] for name in old} == old
    assert Counter(after.values()) == {"train": 128, "validation": 32, "test": 40}


def test_a_new_value_of_few_products_is_trained_on(tmp_path: Path) -> None:
    old = {f"p{i}.jpg": PARTS[i % 3] for i in range(100)}
    names = [*old, "n1.jpg", "n2.jpg"]
    path = save(tmp_path / "split.csv", old)
    after, _ = split(catalogue(names, ["red"] * 100 + ["new"] * 2), SplitOptions(split_from=path))
    assert (after["n1.jpg"], after["n2.jpg"]) == ("train", "train")
