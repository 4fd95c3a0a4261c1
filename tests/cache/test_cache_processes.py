"""Several processes at once: one writer at a time, readers any time, nothing of HDF5 carried across a fork."""

import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from cachekit import FLIPPED, KEY, POOLED, assert_exact, fill, make_ids, unexpected_files, vectors
from crashkit import WRITER, python_writer

import cache.folder
from cache import CacheBusy, CacheError, FeatureCache, WriterOptions


def start(*arguments):
    return subprocess.Popen(python_writer(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_writers_of_one_key_take_turns_and_share_the_work(tmp_path):
    """Each waits for the one before and computes only what is still missing; each id is stored once."""
    children = [start(tmp_path, "write", "--rows", str(rows), "--shard-rows", "3") for rows in (10, 16, 22)]
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert (child.returncode, errors) == (0, "")
    for column in (POOLED, FLIPPED):
        assert_exact(tmp_path, make_ids(22), column)
    report = FeatureCache(tmp_path).verify(deep=True)
    assert (report.ok, report.duplicate_rows) == (True, 0)
    assert unexpected_files(tmp_path) == []


def test_a_second_process_is_told_who_writes(tmp_path):
    with FeatureCache(tmp_path).writer(KEY):
        child = start(tmp_path, "hold")
        _, errors = child.communicate(timeout=30)
    assert child.returncode == 1
    assert f"CacheBusy: another process (id {os.getpid()}) is writing under this key" in errors


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
            FeatureCache(tmp_path).writer(KEY).__enter__()
        parent.kill()
        parent.wait()
        os.kill(worker, 0)
        with FeatureCache(tmp_path).writer(KEY, wait=5) as writer:
            assert writer.missing(make_ids(6), POOLED).all()
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


def test_waiting_for_a_writer_ends_when_it_does(tmp_path):
    child = start(tmp_path, "write", "--rows", "6", "--delay", "0.1")
    while not list(tmp_path.rglob("key.json")):  # written under the lock
        time.sleep(0.01)
    with FeatureCache(tmp_path).writer(KEY, wait=30) as writer:
        assert not writer.missing(make_ids(6), POOLED).any()
    child.communicate()
    assert child.returncode == 0
