"""Killed at every write, fsync and rename, interrupted, or out of space: what was committed is there and is right."""

import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cachekit import (
    FLIPPED,
    KEY,
    POOLED,
    InProcess,
    assert_exact,
    fill,
    folder_of,
    make_ids,
    raw_rows,
    shard_files,
    unexpected_files,
    vectors,
)
from crashkit import kill_at, python_writer, shards_before, trace, why_no_strace
from writer_process import write

from cache import CacheWriteError, FeatureCache, JoinedReader, Selection, export_h5
from cache.verify import verify

needs_strace = pytest.mark.skipif(bool(why_no_strace()), reason=why_no_strace() or "strace works")
COLUMNS = (POOLED, FLIPPED)
ROWS, SHARD_ROWS = 8, 4


def stored(root):
    return sum(len(raw_rows(root, column)) for column in COLUMNS)


def assert_complete(root, ids):
    for column in COLUMNS:
        assert_exact(root, ids, column)
    assert verify(root, deep=True, probe=InProcess()).ok
    assert unexpected_files(root) == []


@needs_strace
def test_a_kill_at_any_boundary_loses_at_most_the_shard_in_flight(tmp_path):
    options = ("--rows", str(ROWS), "--shard-rows", str(SHARD_ROWS))
    calls = trace(python_writer(tmp_path / "whole", "write", *options), tmp_path)
    assert shards_before(calls, len(calls)) == 4
    assert {"write", "fsync", "rename", "link", "mkdir"} <= {call.name for call in calls}

    def killed(place):
        root = tmp_path / f"at-{place}"
        kill_at(python_writer(root, "write", *options), calls[place])
        return root, shards_before(calls, place)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(killed, range(len(calls))))
    for root, committed in outcomes:
        assert stored(root) == committed * SHARD_ROWS, root.name
        computed = write(root, ROWS, SHARD_ROWS)
        assert computed == (4 - committed) * SHARD_ROWS, root.name
        assert_complete(root, make_ids(ROWS))
        assert write(root, ROWS, SHARD_ROWS) == 0


@needs_strace
def test_a_compact_killed_at_any_boundary_loses_no_row(tmp_path):
    def prepared(name):
        fill(tmp_path / name, make_ids(ROWS), COLUMNS, shard_rows=SHARD_ROWS)
        return tmp_path / name

    calls = trace(python_writer(prepared("whole"), "compact"), tmp_path)
    assert [call.name for call in calls if call.paths[-1].endswith(".h5")].count("link") == 2
    assert len(shard_files(tmp_path / "whole")) == 1

    def killed(place):
        root = prepared(f"at-{place}")
        kill_at(python_writer(root, "compact"), calls[place])
        return root

    with ThreadPoolExecutor(2) as pool:
        for root in pool.map(killed, range(len(calls))):
            reader = FeatureCache(root).reader(KEY.digest)
            np.testing.assert_array_equal(reader.read(make_ids(ROWS), [POOLED]), vectors(make_ids(ROWS)))
            FeatureCache(root).compact()
            assert_complete(root, make_ids(ROWS))
            assert verify(root, probe=InProcess()).duplicate_rows == 0


@needs_strace
def test_every_commit_is_write_fsync_link_fsync_of_the_folder(tmp_path):
    """A shard's name is never one that is taken: it is linked. From the log of system calls; no power loss is tried."""
    calls = trace(python_writer(tmp_path / "features", "write", "--rows", "8"), tmp_path)
    named = [place for place, call in enumerate(calls) if call.name in ("link", "rename")]
    assert [calls[place].name for place in named].count("link") == 4, "the shards; README.txt and key.json are renamed"
    assert len(named) == 6
    for place in named:
        unfinished, final = calls[place].paths[:2]
        folder = final.rsplit("/", 1)[0]
        before = [(call.name, call.paths[0]) for call in calls[:place] if call.paths[0] == unfinished]
        assert [name for name, _ in before] == ["write", "fsync"]
        assert (calls[place - 1].name, calls[place - 1].paths[0]) == ("fsync", unfinished)
        assert (calls[place + 1].name, calls[place + 1].paths[0]) == ("fsync", folder)
        if calls[place].name == "link":
            assert (calls[place + 2].name, calls[place + 2].paths[0]) == ("unlink", unfinished)
    made = [place for place, call in enumerate(calls) if call.name == "mkdir"]
    for place in made:
        assert calls[place + 1].name == "fsync"
        assert calls[place].paths[0].startswith(calls[place + 1].paths[0])


