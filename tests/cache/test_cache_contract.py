"""What goes in comes out, bit for bit, by the front door and by h5py alone."""

import dataclasses
import errno
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from cachekit import (
    FLIPPED,
    GRID,
    KEY,
    OTHER_KEY,
    POOLED,
    assert_exact,
    fill,
    folder_of,
    make_ids,
    raw_rows,
    shard_files,
    unexpected_files,
    vectors,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import (
    Block,
    CacheError,
    CacheLayoutError,
    Column,
    FeatureCache,
    IdIndex,
    MissingRows,
    WriterOptions,
    canonical_json,
)
from cache.durable import commit_new
from cache.ids import IdSet, as_ids, id_array, id_of, ids_to_hex


def test_nothing_is_created_before_something_is_written(tmp_path):
    cache = FeatureCache(tmp_path / "features")
    assert cache.keys() == []
    assert cache.files.rejects() == []
    assert not (tmp_path / "features").exists()
    with pytest.raises(CacheError, match=r"has no key abc; it has: none. Run `python run.py extract`"):
        cache.reader("abc")


def test_rows_by_id_in_any_order_with_repeats(tmp_path):
    ids = make_ids(10)
    reader = fill(tmp_path, ids, shard_rows=4).reader(KEY.digest)
    for order in ([3, 1, 3, 9, 0], list(range(10)), list(range(9, -1, -1)), [2, 3, 4, 5], [7], []):
        np.testing.assert_array_equal(reader.read(ids[order], [POOLED]), vectors(ids[order]))


def test_plain_h5py_sees_the_same_rows_and_what_they_are(tmp_path):
    ids = make_ids(5)
    fill(tmp_path, ids)
    assert_exact(tmp_path, ids)
    (path,) = shard_files(tmp_path)
    with h5py.File(path, "r") as file:
        assert sorted(file) == ["checksums", "features", "ids"]
        assert file["features"].chunks is None
        assert file["features"].dtype == "<f4"
        assert file.attrs["key"] == KEY.digest
        assert json.loads(file.attrs["key_json"]) == KEY.to_json()
        assert file.attrs["block_digest"] == POOLED.block.digest(KEY)
        assert (file.attrs["block"], file.attrs["view"], file.attrs["layout"]) == ("pooled", "identity", 1)


def test_the_same_rows_make_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / name, make_ids(5))
    first, second = shard_files(tmp_path / "a")[0], shard_files(tmp_path / "b")[0]
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_sequence_of_appends_reads_back(tmp_path_factory, data):
    """Rows in any cut, in any order, some twice, by several writers: each id once, each vector right."""
    root = tmp_path_factory.mktemp("any")
    ids = make_ids(12)
    cache = FeatureCache(root)
    seen: set[int] = set()
    for _ in range(data.draw(st.integers(1, 3))):
        with cache.writer(KEY, options=WriterOptions(shard_rows=data.draw(st.integers(1, 5)))) as writer:
            for part in data.draw(st.lists(st.lists(st.integers(0, 11), max_size=6), max_size=3)):
                fresh = set(part) - seen
                assert writer.append(ids[part], {POOLED: vectors(ids[part])}) == len(fresh)
                seen |= fresh
                assert writer.missing(ids, POOLED).tolist() == [place not in seen for place in range(12)]
    assert_exact(root, ids[sorted(seen)])
    if seen:
        asked = data.draw(st.lists(st.sampled_from(sorted(seen)), min_size=1))
        reader = cache.reader(KEY.digest)
        np.testing.assert_array_equal(reader.read(ids[asked], [POOLED]), vectors(ids[asked]))
        assert set(reader.ids(POOLED).tolist()) == set(ids[sorted(seen)].tolist())


@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=8, max_size=8))
def test_every_finite_float_survives(tmp_path_factory, values):
    root = tmp_path_factory.mktemp("floats")
    row = np.array([values], np.float32)
    cache = FeatureCache(root)
    with cache.writer(KEY) as writer:
        writer.append(make_ids(1), {POOLED: row})
    back = cache.reader(KEY.digest).read(make_ids(1), [POOLED])
    assert back.tobytes() == row.tobytes()


def test_columns_side_by_side_and_views(tmp_path):
    ids = make_ids(6)
    cache = fill(tmp_path, ids, (POOLED, FLIPPED, GRID))
    reader = cache.reader(KEY.digest)
    assert set(reader.columns) == {POOLED, FLIPPED, GRID}
    both = reader.read(ids, [GRID, POOLED])
    assert both.shape == (6, 20)
    np.testing.assert_array_equal(both, np.hstack([vectors(ids, GRID), vectors(ids)]))
    np.testing.assert_array_equal(reader.read(ids, [FLIPPED]), vectors(ids, FLIPPED))


