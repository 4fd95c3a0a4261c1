"""Feature sources: every row once, order from the seed alone, views, bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from pipeline.errors import HeadError
from pipeline.heads import ChunkedSource, FeatureChunk
from pipeline.heads.source import ArraySource, moments


def _chunks(n: int, size: int) -> tuple[np.ndarray, list[FeatureChunk]]:
    """Features whose first number is the row, stored as chunks in an order of their own."""
    X = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    X[:, 0] = np.arange(n)
    stored = np.random.default_rng(1).permutation(n)
    pieces = [stored[i : i + size] for i in range(0, n, size)]
    return X, [FeatureChunk(X[p], np.arange(len(p)), p) for p in pieces]


def _read(source: ArraySource | ChunkedSource, batch_size: int, seed: tuple[int, ...] | None):
    return [(rows.tolist(), x.clone()) for rows, x in source.batches(batch_size, seed)]


@pytest.mark.parametrize("kind", ["array", "chunks"])
@pytest.mark.parametrize("seed", [None, (0, 1)])
def test_every_row_comes_once_with_its_features(kind: str, seed: tuple[int, ...] | None) -> None:
    X, chunks = _chunks(53, 10)
    source = ArraySource(X) if kind == "array" else ChunkedSource(chunks, buffer_rows=16)
    batches = _read(source, 8, seed)
    assert [len(rows) for rows, _ in batches] == [8, 8, 8, 8, 8, 8, 5]
    assert sorted(r for rows, _ in batches for r in rows) == list(range(53))
    for rows, x in batches:
        assert torch.equal(x, torch.from_numpy(X[rows]))


@pytest.mark.parametrize("kind", ["array", "chunks"])
def test_order_depends_on_the_seed_alone(kind: str) -> None:
    X, chunks = _chunks(40, 10)
    source = ArraySource(X) if kind == "array" else ChunkedSource(chunks, buffer_rows=16)
    orders = [[r for rows, _ in _read(source, 7, seed) for r in rows] for seed in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] and orders[0] != orders[3] and orders[2] != orders[3]


def test_chunks_are_read_one_buffer_at_a_time() -> None:
    """The first batch needs no more chunks than fill the buffer, however many there are."""
    touched: list[int] = []

    class Watched(np.ndarray):
        def __getitem__(self, key):
            touched.append(id(self))
            return np.asarray(self)[key]

    chunks = [
        FeatureChunk(np.full((10, 2), i, np.float32).view(Watched), np.arange(10), np.arange(10 * i, 10 * i + 10))
        for i in range(50)
    ]
    next(iter(ChunkedSource(chunks, buffer_rows=30).batches(4, (0,))))
    assert len(set(touched)) == 3


@pytest.mark.parametrize("views", [1, 3])
def test_memory_does_not_grow_with_the_number_of_chunks(views: int) -> None:
    """Python-side peak of a pass over 4 and over 40 chunks of 2 MB made on the fly is one buffer either way."""

    class Made:
        shape = (2000, 256)

        def __getitem__(self, positions: np.ndarray) -> np.ndarray:
            return np.ones((len(positions), 256), np.float32)

    peaks = []
    for count in (4, 40):
        more = (Made(),) * (views - 1)
        chunks = [
            FeatureChunk(Made(), np.arange(2000), np.arange(2000 * i, 2000 * i + 2000), more) for i in range(count)
        ]
        source = ChunkedSource(chunks, buffer_rows=4000)
        tracemalloc.start()
        assert sum(len(rows) for rows, _ in source.batches(128, (0,))) == 2000 * count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 9e6


def test_a_stored_vector_may_serve_two_rows() -> None:
    chunk = FeatureChunk(np.array([[1.0], [2.0]], np.float32), np.array([1, 0, 1]), np.array([0, 1, 2]))
    rows, x = next(iter(ChunkedSource([chunk]).batches(3, None)))
    assert x[torch.argsort(rows)].tolist() == [[2.0], [1.0], [2.0]]


def test_views_are_drawn_per_row_in_training_and_all_read_in_order() -> None:
    X = np.stack([np.full((200, 1), v, np.float32) for v in range(3)])
    source = ArraySource(X)
    drawn = torch.cat([x for _, x in _read(source, 64, (0, 0))])[:, 0]
    assert {float(v): int((drawn == v).sum()) > 40 for v in drawn.unique()} == {0.0: True, 1.0: True, 2.0: True}
    in_order = torch.cat([x for _, x in _read(source, 64, None)])[:, 0]
    assert in_order.tolist() == [0.0] * 200 + [1.0] * 200 + [2.0] * 200


def _views(n: int, size: int, views: int) -> tuple[np.ndarray, list[FeatureChunk]]:
    """(V, n, 2) features (row, view), and the same as chunks in an order of their own."""
    X = np.stack([np.stack([np.arange(n), np.full(n, v)], axis=1) for v in range(views)]).astype(np.float32)
    stored = np.random.default_rng(1).permutation(n)
    pieces = [stored[i : i + size] for i in range(0, n, size)]
    return X, [FeatureChunk(X[0][p], np.arange(len(p)), p, tuple(X[v][p] for v in range(1, views))) for p in pieces]


@pytest.mark.parametrize("views", [1, 2, 3])
def test_a_buffer_that_holds_all_rows_streams_the_batches_of_an_array(views: int) -> None:
    X, chunks = _views(53, 10, views)
    array, stream = ArraySource(X), ChunkedSource(chunks, buffer_rows=60)
    for seed in ((0, 0), (0, 1), (5, 0)):
        pairs = zip(_read(array, 8, seed), _read(stream, 8, seed), strict=True)
        assert all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)


def test_a_smaller_buffer_shows_each_row_in_the_view_that_an_array_shows() -> None:
    X, chunks = _views(200, 30, 3)
    shown = []
    for source in (ArraySource(X), ChunkedSource(chunks, buffer_rows=40)):
        x = torch.cat([x for _, x in _read(source, 16, (3, 4))])
        assert sorted(x[:, 0].tolist()) == list(range(200))
        shown.append(x[torch.argsort(x[:, 0]), 1].tolist())
    assert shown[0] == shown[1]
    assert {shown[0].count(v) > 40 for v in (0.0, 1.0, 2.0)} == {True}


def test_streamed_views_come_one_after_the_other_in_order() -> None:
    _, chunks = _views(53, 10, 2)
    batches = _read(ChunkedSource(chunks, buffer_rows=16), 8, None)
    x = torch.cat([x for _, x in batches])
    assert x[:, 1].tolist() == [0.0] * 53 + [1.0] * 53
    assert [r for rows, _ in batches for r in rows] == x[:, 0].tolist()
    assert sorted(x[53:, 0].tolist()) == list(range(53))


def test_a_view_is_read_only_where_it_is_shown() -> None:
    read = [0, 0]

    class Counting:
        shape = (100, 2)

        def __init__(self, view: int) -> None:
            self.view = view

        def __getitem__(self, positions: np.ndarray) -> np.ndarray:
            read[self.view] += len(positions)
            return np.zeros((len(positions), 2), np.float32)

    chunk = FeatureChunk(Counting(0), np.arange(100), np.arange(100), (Counting(1),))
    assert sum(len(rows) for rows, _ in ChunkedSource([chunk]).batches(16, (0,))) == 100
    assert sum(read) == 100 and min(read) > 20


def test_moments_of_features_with_a_large_mean() -> None:
    X = np.random.default_rng(0).normal(1000, 0.5, size=(9000, 4)).astype(np.float32)
    X[:, 3] = 7
    mean, deviation = moments(ArraySource(X))
    assert np.allclose(mean, X.mean(axis=0, dtype=np.float64), rtol=1e-9)
    assert np.allclose(deviation[:3], X[:, :3].std(axis=0, dtype=np.float64), rtol=1e-6)
    assert float(deviation[3]) == 1.0


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([], "no chunk holds a row of the catalogue"),
        ([FeatureChunk(np.zeros((2, 3)), np.arange(2), np.array([0, 5]))], r"chunk rows must lie in 0..1, each once"),
        ([FeatureChunk(np.zeros((2, 3)), np.arange(2), np.array([1, 1]))], "1 of 2 rows are in no chunk"),
        (
            [FeatureChunk(np.zeros((1, d)), np.arange(1), np.array([d - 3])) for d in (3, 4)],
            r"chunks hold features of different sizes: \[3, 4\]",
        ),
        (
            [FeatureChunk(np.zeros((1, 3)), np.arange(1), np.array([v]), (np.zeros((1, 3)),) * v) for v in (0, 1)],
            r"chunks hold different numbers of views: \[1, 2\]",
        ),
    ],
)
def test_chunks_that_do_not_fit(chunks: list[FeatureChunk], message: str) -> None:
    with pytest.raises(HeadError, match=message):
        ChunkedSource(chunks)


def test_a_streamed_nan_is_found() -> None:
    with pytest.raises(HeadError, match="a streamed chunk holds a NaN or an infinity"):
        moments(ChunkedSource([FeatureChunk(np.array([[1.0], [np.nan]], np.float32), np.arange(2), np.arange(2))]))


def test_a_read_only_map_is_not_copied(tmp_path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.ones((4, 2), np.float32))
    mapped = np.load(path, mmap_mode="r")
    source = ArraySource(mapped)
    assert source._flat.data_ptr() == mapped.ctypes.data
