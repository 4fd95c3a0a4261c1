"""Damaged, foreign or missing files are a clear error or a repaired state, never a wrong vector."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cachekit import (
    GRID,
    KEY,
    OTHER_KEY,
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

import cache.repair
import cache.stored
import cache.verify
from cache import CacheBusy, CacheError, FeatureCache, ShardDamaged
from cache.durable import TEMPORARY_PREFIX
from cache.owner import host_tag, owned_name
from cache.probe import Probe
from cache.stored import Shard
from cache.verify import verify

IDS = make_ids(12)


@pytest.fixture
def store(tmp_path):
    """Three shards of four rows."""
    return fill(tmp_path, IDS, shard_rows=4)


@pytest.fixture(autouse=True)
def checks_in_process(monkeypatch):
    """Spares most tests a child process for each check; those about the child name it."""
    monkeypatch.setattr(cache.verify, "Probe", InProcess)
    monkeypatch.setattr(cache.repair, "Probe", InProcess)


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def complete(root):
    """What `extract` does after a repair: compute what is missing. Returns how many rows that were."""
    with FeatureCache(root).writer(KEY) as writer:
        new = writer.missing(IDS, POOLED)
        writer.append(IDS[new], {POOLED: vectors(IDS[new])})
    return int(new.sum())


def assert_repairs(store, kind, rows):
    """Verify finds one problem, repair drops it, the next run computes just those rows, and all is well."""
    report = store.verify(deep=True)
    assert [problem.kind for problem in report.problems] == [kind]
    assert store.repair(report).rows_lost == rows
    assert complete(store.root) == rows
    assert store.verify(deep=True).ok
    assert_exact(store.root, IDS)
    assert unexpected_files(store.root) == []


def test_a_sound_cache_is_clean(store):
    report = store.verify(deep=True)
    assert report.ok
    assert (report.keys, report.shards, report.rows, report.duplicate_rows) == (1, 3, 12, 0)
    assert report.bytes == sum(path.stat().st_size for path in shard_files(store.root))


@pytest.mark.parametrize("keep", [0, 100, 4096, 9000, -1])
def test_a_truncated_shard(store, keep):
    path = shard_files(store.root)[1]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ShardDamaged, match=r"verify --repair.*then `extract`"):
        store.reader(KEY.digest).read(IDS, [POOLED])
    with pytest.raises(ShardDamaged, match="Nothing of it was used"), store.writer(KEY) as writer:
        writer.missing(IDS, POOLED)
    assert_repairs(store, "damaged", 4)


def test_a_bit_flipped_anywhere_is_found_by_deep_and_never_read_as_a_vector(store):
    """A stride over the whole file, HDF5's own metadata included, and a byte of every part of it."""
    path = shard_files(store.root)[1]
    sound = path.read_bytes()
    header = Shard(path).header
    places = {*range(0, len(sound), 397), header.features_at + 5, header.ids_at + 40, header.checksums_at, 3, 60, 4096}
    silent = 0
    for place in sorted(places):
        flip(path, place)
        try:
            np.testing.assert_array_equal(store.reader(KEY.digest).read(IDS, [POOLED]), vectors(IDS))
            silent += 1
        except ShardDamaged:
            pass
        problems = store.verify(deep=True).problems
        assert [problem.path for problem in problems] == [path], place
        path.write_bytes(sound)
    assert 0 < silent < len(places), "metadata is not used to read, features are"
    for place, text in [
        (header.features_at + 5, "features of rows 0-3 are damaged"),
        (header.ids_at + 40, "content ids are damaged"),
        (header.checksums_at, "checksums are damaged"),
        (60, "description is damaged"),
        (3, "does not begin like a shard"),
    ]:
        flip(path, place)
        with pytest.raises(ShardDamaged, match=text):
            store.reader(KEY.digest).read(IDS, [POOLED])
        path.write_bytes(sound)


def test_a_flipped_feature_is_repaired(store):
    path = shard_files(store.root)[2]
    flip(path, Shard(path).header.features_at)
    assert store.verify().ok, "the fast check reads no features"
    assert_repairs(store, "damaged", 4)


