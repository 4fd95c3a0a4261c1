"""Repair drops what was read and found wrong, nothing else; what it drops lies in quarantine until it is asked for."""

import os

import pytest
from cachekit import KEY, OTHER_KEY, POOLED, InProcess, assert_exact, fill, folder_of, shard_files
from damagekit import IDS, UNREADABLE, assert_whole, complete, flip_bit, make_unreadable

import cache.repair
import cache.verify
from cache import CacheBusy, CacheReadError, FeatureCache, JoinedReader, Selection, export_h5
from cache.stored import Shard


@pytest.fixture
def store(tmp_path):
    """Three shards of four rows."""
    return fill(tmp_path / "features", IDS, shard_rows=4)


@pytest.fixture(autouse=True)
def checks_in_process(monkeypatch):
    monkeypatch.setattr(cache.verify, "Probe", InProcess)
    monkeypatch.setattr(cache.repair, "Probe", InProcess)


@pytest.mark.parametrize("how", UNREADABLE)
def test_a_shard_that_cannot_be_read_is_left_alone_and_named(store, how):
    path = shard_files(store.root)[1]
    aside = make_unreadable(path, how)
    report = store.verify(deep=True)
    (problem,) = report.problems
    assert (problem.kind, problem.path, problem.rows) == ("unreadable", path, 0)
    done = store.repair(report)
    assert (done.moved, done.rows_lost, done.left) == ((), 0, (problem,))
    with pytest.raises(CacheReadError, match=f"cannot read {path}: .*nothing removed. Check the permissions"):
        store.reader(KEY.digest).read(IDS, [POOLED])
    with pytest.raises(CacheReadError, match="nothing was judged by it"):
        complete(store.root)
    path.unlink()
    aside.rename(path)
    assert_whole(store.root)


def test_a_link_to_nothing_is_unreadable_and_not_a_shard_that_was_compacted_away(store):
    path = shard_files(store.root)[1]
    path.unlink()
    path.symlink_to("gone.h5")
    (problem,) = store.verify().problems
    assert (problem.kind, problem.path) == ("unreadable", path)
    with pytest.raises(CacheReadError, match="a link to a file that is not there"):
        store.reader(KEY.digest).read(IDS, [POOLED])


@pytest.mark.parametrize("how", UNREADABLE)
def test_a_set_of_ids_that_cannot_be_read_is_left_alone(store, how):
    with store.writer(KEY) as writer:
        writer.attach_ids("trained_on", IDS[:3])
    path = folder_of(store.root) / "trained_on.ids"
    aside = make_unreadable(path, how)
    report = store.verify()
    assert [(problem.kind, problem.path) for problem in report.problems] == [("unreadable", path)]
    assert store.repair(report).left == report.problems
    with pytest.raises(CacheReadError), store.writer(KEY) as writer:
        writer.attach_ids("trained_on", IDS[3:5])
    path.unlink()
    aside.rename(path)
    assert store.attached_ids(KEY.digest, "trained_on").tolist() == sorted(IDS[:3].tolist())


@pytest.fixture
def open_to_all(store):
    """The cache, where another user may look up every name."""
    modes = {path: path.stat().st_mode for path in (store.root, *store.root.parents)}
    for path, mode in modes.items():
        path.chmod(mode | 0o055)
    folder_of(store.root).chmod(0o777)
    (folder_of(store.root) / "lock").chmod(0o666)
    yield store
    for path, mode in modes.items():
        path.chmod(mode)