def test_adding_a_column_touches_no_shard_of_another(tmp_path):
    ids = make_ids(6)
    cache = fill(tmp_path, ids)
    before = {path: path.stat().st_mtime_ns for path in shard_files(tmp_path)}
    with cache.writer(KEY) as writer:
        assert not writer.missing(ids, POOLED).any()
        assert writer.missing(ids, GRID).all()
        writer.append(ids, {GRID: vectors(ids, GRID)})
    assert {path: path.stat().st_mtime_ns for path in shard_files(tmp_path)} == before
    assert_exact(tmp_path, ids, GRID)


def test_a_run_with_nothing_to_do_writes_nothing(tmp_path):
    cache = fill(tmp_path, make_ids(6))
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.name != "lock")
    with cache.writer(KEY) as writer:
        assert writer.append(make_ids(6), {POOLED: vectors(make_ids(6))}) == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.name != "lock") == before


def test_shards_close_by_rows_and_by_time(tmp_path):
    ids = make_ids(10)
    fill(tmp_path / "rows", ids, shard_rows=4)
    assert [len(h5py.File(path)["ids"]) for path in shard_files(tmp_path / "rows")] == [4, 4, 2]
    with FeatureCache(tmp_path / "time").writer(KEY, options=WriterOptions(shard_seconds=0.0)) as writer:
        writer.append(ids[:3], {POOLED: vectors(ids[:3])})
        assert len(shard_files(tmp_path / "time")) == 1


def test_half_precision_storage_reads_as_float32_or_raw(tmp_path):
    ids = make_ids(5)
    reader = fill(tmp_path, ids, dtype="float16").reader(KEY.digest)
    expected = vectors(ids).astype(np.float16)
    assert reader.read(ids, [POOLED]).dtype == np.float32
    np.testing.assert_array_equal(reader.read(ids, [POOLED]), expected.astype(np.float32))
    raw = reader.read(ids[::-1], [POOLED], out_dtype=None)
    assert raw.dtype == np.float16
    np.testing.assert_array_equal(raw, expected[::-1])


def test_batches_and_mapped_shards_cover_all_rows(tmp_path):
    ids = make_ids(10)
    reader = fill(tmp_path, ids, shard_rows=4).reader(KEY.digest)
    batches = list(reader.batches(ids, [POOLED], 3))
    assert [len(batch) for batch in batches] == [3, 3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(batches), vectors(ids))
    shards = list(reader.shards(POOLED))
    assert [len(part) for part, _ in shards] == [4, 4, 2]
    for part, features in shards:
        assert isinstance(features, np.memmap)
        assert not features.flags.writeable
        np.testing.assert_array_equal(features, vectors(part))


def test_large_reads_run_in_threads_and_agree(tmp_path):
    wide = Column(Block("pooled", 1024))
    ids = make_ids(1500)
    features = np.random.default_rng(0).standard_normal((1500, 1024), dtype=np.float32)
    cache = FeatureCache(tmp_path)
    with cache.writer(KEY, options=WriterOptions(shard_rows=400)) as writer:
        writer.append(ids, {wide: features})
    order = np.random.default_rng(1).permutation(1500)
    reader = cache.reader(KEY.digest)
    np.testing.assert_array_equal(reader.read(ids[order], [wide]), features[order])
    np.testing.assert_array_equal(reader.read(ids, [wide]), features)


def test_two_threads_may_write_two_caches(tmp_path):
    def job(number):
        fill(tmp_path / str(number), make_ids(30), shard_rows=2)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(job, range(3)))
    for number in range(3):
        assert_exact(tmp_path / str(number), make_ids(30))


def test_missing_rows_say_how_many_and_what_to_run(tmp_path):
    ids = make_ids(5)
    reader = fill(tmp_path, ids[:3]).reader(KEY.digest)
    assert reader.contains(ids, POOLED).tolist() == [True, True, True, False, False]
    assert not reader.contains(ids, GRID).any()
    with pytest.raises(
        MissingRows, match=r"2 of 5 rows of pooled/identity are not in .*run `python run.py extract`"
    ) as caught:
        reader.read(ids, [POOLED])
    assert caught.value.count == 2
    with pytest.raises(MissingRows, match=r"has no column grid/identity \(12 values\); it has: pooled/identity"):
        reader.read(ids[:1], [GRID])
    with pytest.raises(CacheError, match="no column was asked for"):
        reader.read(ids[:1], [])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_never_stored(tmp_path, bad):
    ids = make_ids(3)
    features = vectors(ids)
    features[1, 2] = bad
    with (
        FeatureCache(tmp_path).writer(KEY) as writer,
        pytest.raises(CacheError, match=f"photo {ids_to_hex(ids)[1]}.*not a number"),
    ):
        writer.append(ids, {POOLED: features})
    assert raw_rows(tmp_path) == {}


