"""Several processes at once: writers beside each other, readers any time, nothing of HDF5 carried across a fork."""

import fcntl
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from cachekit import FLIPPED, KEY, POOLED, assert_exact, fill, folder_of, make_ids, unexpected_files, vectors
from crashkit import WRITER, python_writer

import cache.folder
from cache import CacheBusy, CacheError, CacheWriteError, FeatureCache, WriterOptions
from cache.durable import FolderLock


def start(*arguments):
    return subprocess.Popen(python_writer(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_writers_of_one_key_work_at_once_and_lose_nothing(tmp_path):
    """Four that begin together, each with more to do than the one before; rows that several computed are joined."""
    command = ("--shard-rows", "3", "--delay", "0.02")
    children = [start(tmp_path, "write", "--rows", str(rows), *command) for rows in (10, 16, 22, 22)]
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert (child.returncode, errors) == (0, "")
    cache = FeatureCache(tmp_path)
    for column in (POOLED, FLIPPED):
        assert_exact(tmp_path, make_ids(22), column)
        assert sorted(cache.reader(KEY.digest).ids(column).tolist()) == sorted(make_ids(22).tolist())
    report = cache.verify(deep=True)
    assert report.ok
    assert report.rows == 44 + report.duplicate_rows
    assert cache.compact().duplicate_rows == report.duplicate_rows
    assert (cache.verify(deep=True).ok, cache.verify().rows) == (True, 44)
    assert unexpected_files(tmp_path) == []


def test_whoever_takes_files_away_waits_for_every_writer_and_is_told_of_one(tmp_path):
    fill(tmp_path, make_ids(4), shard_rows=2)
    with FeatureCache(tmp_path).writer(KEY), FeatureCache(tmp_path).writer(KEY):
        child = start(tmp_path, "compact")
        _, errors = child.communicate(timeout=30)
        assert child.returncode == 1
        assert f"CacheBusy: another process (id {os.getpid()}) is writing under this key" in errors
        with pytest.raises(CacheBusy, match="is writing under this key"):
            FeatureCache(tmp_path).prune(make_ids(1), dry_run=False)
    assert FeatureCache(tmp_path).compact().shards_after == 1


def test_a_writer_waits_for_whoever_takes_files_away(tmp_path):
    cache = fill(tmp_path, make_ids(4))
    lock = FolderLock(folder_of(tmp_path))
    lock.acquire(0)
    with pytest.raises(CacheBusy, match=r"another process \(id \d+\) is compacting, pruning or repairing"):
        cache.writer(KEY).__enter__()
    child = start(tmp_path, "write", "--rows", "6")
    time.sleep(0.2)
    assert child.poll() is None
    lock.release()
    child.communicate(timeout=30)
    assert child.returncode == 0
    assert_exact(tmp_path, make_ids(6))


def test_a_process_without_the_lock_commits_late_without_harm(tmp_path):
    """As one of another host does that comes back after its job ended: rows are whole, known ones are stored once."""
    cache, ids = FeatureCache(tmp_path), make_ids(12)
    with cache.writer(KEY, notes={"runtime": "torch"}) as writer:
        committer = pickle.loads(pickle.dumps(writer.committer()))
        first, second = writer.numbers(2)
        (name,) = committer.commit(first, ids[:6], {POOLED: vectors(ids[:6])})
        writer.append(ids[6:8], {POOLED: vectors(ids[6:8])})
    inode = (folder_of(tmp_path) / name).stat().st_ino
    assert committer.commit(first, ids[:6], {POOLED: vectors(ids[:6])}) == (name,)
    assert (folder_of(tmp_path) / name).stat().st_ino == inode
    reader = cache.reader(KEY.digest)
    cache.compact()
    committer.commit(second, ids[8:], {POOLED: vectors(ids[8:])})
    committer.commit(first, ids[:6], {POOLED: vectors(ids[:6])})
    assert_exact(tmp_path, ids)
    np.testing.assert_array_equal(reader.read(ids[:8], [POOLED]), vectors(ids[:8]))
    np.testing.assert_array_equal(cache.reader(KEY.digest).read(ids, [POOLED]), vectors(ids))
    assert cache.verify(deep=True).ok
    assert cache.compact().duplicate_rows == 6
    cache.prune(drop_keys=[KEY.digest], dry_run=False)
    with pytest.raises(CacheWriteError, match="No such file or directory"):
        committer.commit(first, ids[:6], {POOLED: vectors(ids[:6])})
    assert not folder_of(tmp_path).exists()


def test_a_committer_stores_no_row_that_is_no_vector(tmp_path):
    ids = make_ids(3)
    with FeatureCache(tmp_path).writer(KEY) as writer:
        committer, (number,) = writer.committer(), writer.numbers(1)
        with pytest.raises(CacheError, match="not a number"):
            committer.commit(number, ids, {POOLED: np.full((3, 8), np.nan)})
        assert committer.commit(number, ids[:0], {POOLED: np.empty((0, 8))}) == ()
        committer.commit(number, ids[[0, 1, 0]], {POOLED: vectors(ids[[0, 1, 0]])})
    assert_exact(tmp_path, ids[:2])


def test_readers_during_a_write_see_a_growing_right_prefix(tmp_path):
    child = start(tmp_path, "write", "--rows", "60", "--shard-rows", "3", "--delay", "0.02")
    ids, sizes = make_ids(60), []
    cache = FeatureCache(tmp_path)
    while child.poll() is None:
        try:
            reader = cache.reader(KEY.digest)
        except CacheError:
            continue
        if POOLED in reader.columns:
            there = reader.contains(ids, POOLED)
            count = int(there.sum())
            assert there.tolist() == [True] * count + [False] * (60 - count)
            np.testing.assert_array_equal(reader.read(ids[:count], [POOLED]), vectors(ids[:count]))
            sizes.append(count)
    child.communicate()
    assert child.returncode == 0
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 2
    assert cache.reader(KEY.digest).contains(ids, POOLED).all()


def test_readers_during_compact_always_find_every_row(tmp_path):
    ids = make_ids(60)
    fill(tmp_path, ids, (POOLED, FLIPPED), shard_rows=2)
    reader = FeatureCache(tmp_path).reader(KEY.digest)
    child = start(tmp_path, "compact")
    rounds = 0
    while child.poll() is None or rounds < 3:
        for each in (reader, FeatureCache(tmp_path).reader(KEY.digest)):
            np.testing.assert_array_equal(each.read(ids, [POOLED]), vectors(ids))
        rounds += 1
    child.communicate()
    assert child.returncode == 0


def test_a_listing_that_shows_neither_the_old_shards_nor_the_new_one_is_not_taken(tmp_path, monkeypatch):
    """So a folder may look while it is compacted: a new shard came and the old ones went during one listing."""
    ids = make_ids(6)
    fill(tmp_path, ids, (POOLED, FLIPPED))
    real, calls = cache.folder.entries, []

    def torn(path):
        listed = list(real(path))
        calls.append(path)
        return [entry for entry in listed if "-identity-" not in entry.name] if len(calls) == 1 else listed

    monkeypatch.setattr(cache.folder, "entries", torn)
    np.testing.assert_array_equal(FeatureCache(tmp_path).reader(KEY.digest).read(ids, [POOLED]), vectors(ids))
    assert len(calls) == 3


def test_mapped_shards_survive_a_compact_before_and_between_them(tmp_path):
    ids = make_ids(12)
    cache = fill(tmp_path, ids, shard_rows=2)
    reader = cache.reader(KEY.digest)
    assert reader.contains(ids, POOLED).all()
    between = reader.shards(POOLED)
    parts = [next(between)]
    cache.compact()
    parts += between
    assert len(parts) == 6
    for listed in (parts, list(reader.shards(POOLED))):
        stored, features = zip(*listed, strict=True)
        np.testing.assert_array_equal(np.concatenate(stored), ids)
        np.testing.assert_array_equal(np.concatenate(features), vectors(ids))


def test_a_check_takes_no_lock_and_writes_nothing(tmp_path, monkeypatch):
    """Else an `extract` that starts meanwhile would find the key busy."""
    ids = make_ids(6)
    cache = fill(tmp_path, ids, shard_rows=3)
    cache.files.ids([__file__])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    locked = []
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: locked.append(arguments))
    assert cache.verify(deep=True).ok
    assert locked == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def _read_in_child(reader, ids, answers):
    answers.put(bool((reader.read(ids, [POOLED]) == vectors(ids)).all()))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_reader_may_cross_a_fork(tmp_path):
    """As a loader's workers do: opened and used in the parent, then used in two children at once."""
    ids = make_ids(40)
    reader = fill(tmp_path, ids, shard_rows=8).reader(KEY.digest)
    np.testing.assert_array_equal(reader.read(ids, [POOLED]), vectors(ids))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [context.Process(target=_read_in_child, args=(reader, ids[::-1], answers)) for _ in range(2)]
    for child in children:
        child.start()
    assert [answers.get(timeout=30) for _ in children] == [True, True]
    for child in children:
        child.join()
        assert child.exitcode == 0


FORKER = """
import os, sys, time
sys.path[:0] = sys.argv[2:]
from cachekit import KEY, POOLED, make_ids, vectors
from cache import CacheError, FeatureCache
from pathlib import Path

with FeatureCache(Path(sys.argv[1])).writer(KEY) as writer:
    writer.append(make_ids(3), {POOLED: vectors(make_ids(3))})
    worker = os.fork()
    if worker == 0:
        try:
            writer.append(make_ids(3, 3), {POOLED: vectors(make_ids(3, 3))})
        except CacheError as error:
            os.write(1, f"{error}\\n".encode())
        time.sleep(60)
    os.write(1, f"{worker}\\n".encode())
    time.sleep(60)
"""


def test_a_worker_that_outlives_its_killed_parent_holds_no_lock_and_writes_nothing(tmp_path):
    command = [sys.executable, "-B", "-c", FORKER, str(tmp_path), str(WRITER.parent), str(WRITER.parents[2])]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said = sorted(parent.stdout.readline().strip() for _ in range(2))
    worker = int(said[0])
    try:
        assert said[1] == "the writer belongs to another process; open one in this process"
        with pytest.raises(CacheBusy, match="another process"):
            FeatureCache(tmp_path).compact()
        parent.kill()
        parent.wait()
        os.kill(worker, 0)
        assert FeatureCache(tmp_path).compact().shards_after == 0
    finally:
        os.kill(worker, signal.SIGKILL)
        parent.stdout.close()


def test_a_forked_child_that_leaves_the_block_commits_nothing(tmp_path):
    ids = make_ids(3)
    with FeatureCache(tmp_path).writer(KEY, options=WriterOptions(shard_rows=10)) as writer:
        writer.append(ids, {POOLED: vectors(ids)})
        child = os.fork()
        if child == 0:
            writer.__exit__(None, None, None)
            os._exit(len(list(tmp_path.rglob("*.h5"))))
        assert os.waitpid(child, 0)[1] == 0
    assert_exact(tmp_path, ids)


def test_two_processes_may_index_the_same_files(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number}.jpg").write_bytes(b"%d" % number)
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "from pathlib import Path; from cache import FeatureCache\n"
        "ids, wrong = FeatureCache(sys.argv[2]).files.ids(sorted(Path(sys.argv[3]).iterdir()), rehash=True)\n"
        "assert len(set(ids.tolist())) == 50 and not wrong\n"
    )
    command = [sys.executable, "-B", "-c", code, str(WRITER.parents[2]), str(tmp_path / "features"), str(folder)]
    children = [subprocess.Popen(command) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