def as_another_user(work):
    """What `work` says in a forked process that is not root, as root may read everything."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_missing_permission_removes_no_row(open_to_all):
    paths = shard_files(open_to_all.root)
    for path in paths:
        path.chmod(0)

    def work():
        done = open_to_all.repair(open_to_all.verify(deep=True))
        return f"{len(done.moved)} {done.rows_lost} " + ", ".join(f"{p.kind}: {p.detail}" for p in done.left)

    assert as_another_user(work) == "0 0 " + ", ".join(["unreadable: Permission denied"] * 3)
    assert shard_files(open_to_all.root) == paths
    for path in paths:
        path.chmod(0o644)
    assert_whole(open_to_all.root)


def test_what_is_dropped_lies_in_quarantine_and_disturbs_nobody(store, tmp_path):
    path = shard_files(store.root)[1]
    flip_bit(path, Shard(path).header.features_at)
    damaged = path.read_bytes()
    report = store.verify(deep=True)
    (moved,) = store.repair(report).moved
    assert (moved.source, moved.target) == (path, store.root / "quarantine" / path.parent.name / path.name)
    assert moved.target.read_bytes() == damaged
    assert store.reader(KEY.digest).contains(IDS, POOLED).sum() == 8
    assert complete(store.root) == 4
    assert_whole(store.root)
    assert store.verify().quarantined == 1
    (info,) = store.keys()
    assert (info.rows, info.shards) == (12, 3)
    assert store.compact().duplicate_rows == 0
    assert export_h5(JoinedReader([(store.reader(KEY.digest), (POOLED,))]), Selection(), tmp_path / "out.h5").rows == 12
    assert store.prune(keep=IDS, dry_run=False).rows == 0
    assert_exact(store.root, IDS)
    assert moved.target.read_bytes() == damaged


def test_quarantine_keeps_everything_until_it_is_asked_for(store):
    path = folder_of(store.root) / "key.json"
    for text in ("first", "second"):
        path.write_text(text)
        store.repair(store.verify())
    inside = sorted((store.root / "quarantine").rglob("key.json*"))
    assert [item.read_text() for item in inside] == ["first", "second"]
    assert store.prune(dry_run=False).quarantined == ()
    plan = store.prune(quarantine=True)
    assert (plan.quarantined, plan.bytes) == (tuple(inside), 11)
    assert all(item.exists() for item in inside)
    assert store.prune(quarantine=True, dry_run=False).quarantined == tuple(inside)
    assert not (store.root / "quarantine").exists()
    assert_whole(store.root)


def test_a_finding_that_is_no_longer_true_costs_nothing(store):
    """Found wrong once, right when it is read again under the lock."""
    path = shard_files(store.root)[1]
    sound = path.read_bytes()
    flip_bit(path, 5000)
    report = store.verify(deep=True)
    assert len(report.problems) == 1
    path.write_bytes(sound)
    done = store.repair(report)
    assert (done.moved, done.left, done.rows_lost) == ((), (), 0)
    assert_whole(store.root)


def test_repair_does_not_touch_a_key_that_is_written_to(store):
    fill(store.root, IDS, key=OTHER_KEY)
    path = shard_files(store.root)[0]
    flip_bit(path, 5000)
    report = store.verify(deep=True)
    with store.writer(KEY), pytest.raises(CacheBusy):
        store.repair(report)
    assert path.exists()
    with store.writer(OTHER_KEY):
        assert [item.source for item in store.repair(report).moved] == [path]


def test_a_second_repair_finds_nothing(store):
    flip_bit(shard_files(store.root)[0], 5000)
    (folder_of(store.root) / "key.json").unlink()
    store.repair(store.verify(deep=True))
    report = store.verify(deep=True)
    assert report.ok
    done = store.repair(report)
    assert (done.moved, done.removed, done.rewritten, done.rows_lost, done.left) == ((), (), (), 0, ())


def test_the_command_says_what_it_did_and_how_to_go_on(store, capsys):
    import run

    flip_bit(shard_files(store.root)[0], 5000)
    words = ["cache", "verify", "--deep", "--repair", "--cache", str(store.root)]
    assert run.main(words) == 0
    said = capsys.readouterr().out
    assert "repaired: 1 moved to quarantine, 0 temporary files removed, 0 written again, 4 rows to extract\n" in said
    assert f"-> {store.root / 'quarantine' / KEY.digest[:16]}" in said
    assert run.main(["cache", "verify", "--cache", str(store.root)]) == 0
    assert (
        "1 file lies in quarantine: `cache prune --quarantine --yes` deletes what is there" in capsys.readouterr().out
    )
    assert run.main(["cache", "prune", "--quarantine", "--yes", "--cache", str(store.root)]) == 0
    assert "cache prune: removed 0 rows, 0 cache keys" in capsys.readouterr().out
    assert not (store.root / "quarantine").exists()
    make_unreadable(shard_files(store.root)[0], "loop of links")
    assert run.main(words) == 1
    assert "left alone" in capsys.readouterr().out


def test_an_index_that_is_no_database_is_found_and_set_aside(tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"photo")
    store = FeatureCache(tmp_path / "features")
    store.files.reject(photo, b"x" * 32, "bad")
    assert store.verify().ok
    store.files.path.write_bytes(b"no database" * 99)
    (problem,) = store.verify().problems
    assert (problem.kind, problem.path) == ("index", store.files.path)
    (moved,) = store.repair(store.verify()).moved
    assert moved.target.read_bytes() == b"no database" * 99
    assert store.verify().ok
    assert store.files.rejects() == []
