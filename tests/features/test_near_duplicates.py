"""Near-duplicates across parts: exactly those of the plain product, in bounded portions, best first."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pipeline.catalogue import join_groups
from pipeline.errors import OptionError
from pipeline.features import near_duplicates as neighbours
from pipeline.features.near_duplicates import Pairs, across_parts, all_pairs, check_cosine, closest_pairs, sentence

PARTS = ("train", "validation", "test")


def cloud(rows: int, width: int, spread: float, seed: int = 0) -> np.ndarray:
    """Rectified features with near-duplicates: a third of the rows are noisy copies of earlier ones."""
    rng = np.random.default_rng(seed)
    X = np.maximum(rng.normal(size=(rows, width)) + 2 * rng.normal(size=(1, width)), 0)
    copies = rng.choice(rows // 2, rows // 3, replace=False)
    X[-len(copies) :] = X[copies] + spread * rng.random((len(copies), 1)) * rng.normal(size=(len(copies), width))
    return (X * rng.uniform(0.1, 10, (rows, 1))).astype(np.float32)


def plain(X: np.ndarray, cosine: float) -> dict[tuple[int, int], float]:
    unit = X.astype(np.float64) / np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True)
    i, j = np.nonzero(np.triu(unit @ unit.T >= cosine, 1))
    return {(a, b): float(unit[a] @ unit[b]) for a, b in zip(i.tolist(), j.tolist(), strict=True)}


def found(X: np.ndarray, cosine: float) -> dict[tuple[int, int], float]:
    pairs = [p for portion in all_pairs(X, cosine) for p in zip(*(c.tolist() for c in portion), strict=True)]
    keys = {tuple(sorted(pair[:2])): pair[2] for pair in pairs}
    assert len(keys) == len(pairs), "a pair came twice"
    return keys


@pytest.mark.parametrize(
    ("rows", "width", "cosine"), [(300, 20, 0.98), (1500, 200, 0.98), (1500, 200, 0.9), (3, 70, 0.5)]
)
def test_pairs_are_exactly_those_of_the_plain_product(rows: int, width: int, cosine: float) -> None:
    X = cloud(rows, width, 0.5)
    expected = plain(X, cosine)
    assert expected or rows == 3
    got = found(X, cosine)
    assert got.keys() == expected.keys()
    np.testing.assert_allclose([got[pair] for pair in sorted(got)], [expected[p] for p in sorted(expected)], atol=1e-5)


def test_many_alike_photos_are_found_too() -> None:
    """A cloud in which nearly every pair counts: no projection rules anything out."""
    X = cloud(400, 100, 0.1) + np.float32(100)
    assert found(X, 0.95).keys() == plain(X, 0.95).keys()
    assert len(found(X, 0.95)) > 50_000


def test_only_pairs_of_different_parts_count_and_the_held_back_photo_comes_first() -> None:
    X = cloud(900, 90, 0.5)
    parts = np.random.default_rng(1).choice(PARTS, 900)
    near = across_parts([f"{i}.jpg" for i in range(900)], parts, X, PARTS, 0.98)
    expected = {pair: cosine for pair, cosine in plain(X, 0.98).items() if parts[pair[0]] != parts[pair[1]]}
    assert {tuple(sorted((int(n.photo_a[:-4]), int(n.photo_b[:-4])))) for n in near.closest} == expected.keys()
    assert sum(near.counts.values()) == len(expected) > 20
    assert [n.cosine for n in near.closest] == sorted((n.cosine for n in near.closest), reverse=True)
    assert {(n.part_a, n.part_b) for n in near.closest} == {
        ("validation", "train"),
        ("test", "train"),
        ("test", "validation"),
    }
    touched = {i for pair in expected for i in pair if parts[i] == "test"}
    assert near.test_photos == len(touched)


def test_list_is_capped_and_the_count_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    X = cloud(2500, 80, 0.5)
    parts = np.array(PARTS)[np.arange(2500) % 3]
    names = [str(i) for i in range(2500)]
    whole = across_parts(names, parts, X, PARTS, 0.97)
    monkeypatch.setattr(neighbours, "MOST_LISTED", 7)
    capped = across_parts(names, parts, X, PARTS, 0.97)
    assert len(whole.closest) > 50
    assert capped.counts == whole.counts
    assert capped.closest == whole.closest[:7]
    assert capped.to_json()["listed"] == 7


def test_a_vector_of_zeros_and_an_empty_part_have_no_neighbours() -> None:
    X = np.zeros((4, 100), np.float32)
    near = across_parts(list("abcd"), np.array(["train", "train", "test", "test"]), X, PARTS, 0.5)
    assert near.counts == {"validation-train": 0, "test-train": 0, "test-validation": 0}
    assert sentence(near.to_json()) is None


def test_sentence_counts_and_names() -> None:
    X = np.eye(3, 5, dtype=np.float32)[[0, 0, 1, 0]]
    near = across_parts(
        ["a.jpg", "<b>.jpg", "c.jpg", "d.jpg"], np.array(["train", "test", "train", "validation"]), X, PARTS, 0.98
    )
    assert sentence(near.to_json()) == (
        "3 near-duplicate pairs lie in different parts (cosine >= 0.98; validation-train 1, test-train 1, "
        "test-validation 1; 1 test photos), first: <b>.jpg ~ a.jpg; neighbours.csv lists them, "
        "--regroup keeps them together"
    )
    assert sentence(None) is None


def test_groups_are_joined_over_chains_and_keep_what_they_had() -> None:
    groups = np.array([0, 1, 2, 3, 3, 4, 5])
    chain = [(np.array([0, 1]), np.array([1, 3])), (np.array([6, 4]), np.array([5, 0]))]
    assert join_groups(groups, chain).tolist() == [0, 0, 1, 0, 0, 2, 2]
    assert join_groups(groups, []).tolist() == [0, 1, 2, 3, 3, 4, 5]


@pytest.mark.parametrize("cosine", [-0.1, 1.0, float("nan")])
def test_a_limit_that_cannot_be_is_named(cosine: float) -> None:
    with pytest.raises(OptionError, match="expected a cosine above 0 and below 1, or 0 for no search"):
        check_cosine(cosine)


def test_pairs_can_be_taken_and_joined() -> None:
    pairs = Pairs(np.array([1, 2]), np.array([3, 4]), np.array([0.5, 0.9], np.float32))
    assert pairs.join(pairs.take(pairs.cosine > 0.6)).first.tolist() == [1, 2, 2]


def test_closest_pairs_are_those_of_the_whole_product() -> None:
    X = np.random.default_rng(0).normal(size=(5000, 8)).astype(np.float32)
    X[4999], X[1500], X[7] = X[3] * 2, X[1499], 0
    (i, j, cosine), count = closest_pairs(X, 0.97, every, 10**6)
    assert count == len(i)
    U = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-9)
    a, b = np.nonzero(np.triu(U @ U.T >= 0.97, 1))
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == set(zip(a.tolist(), b.tolist(), strict=True))
    assert {(3, 4999), (1499, 1500)} == set(zip(i[:2].tolist(), j[:2].tolist(), strict=True))
    assert (np.diff(cosine) <= 0).all() and cosine.dtype == np.float32
    assert 7 not in i and 7 not in j


def test_no_photos_have_no_pairs() -> None:
    assert [len(part) for part in closest_pairs(np.zeros((0, 4), np.float32), 0.9, every, 9)[0]] == [0, 0, 0]


def every(pairs: Pairs) -> np.ndarray:
    return np.ones(len(pairs.first), bool)


def test_copies_of_one_photo_do_not_fill_the_memory() -> None:
    """3,000 placeholders are 4.5 million pairs: 54 MB of rows and cosines, were they all kept."""
    X = np.tile(np.linspace(1, 2, 8, dtype=np.float32), (3000, 1))
    tracemalloc.start()
    pairs, count = closest_pairs(X, 0.98, every, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, len(pairs.first)) == (3000 * 2999 // 2, 100)
    assert peak < 40_000_000


def garments(rows: int, width: int = 128) -> np.ndarray:
    """Clouds of products of 4 photos each, whose variance falls off, with 5 % near-copies of other rows."""
    rng = np.random.default_rng(0)
    turn = rng.normal(size=(64, width)) / np.sqrt(np.arange(1, 65))[:, None]
    latent = rng.normal(size=(40, 64))[rng.integers(0, 40, rows)] + np.repeat(rng.normal(size=(rows // 4, 64)), 4, 0)
    latent += 0.5 * rng.normal(size=(rows, 64))
    copies, others = rng.permutation(rows)[: 2 * (rows // 20)].reshape(2, -1)
    latent[copies] = latent[others] + 0.1 * rng.random((len(copies), 1)) * rng.normal(size=(len(copies), 64))
    return np.asarray(1.5 + latent @ turn, np.float32)


def test_of_very_many_photos_nearly_every_pair_is_found_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    X = garments(4000)
    exact = found(X, 0.98)
    monkeypatch.setattr(neighbours, "_MOST_COMPARED", 1000)
    close = found(X, 0.98)
    assert len(exact) >= 200
    assert close.keys() <= exact.keys()
    assert len(close) > 0.97 * len(exact)


def test_a_search_that_may_miss_pairs_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    X = garments(1200)
    parts = np.array(PARTS)[np.arange(1200) % 3]
    names = [str(i) for i in range(1200)]
    exact = across_parts(names, parts, X, PARTS, 0.98)
    monkeypatch.setattr(neighbours, "_MOST_COMPARED", 1000)
    close = across_parts(names, parts, X, PARTS, 0.98)
    assert exact.about is None and "about" not in exact.to_json()
    assert "a few pairs may lack" in str(sentence(close.to_json()))
    assert 0 < sum(close.counts.values()) <= sum(exact.counts.values())


def test_rows_that_are_read_when_asked_for_give_the_same_pairs() -> None:
    class Stored:
        shape = (900, 90)

        def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
            return cloud(900, 90, 0.5)[rows].copy()

    def every_pair(X: object) -> list[list[float]]:
        return [column.tolist() for column in closest_pairs(X, 0.97, every, 10**6)[0]]  # type: ignore[arg-type]

    assert every_pair(Stored()) == every_pair(cloud(900, 90, 0.5))