@pytest.mark.parametrize("age", [0, 3600])
def test_damage_after_the_first_read_is_noticed(store, monkeypatch, age):
    """Whether the shard is as young as the clock is coarse, or old enough to be trusted once verified."""
    monkeypatch.setattr(cache.stored, "CLOCK_NS", 2_000_000_000 - age * 1_000_000_000)
    reader = store.reader(KEY.digest)
    reader.read(IDS, [POOLED])
    path = shard_files(store.root)[0]
    time.sleep(0.02)  # longer than the kernel's clock tick
    flip(path, Shard(path).header.features_at)
    with pytest.raises(ShardDamaged, match="features of rows 0-3 are damaged"):
        reader.read(IDS[:1], [POOLED])
    with pytest.raises(ShardDamaged, match="features of rows 0-3 are damaged"):
        list(reader.shards(POOLED))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_whole_shard_is_compared_while_it_is_copied(tmp_path, monkeypatch, dtype):
    """In pieces of a row, of some rows, and of more than there are; into a part of each row of the result, too."""
    ids, rows = make_ids(3000), None
    store = fill(tmp_path, ids, columns=(POOLED, GRID), shard_rows=3000, dtype=dtype)
    path = shard_files(store.root)[0]
    sound, header = path.read_bytes(), Shard(path).header
    for piece in (1, 4096, 2**20):
        monkeypatch.setattr(cache.stored, "_PIECE_BYTES", piece)
        monkeypatch.setattr(cache.stored, "_VERIFIED", {})
        found = store.reader(KEY.digest).read(ids, [POOLED, GRID])
        rows = found if rows is None else rows
        np.testing.assert_array_equal(found, rows)
        np.testing.assert_array_equal(found[7:9], store.reader(KEY.digest).read(ids[7:9], [POOLED, GRID]))
        for row in (0, 1234, 2999):
            flip(path, header.features_at + row * header.row_bytes + 3)
            first = row // header.group_rows * header.group_rows
            with pytest.raises(
                ShardDamaged, match=f"features of rows {first}-{min(first + header.group_rows, 3000) - 1}"
            ):
                store.reader(KEY.digest).read(ids, [POOLED, GRID])
            path.write_bytes(sound)


def test_a_deleted_shard_only_costs_its_rows(store):
    shard_files(store.root)[0].unlink()
    assert store.verify(deep=True).ok
    assert store.reader(KEY.digest).contains(IDS, POOLED).tolist() == [False] * 4 + [True] * 8
    assert complete(store.root) == 4
    assert_exact(store.root, IDS)