def test_random_kills(tmp_path):
    root, dice = tmp_path / "features", random.Random(0)
    ids = make_ids(60)
    seen = 0
    for _ in range(6):
        command = python_writer(root, "write", "--rows", "60", "--shard-rows", "4", "--delay", "0.02")
        child = subprocess.Popen(command)
        time.sleep(0.4 + dice.random() * 0.5)
        child.kill()
        child.wait()
        now = stored(root)
        assert now >= seen
        assert now % 4 == 0
        seen = now
    write(root, 60, 4)
    assert_complete(root, ids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_stop_keeps_the_rows_already_computed(tmp_path, number):
    child = subprocess.Popen(python_writer(tmp_path, "hold", "--rows", "5"), stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "holding\n"
    assert raw_rows(tmp_path) == {}
    child.send_signal(number)
    assert child.wait(30) == 130
    child.stdout.close()
    assert_complete(tmp_path, make_ids(5))


def run_limited(root, limit, rows=40):
    return subprocess.run(
        python_writer(root, "write", "--rows", str(rows), "--shard-rows", "20", "--file-limit", str(limit)),
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("limit", [5, 300, 1000, 9000])
def test_a_file_that_may_not_grow_is_an_error_that_leaves_nothing_half_written(tmp_path, limit):
    """The limit strikes within the first text, the key file, the user block, and the features."""
    root = tmp_path / "features"
    done = run_limited(root, limit)
    assert done.returncode == 1
    assert done.stderr.startswith("CacheWriteError: cannot write ")
    assert str(root) in done.stderr
    assert "bytes needed): File too large; raise the file-size limit" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert unexpected_files(root) == []
    assert write(root, 40, 20) == 80
    assert_complete(root, make_ids(40))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 128 KiB, where mounting is allowed; remounted read-only by calling it."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")

    def make_read_only():
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)

    yield place, make_read_only
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_keeps_what_was_committed_and_goes_on_when_there_is_room(small_disk):
    place, _ = small_disk
    root, ballast = place / "features", place / "ballast"
    ballast.write_bytes(bytes(40_000))
    with pytest.raises(CacheWriteError, match=r"bytes needed\): No space left on device; free some space.*are safe"):
        write(root, 80, 8)
    assert unexpected_files(root) == []
    committed = stored(root)
    assert 0 < committed < 160
    assert verify(root, deep=True, probe=InProcess()).ok
    ballast.unlink()
    with pytest.raises(CacheWriteError, match="No space left"):
        write(root, 80, 8)
    assert committed < stored(root) < 160
    cache = FeatureCache(root)
    rows = cache.reader(KEY.digest).ids(POOLED)
    np.testing.assert_array_equal(cache.reader(KEY.digest).read(rows, [POOLED]), vectors(rows))


def test_a_write_after_a_refused_one_is_not_tried(small_disk):
    place, _ = small_disk
    (place / "ballast").write_bytes(bytes(100_000))
    ids = make_ids(3)
    with pytest.raises(CacheWriteError, match="No space left"), FeatureCache(place / "features").writer(KEY) as writer:
        writer.append(ids, {POOLED: vectors(ids)})
        try:
            writer.flush()
        finally:
            (place / "ballast").unlink()
    assert raw_rows(place / "features") == {}


def test_an_export_to_a_full_disk_leaves_nothing(small_disk, tmp_path):
    place, _ = small_disk
    ids = make_ids(5000)
    reader = fill(tmp_path / "features", ids).reader(KEY.digest)
    with pytest.raises(CacheWriteError, match=r"160,000 bytes needed\): No space left on device"):
        export_h5(JoinedReader([(reader, (POOLED,))]), Selection(), place / "out.h5")
    assert list(place.iterdir()) == []


def test_a_read_only_cache_can_be_read_and_refuses_to_be_written(small_disk, tmp_path):
    place, make_read_only = small_disk
    root, ids = place / "features", make_ids(8)
    cache = fill(root, ids)
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"photo")
    cache.files.ids([photo])
    make_read_only()
    np.testing.assert_array_equal(cache.reader(KEY.digest).read(ids, [POOLED]), vectors(ids))
    assert cache.verify(deep=True).ok
    other = tmp_path / "other.jpg"
    other.write_bytes(b"other")
    content, problems = cache.files.ids([photo, other])
    assert (len(set(content.tolist())), problems) == (2, {})
    with pytest.raises(
        CacheWriteError, match="Read-only file system; choose a folder that can be written with --cache"
    ):
        write(root, 20, 4)
    with pytest.raises(CacheWriteError, match="Read-only file system"):
        write(place / "new", 20, 4)


def test_a_dead_writers_lock_does_not_block(tmp_path):
    child = subprocess.Popen(python_writer(tmp_path, "hold"), stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "holding\n"
    child.kill()
    child.wait()
    child.stdout.close()
    assert (folder_of(tmp_path) / "lock").exists()
    with FeatureCache(tmp_path).writer(KEY, wait=0) as writer:
        assert writer.missing(make_ids(12), POOLED).all()