def test_values_too_large_for_half_precision_are_refused(tmp_path):
    features = np.full((1, 8), 70000, np.float32)
    options = WriterOptions(dtype="float16")
    with (
        FeatureCache(tmp_path).writer(KEY, options=options) as writer,
        pytest.raises(CacheError, match="too large for float16"),
    ):
        writer.append(make_ids(1), {POOLED: features})


def test_wrong_shapes_and_options_are_refused(tmp_path):
    with (
        FeatureCache(tmp_path).writer(KEY) as writer,
        pytest.raises(CacheError, match=r"shape \(2, 7\); expected \(2, 8\)"),
    ):
        writer.append(make_ids(2), {POOLED: np.zeros((2, 7))})
    with pytest.raises(CacheError, match="the writer is closed"):
        writer.append(make_ids(1), {POOLED: np.zeros((1, 8))})
    with pytest.raises(CacheError, match="dtype 'int8' is unknown; expected one of float32, float16"):
        WriterOptions(dtype="int8")
    with pytest.raises(CacheError, match="expected at least 1"):
        WriterOptions(shard_rows=0)


def test_an_exception_keeps_the_rows_already_appended(tmp_path):
    ids = make_ids(3)
    with pytest.raises(ZeroDivisionError, match="division"), FeatureCache(tmp_path).writer(KEY) as writer:
        writer.append(ids, {POOLED: vectors(ids)})
        _ = 1 / 0
    assert_exact(tmp_path, ids)


def test_a_reader_made_during_a_write_sees_a_prefix_and_stays_there(tmp_path):
    ids = make_ids(6)
    cache = FeatureCache(tmp_path)
    with cache.writer(KEY, options=WriterOptions(shard_rows=2)) as writer:
        writer.append(ids[:3], {POOLED: vectors(ids[:3])})
        reader = cache.reader(KEY.digest)
        writer.append(ids[3:], {POOLED: vectors(ids[3:])})
        assert reader.contains(ids, POOLED).tolist() == [True, True, False, False, False, False]
    assert cache.reader(KEY.digest).contains(ids, POOLED).all()


def test_writers_of_one_key_write_beside_each_other(tmp_path):
    """Neither waits; what both computed lies twice, is read once, and `compact` joins it."""
    cache, ids = FeatureCache(tmp_path), make_ids(6)
    with cache.writer(KEY, notes={"weights_sources": ["package"]}) as first:
        assert first.missing(ids, POOLED).all()
        with cache.writer(KEY, notes={"weights_sources": ["file"]}) as second:
            first.append(ids[:4], {POOLED: vectors(ids[:4])})
            second.append(ids[2:], {POOLED: vectors(ids[2:])})
    reader = cache.reader(KEY.digest)
    assert sorted(reader.ids(POOLED).tolist()) == sorted(ids.tolist())
    np.testing.assert_array_equal(reader.read(ids, [POOLED]), vectors(ids))
    assert sorted(reader.notes["weights_sources"]) == ["file", "package"]
    report = cache.verify(deep=True)
    assert (report.ok, report.rows, report.duplicate_rows) == (True, 8, 2)
    assert cache.compact().duplicate_rows == 2
    assert_exact(tmp_path, ids)


