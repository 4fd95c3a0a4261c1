"""Smaller caches hold the same rows, and an export needs nothing but h5py or NumPy."""

import json
import os
import subprocess
import sys
from dataclasses import replace

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
    shard_files,
    vectors,
)

from cache import (
    CacheBusy,
    CacheError,
    FeatureCache,
    JoinedReader,
    MissingRows,
    Selection,
    ShardDamaged,
    export_h5,
    export_npz,
)
from cache.stored import Shard

IDS = make_ids(12)


def test_prune_says_what_would_go_and_then_removes_just_that(tmp_path):
    cache = fill(tmp_path, IDS, (POOLED, FLIPPED), shard_rows=4)
    keep = IDS[[0, 1, 2, 3, 6]]
    files = sorted(folder_of(tmp_path).iterdir())
    plan = cache.prune(keep=keep)
    assert (plan.dry_run, plan.rows) == (True, 14)
    assert sorted(folder_of(tmp_path).iterdir()) == files
    done = cache.prune(keep=keep, dry_run=False)
    assert (done.rows, done.bytes) == (plan.rows, plan.bytes)
    for column in (POOLED, FLIPPED):
        assert_exact(tmp_path, keep, column)
        assert [Shard(path).rows for path in shard_files(tmp_path, column)] == [4, 1]
    assert cache.verify(deep=True).ok
    assert cache.prune(keep=keep, dry_run=False).rows == 0


def test_prune_removes_keys_by_their_first_digits(tmp_path):
    cache = fill(tmp_path, IDS)
    fill(tmp_path, IDS, key=OTHER_KEY)
    plan = cache.prune(drop_keys=[OTHER_KEY.digest[:8]])
    assert (plan.keys, plan.rows) == ((OTHER_KEY.digest[:16],), 12)
    assert len(cache.keys()) == 2
    cache.prune(drop_keys=[OTHER_KEY.digest], dry_run=False)
    left = cache.keys()
    assert [info.key for info in left] == [KEY]
    assert not folder_of(tmp_path, OTHER_KEY).exists()
    with pytest.raises(CacheError, match="names 0 keys; expected one of"):
        cache.prune(drop_keys=["ffffffff"])
    with pytest.raises(CacheError, match="at least 4 digits"):
        cache.prune(drop_keys=[KEY.digest[:3]])


def test_pruning_under_a_reader_is_a_missing_row_and_not_a_crash(tmp_path):
    cache = fill(tmp_path, IDS, shard_rows=4)
    reader = cache.reader(KEY.digest)
    np.testing.assert_array_equal(reader.read(IDS, [POOLED]), vectors(IDS))
    cache.prune(keep=IDS[:6], dry_run=False)
    np.testing.assert_array_equal(reader.read(IDS[:6], [POOLED]), vectors(IDS[:6]))
    with pytest.raises(MissingRows, match="6 of 12 rows"):
        reader.read(IDS, [POOLED])


def test_compact_joins_small_shards_and_keeps_every_bit(tmp_path):
    cache = fill(tmp_path, IDS, (POOLED, GRID), shard_rows=2)
    reader = cache.reader(KEY.digest)
    reader.contains(IDS, POOLED)
    report = cache.compact()
    assert (report.shards_before, report.shards_after, report.duplicate_rows) == (12, 2, 0)
    assert report.bytes_after < report.bytes_before
    for column in (POOLED, GRID):
        assert_exact(tmp_path, IDS, column)
    assert cache.verify(deep=True).ok
    np.testing.assert_array_equal(
        reader.read(IDS[::-1], [GRID, POOLED]), np.hstack([vectors(IDS, GRID), vectors(IDS)])[::-1]
    )
    before = shard_files(tmp_path)
    cache.compact()
    assert shard_files(tmp_path) == before


def test_compact_keeps_to_its_target_and_to_the_storage_type(tmp_path):
    cache = fill(tmp_path, IDS[:8], shard_rows=2)
    fill(tmp_path, IDS, shard_rows=2, dtype="float16")
    size = shard_files(tmp_path)[0].stat().st_size
    cache.compact(target_bytes=int(2.5 * size))
    assert [(Shard(path).rows, Shard(path).header.dtype) for path in shard_files(tmp_path)] == [
        (4, "float32"),
        (4, "float32"),
        (4, "float16"),
    ]
    assert cache.reader(KEY.digest).contains(IDS, POOLED).all()


def test_rows_that_lie_twice_are_harmless_and_compact_joins_them(tmp_path):
    """As a compact killed between writing the new shard and removing the old ones leaves them."""
    cache = fill(tmp_path, IDS, shard_rows=4)
    old = {path: path.read_bytes() for path in shard_files(tmp_path)}
    cache.compact()
    for path, data in old.items():
        path.write_bytes(data)
    report = cache.verify(deep=True)
    assert (report.ok, report.rows, report.duplicate_rows) == (True, 24, 12)
    reader = cache.reader(KEY.digest)
    np.testing.assert_array_equal(reader.read(IDS, [POOLED]), vectors(IDS))
    assert len(reader.ids(POOLED)) == 12
    assert cache.compact().duplicate_rows == 12
    assert cache.verify().duplicate_rows == 0
    assert_exact(tmp_path, IDS)