def test_a_shard_of_another_key(store, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    fill(other, IDS, key=OTHER_KEY, shard_rows=4)
    foreign = shard_files(other, key=OTHER_KEY)[1]
    shutil.copy(foreign, folder_of(store.root) / foreign.name)
    with pytest.raises(ShardDamaged, match=f"it belongs to key {OTHER_KEY.digest[:16]}, expected {KEY.digest[:16]}"):
        store.reader(KEY.digest)
    assert [problem.kind for problem in store.verify().problems] == ["wrong-key"]
    store.repair(store.verify())
    shutil.copy(foreign, shard_files(store.root)[1])
    with pytest.raises(ShardDamaged, match=f"it belongs to key {OTHER_KEY.digest[:16]}"):
        store.reader(KEY.digest).read(IDS, [POOLED])
    report = store.verify()
    assert [problem.kind for problem in report.problems] == ["wrong-key"]
    store.repair(report)
    assert complete(store.root) == 4
    assert_exact(store.root, IDS)


def test_a_lost_or_broken_key_file_is_written_again_from_a_shard(store):
    path = folder_of(store.root) / "key.json"
    sound = json.loads(path.read_text())
    for damage in (lambda: path.unlink(), lambda: path.write_text("{"), lambda: path.write_text("[]")):
        damage()
        assert store.reader(KEY.digest).key == KEY
        report = store.verify()
        assert [problem.kind for problem in report.problems] == ["key-file"]
        assert store.repair(report).rewritten == (path,)
        assert json.loads(path.read_text())["key"] == sound["key"]
        assert store.verify(deep=True).ok


def test_a_writer_also_restores_a_lost_key_file(store):
    (folder_of(store.root) / "key.json").unlink()
    assert complete(store.root) == 0
    assert store.verify().ok


def test_a_folder_whose_key_nobody_knows_is_removed(store):
    folder = store.root / ("0" * 16)
    folder.mkdir()
    (folder / "key.json").write_text("{}")
    with pytest.raises(CacheError, match="no shard tells the key"):
        store.reader("0" * 16)
    report = store.verify()
    assert [problem.kind for problem in report.problems] == ["no-key"]
    store.repair(report)
    assert not folder.exists()
    assert store.verify().ok


def a_dead_process():
    """The id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    child.wait()
    return child.pid


def test_abandoned_temporary_files_are_found_removed_and_swept_by_the_next_writer(store):
    leftover = folder_of(store.root) / f".tmp-{a_dead_process()}-pooled.h5"
    for clean in (lambda: store.repair(store.verify()), lambda: complete(store.root)):
        leftover.write_bytes(b"half a shard")
        assert [problem.kind for problem in store.verify().problems] == ["temporary-file"]
        clean()
        assert unexpected_files(store.root) == []
    top = store.root / f".tmp-{a_dead_process()}-README.txt"
    top.write_bytes(b"half")
    assert complete(store.root) == 0
    assert not top.exists()


UNFINISHED = {
    "of this process": (lambda: owned_name(TEMPORARY_PREFIX, "a.h5"), 0, False),
    "of an earlier version's living process": (lambda: f".tmp-{os.getpid()}-a.h5", 0, False),
    "of an ended process": (lambda: f".tmp-{host_tag()}-{a_dead_process()}-77-0123abcd-a.h5", 0, True),
    "of an ended process whose id lives": (lambda: f".tmp-{host_tag()}-{os.getpid()}-77-0123abcd-a.h5", 0, True),
    "of another host": (lambda: f".tmp-{'0' * 12}-{a_dead_process()}-77-0123abcd-a.h5", 0, False),
    "of another host, an hour ago": (lambda: f".tmp-{'0' * 12}-1-77-0123abcd-a.h5", 3600, False),
    "of another host, two days ago": (lambda: f".tmp-{'0' * 12}-1-77-0123abcd-a.h5", 172_800, True),
    "of nobody": (lambda: ".tmp-at-work.h5", 0, True),
}


@pytest.mark.parametrize("whose", UNFINISHED)
def test_only_files_of_processes_that_are_surely_gone_are_strays(store, whose):
    """Told by host, process id and start of the process; whoever comes by leaves all others alone."""
    name, age, stray = UNFINISHED[whose]
    path = folder_of(store.root) / name()
    path.write_bytes(b"half a shard")
    os.utime(path, (time.time() - age,) * 2)
    assert [problem.path for problem in store.verify().problems] == [path] * stray
    for come_by in (lambda: complete(store.root), store.compact, lambda: store.repair(store.verify())):
        come_by()
        assert path.exists() is not stray


def test_a_process_that_ended_and_was_not_waited_for_is_gone(store):
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    started = Path("/proc", str(child.pid), "stat").read_text().rpartition(")")[2].split()[19]
    path = folder_of(store.root) / f".tmp-{host_tag()}-{child.pid}-{started}-0123abcd-a.h5"
    path.write_bytes(b"half a shard")
    assert store.verify().ok
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not store.verify().ok
    child.wait()


def test_repair_waits_for_no_writer(store):
    path = shard_files(store.root)[0]
    flip(path, Shard(path).header.ids_at)
    report = store.verify()
    with store.writer(KEY), pytest.raises(CacheBusy, match="another process"):
        store.repair(report)
    assert path.exists()


@pytest.mark.parametrize(
    ("program", "seconds", "text"),
    [
        ("import sys, time; sys.stdin.readline(); time.sleep(60)", 0.3, "did not come back within 0.3 s"),
        ("import sys, os; sys.stdin.readline(); os.abort()", 5.0, "the HDF5 library crashed on it"),
    ],
)
def test_an_hdf5_library_that_hangs_or_dies_stops_no_check_and_convicts_no_sound_shard(store, program, seconds, text):
    """The library's part is played by a program; only bytes that are not those that were written are damage."""
    probe = Probe(seconds, [sys.executable, "-S", "-c", program])
    paths = shard_files(store.root)
    flip(paths[1], 5000)  # HDF5's own metadata
    report = verify(store.root, probe=probe)
    assert [problem.kind for problem in report.problems] == ["unreadable", "damaged", "unreadable"]
    assert text in report.problems[0].detail
    done = store.repair(report)
    assert [item.source for item in done.moved] == [paths[1]]
    assert [problem.path for problem in done.left] == [paths[0], paths[2]]
    assert shard_files(store.root) == [paths[0], paths[2]]


def test_hdf5_metadata_that_the_library_cannot_read_is_found_by_the_fast_check(store):
    path = shard_files(store.root)[1]
    data = bytearray(path.read_bytes())
    data[4096:4104] = b"\0" * 8
    path.write_bytes(data)
    (problem,) = verify(store.root, probe=Probe()).problems
    assert (problem.kind, problem.path, problem.rows) == ("damaged", path, 4)
    assert problem.detail.startswith("the HDF5 library cannot read it")
    np.testing.assert_array_equal(store.reader(KEY.digest).read(IDS, [POOLED]), vectors(IDS))


def test_a_renamed_shard_does_not_pass(store):
    path = shard_files(store.root)[0]
    text = path.name.replace("-00000000-4-", "-00000000-5-")
    path.rename(path.with_name(text))
    with pytest.raises(ShardDamaged, match="its name says 5 rows, its content 4"):
        store.reader(KEY.digest)
    assert len(raw_rows(store.root)) == 12