def test_a_commit_that_was_done_before_leaves_the_file_that_has_the_name(tmp_path):
    ids = make_ids(3)
    path = shard_files(tmp_path := fill(tmp_path, ids).root)[0]
    before = path.stat()
    data = path.read_bytes()
    assert commit_new(path, data) is False
    assert commit_new(path, b"other bytes") is False
    assert (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) == (before.st_ino, before.st_mtime_ns, data)
    assert unexpected_files(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_gets_its_shards_too(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    fill(tmp_path, make_ids(3))
    (path,) = shard_files(tmp_path)
    assert commit_new(path, b"other bytes") is False
    assert_exact(tmp_path, make_ids(3))
    assert unexpected_files(tmp_path) == []


def test_info_tells_keys_rows_columns_and_notes(tmp_path):
    cache = fill(tmp_path, make_ids(5), (POOLED, FLIPPED), shard_rows=2)
    with cache.writer(KEY, notes={"weights_source": "package", "runtime": "torch"}) as writer:
        writer.append(make_ids(1, 5), {POOLED: vectors(make_ids(1, 5))})
    with cache.writer(KEY, notes={"runtime": "other"}):
        pass
    (info,) = cache.keys()
    assert (info.digest, info.key, info.rows, info.shards) == (KEY.digest, KEY, 6, 7)
    assert info.column_rows == {POOLED: 6, FLIPPED: 5}
    assert info.notes == {"weights_source": "package", "runtime": "other"}
    assert info.bytes == sum(path.stat().st_size for path in folder_of(tmp_path).glob("*.h5"))
    assert info.created <= info.modified
    assert cache.reader(KEY.digest).notes == info.notes


def test_notes_longer_than_the_first_page_are_kept(tmp_path):
    notes = {"weights_source": "x" * 9000}
    with FeatureCache(tmp_path).writer(KEY, notes=notes) as writer:
        writer.append(make_ids(3), {POOLED: vectors(make_ids(3))})
    assert_exact(tmp_path, make_ids(3))
    (folder_of(tmp_path) / "key.json").unlink()
    reader = FeatureCache(tmp_path).reader(KEY.digest)
    assert reader.notes == notes
    np.testing.assert_array_equal(reader.read(make_ids(3), [POOLED]), vectors(make_ids(3)))


def test_an_older_layout_is_refused_with_the_command_that_helps(tmp_path):
    cache = fill(tmp_path, make_ids(2))
    key = {**OTHER_KEY.to_json(), "layout": 0}
    digest = hashlib.sha256(canonical_json(key).encode()).hexdigest()
    path = tmp_path / digest[:16] / "key.json"
    path.parent.mkdir()
    old = {"layout": 0, "digest": digest, "key": key}
    path.write_text(json.dumps(old))
    for attempt in (lambda: cache.reader(KEY.digest), lambda: cache.writer(KEY).__enter__()):
        with pytest.raises(
            CacheLayoutError, match=r"layout 0 .*reads and writes layout 1. `python run.py cache prune`"
        ):
            attempt()
    readable = cache.keys()
    assert [info.digest for info in readable] == [KEY.digest]
    assert [problem.kind for problem in cache.verify().problems] == ["old-layout"]
    assert cache.prune(dry_run=False).old_layouts == (path.parent,)
    assert cache.reader(KEY.digest).contains(make_ids(2), POOLED).all()


def test_a_moved_cache_works(tmp_path):
    ids = make_ids(4)
    fill(tmp_path / "here", ids)
    (tmp_path / "here").rename(tmp_path / "there")
    cache = FeatureCache(tmp_path / "there")
    np.testing.assert_array_equal(cache.reader(KEY.digest).read(ids, [POOLED]), vectors(ids))
    assert cache.verify(deep=True).ok
    assert unexpected_files(tmp_path / "there") == []


def test_the_folder_says_what_it_is(tmp_path):
    fill(tmp_path, make_ids(1))
    assert (tmp_path / "README.txt").read_text().startswith("This folder is an embedding cache")


def test_ids_that_end_in_zero_bytes_are_told_apart():
    ids = id_array([b"a" + bytes(31), b"a" + bytes(30) + b"b", bytes(32)])
    assert IdIndex(ids).find(ids[::-1]).tolist() == [2, 1, 0]
    assert as_ids(np.array([b"a"])).tobytes() == b"a" + bytes(31)
    assert b"".join(bytes.fromhex(text) for text in ids_to_hex(ids)) == ids.tobytes()
    assert id_of(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(CacheError, match="32 raw bytes"):
        id_array([b"short"])
    with pytest.raises(CacheError, match="expected dtype S32"):
        as_ids(np.zeros((3, 2)))


@given(data=st.data())
def test_lookup_agrees_with_a_dictionary_even_with_equal_heads(data):
    """Ids drawn from few heads, so that the first 8 bytes collide on purpose."""
    draw = st.builds(
        lambda head, tail: bytes([head]) * 8 + bytes(23) + bytes([tail]), st.integers(0, 2), st.integers(0, 5)
    )
    held, asked = data.draw(st.lists(draw, max_size=15)), data.draw(st.lists(draw, max_size=15))
    index, grown = IdIndex(id_array(held)), IdSet()
    for start in range(0, len(held), 4):
        grown.add(id_array(held[start : start + 4]))
    places = index.find(id_array(asked)).tolist()
    assert [place >= 0 for place in places] == [item in held for item in asked]
    assert all(held[place] == item for place, item in zip(places, asked, strict=True) if place >= 0)
    assert index.duplicates().tolist() == [item in held[:place] for place, item in enumerate(held)]
    assert grown.contains(id_array(asked)).tolist() == [item in held for item in asked]


def test_a_key_can_hold_another_precision_without_mixing(tmp_path):
    half = dataclasses.replace(KEY, precision="half")
    ids = make_ids(2)
    fill(tmp_path, ids, key=KEY)
    fill(tmp_path, ids[:1], key=half)
    reader = FeatureCache(tmp_path).reader(half.digest)
    assert reader.contains(ids, POOLED).tolist() == [True, False]