def test_compact_copies_nothing_damaged_and_waits_for_no_writer(tmp_path):
    cache = fill(tmp_path, IDS, shard_rows=4)
    with cache.writer(KEY), pytest.raises(CacheBusy, match="another process"):
        cache.compact()
    path = shard_files(tmp_path)[1]
    data = bytearray(path.read_bytes())
    data[Shard(path).header.features_at] ^= 1
    path.write_bytes(data)
    before = shard_files(tmp_path)
    with pytest.raises(ShardDamaged, match="features of rows 0-3 are damaged"):
        cache.compact()
    assert shard_files(tmp_path) == before


def of(cache, *columns):
    return JoinedReader([(cache.reader(KEY.digest), columns or (POOLED,))])


def test_columns_of_two_keys_stand_side_by_side(tmp_path):
    other = replace(KEY, size=96)
    cache = fill(tmp_path, IDS)
    with cache.writer(other) as writer:
        writer.append(IDS[2:9], {GRID: vectors(IDS[2:9], GRID)})
    strips = [(cache.reader(KEY.digest), (POOLED,)), (cache.reader(other.digest), (GRID,))]
    report = export_h5(JoinedReader(strips), Selection(), tmp_path / "out.h5")
    with h5py.File(report.path) as file:
        np.testing.assert_array_equal(file["features"][:], np.hstack([vectors(IDS[2:9]), vectors(IDS[2:9], GRID)]))
        assert file.attrs["columns"].tolist() == ["1:pooled/identity", "2:grid/identity"]
        assert [json.loads(key)["size"] for key in file.attrs["keys"]] == [KEY.size, 96]
    assert JoinedReader(strips).contains(IDS).tolist() == [2 <= i < 9 for i in range(len(IDS))]
    with pytest.raises(MissingRows):
        JoinedReader(strips).read(IDS[:3])
    with pytest.raises(CacheError, match="no column"):
        JoinedReader([(cache.reader(KEY.digest), ())])


def test_export_to_hdf5_read_by_h5py_alone(tmp_path):
    cache = fill(tmp_path / "features", IDS, (POOLED, GRID), shard_rows=4)
    names = ["b.jpg", "new\nline.jpg", "caf\u00e9.jpg", os.fsdecode(b"\xff.jpg")]
    order = IDS[[5, 0, 5, 11]]
    report = export_h5(of(cache, GRID, POOLED), Selection(order, names), tmp_path / "out" / "features.h5")
    assert (report.rows, report.dim) == (4, 20)
    np.save(tmp_path / "expected.npy", np.hstack([vectors(order, GRID), vectors(order)]))
    code = """
import sys, h5py, numpy, os
with h5py.File(sys.argv[1]) as file:
    assert file["features"].dtype == "<f4" and file["features"].chunks is None
    assert (file["features"][:] == numpy.load(sys.argv[2])).all()
    assert [os.fsdecode(name) for name in file["filename"][:]] == sys.argv[3:], file["filename"][:]
    assert "cache" not in sys.modules
"""
    command = [sys.executable, "-c", code, report.path, tmp_path / "expected.npy", *names]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["features.h5"]


def test_export_without_a_catalogue_names_rows_by_content(tmp_path):
    cache = fill(tmp_path, IDS, shard_rows=5)
    report = export_h5(of(cache), Selection(), tmp_path / "all.h5")
    with h5py.File(report.path) as file:
        np.testing.assert_array_equal(file["features"][:], vectors(IDS))
        assert [bytes.fromhex(text.decode()) for text in file["content"][:]] == [
            item.tobytes() for item in IDS.view(np.uint8).reshape(-1, 32)
        ]


def test_export_to_npz(tmp_path):
    cache = fill(tmp_path, IDS, dtype="float16")
    export_npz(of(cache), Selection(IDS[:2], ["a.jpg", "b.jpg"]), tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["features"], vectors(IDS[:2]).astype(np.float16).astype(np.float32))
        assert file["filename"].tolist() == ["a.jpg", "b.jpg"]


def test_an_export_that_fails_leaves_nothing_and_keeps_the_old_file(tmp_path):
    cache = fill(tmp_path / "features", IDS[:3])
    out = tmp_path / "out.h5"
    out.write_bytes(b"the export of last week")
    for write in (export_h5, export_npz):
        with pytest.raises(MissingRows, match="9 of 12 rows"):
            write(of(cache), Selection(IDS), out)
    assert out.read_bytes() == b"the export of last week"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features", "out.h5"]
    with pytest.raises(CacheError, match="1 filenames for 3 rows"):
        export_h5(of(cache), Selection(IDS[:3], ["a"]), out)


def test_an_empty_export(tmp_path):
    cache = fill(tmp_path, IDS)
    for write, name in ((export_h5, "e.h5"), (export_npz, "e.npz")):
        assert write(of(cache), Selection(IDS[:0], []), tmp_path / name).rows == 0
    assert h5py.File(tmp_path / "e.h5")["features"].shape == (0, 8)
    assert FeatureCache(tmp_path).verify().ok
