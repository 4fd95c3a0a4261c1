"""Places on the plane: neighbours stay neighbours, few photos work, what is not installed is said."""

from __future__ import annotations

import tracemalloc
from importlib.util import find_spec

import numpy as np
import pytest

from pipeline.arrays import Float32
from pipeline.atlas import layout
from pipeline.atlas.layout import check_layout, place
from pipeline.errors import OptionError

METHODS = [
    "pca",
    pytest.param("tsne", marks=pytest.mark.skipif(find_spec("openTSNE") is None, reason="openTSNE is not installed")),
]


def groups() -> Float32:
    """120 rows of 20 numbers, in three groups of 40."""
    rng = np.random.default_rng(0)
    return (np.repeat(rng.normal(size=(3, 20)) * 4, 40, axis=0) + rng.normal(size=(120, 20))).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_a_group_lie_together_and_the_same_seed_gives_the_same_map(method: str) -> None:
    X = groups()
    places = place(X.copy(), method, 0)
    assert places.shape == (120, 2) and places.dtype == np.float32
    assert np.abs(places).max() == pytest.approx(1)
    centres = places.reshape(3, 40, 2).mean(axis=1)
    nearest = np.linalg.norm(places[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == np.repeat(np.arange(3), 40)).all()
    np.testing.assert_array_equal(place(X, method, 0), places)


def test_no_second_copy_of_the_vectors_is_held() -> None:
    X = np.random.default_rng(0).normal(size=(3_000, 1_000)).astype(np.float32)
    place(X[:20].copy(), "pca", 0)
    tracemalloc.start()
    place(X, "pca", 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.9 * X.nbytes


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_few_photos_have_places_too(rows: int) -> None:
    places = place(groups()[:rows], "tsne", 0)
    assert places.shape == (rows, 2) and np.isfinite(places).all()


def test_what_is_not_installed_is_said_and_so_is_the_way_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"pip install -r requirements-map.txt; or take --layout pca"):
        check_layout("tsne")
    check_layout("pca")
    with pytest.raises(OptionError, match="'umap'; it can be tsne or pca"):
        check_layout("umap")
