"""key.json is checked as a whole, made again from the shards when it is lost, and never believed when it is damaged."""

import dataclasses
import json

import pytest
from cachekit import FLIPPED, KEY, OTHER_KEY, POOLED, InProcess, fill, folder_of, make_ids, shard_files, vectors
from damagekit import IDS, UNREADABLE, assert_whole, complete, flip_bit, make_unreadable

import cache.repair
import cache.verify
from cache import BaseKey, CacheError, CacheReadError, FeatureCache, WriterOptions
from cache.stored import Shard

NOTES = {"weights_source": "package", "weights_sources": ["package"], "random_weights": False}


@pytest.fixture
def store(tmp_path):
    """Three shards of four rows, with notes."""
    cache = FeatureCache(tmp_path / "features")
    with cache.writer(KEY, NOTES, options=WriterOptions(shard_rows=4)) as writer:
        writer.append(IDS, {POOLED: vectors(IDS)})
    return cache


@pytest.fixture(autouse=True)
def checks_in_process(monkeypatch):
    monkeypatch.setattr(cache.verify, "Probe", InProcess)
    monkeypatch.setattr(cache.repair, "Probe", InProcess)


@pytest.fixture
def key_path(store):
    return folder_of(store.root) / "key.json"


def without_seal(path):
    """The file as it was written before there was a checksum."""
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n")


@pytest.mark.parametrize("sealed", [True, False])
def test_no_flipped_bit_costs_a_key(store, key_path, sealed):
    """Every eleventh byte, another bit each time; `prune` goes first, as it must not trust it either."""
    if not sealed:
        without_seal(key_path)
    sound = key_path.read_bytes()
    shards = shard_files(store.root)
    seen = 0
    for place in range(0, len(sound), 11):
        flip_bit(key_path, place, place % 8)
        damaged = key_path.read_bytes()
        assert store.prune(dry_run=False).old_layouts == (), place
        report = store.verify()
        assert {problem.kind for problem in report.problems} <= {"key-file"}, place
        done = store.repair(report)
        assert (done.rows_lost, done.left) == (0, ()), place
        assert shard_files(store.root) == shards, place
        assert store.verify().ok, place
        if report.problems:
            seen += 1
            assert done.rewritten == (key_path,)
            assert done.moved[0].target.read_bytes() == damaged
        if report.problems or sealed:
            assert store.reader(KEY.digest).notes == NOTES, place
        key_path.write_bytes(sound)
    assert seen == len(range(0, len(sound), 11)) if sealed else seen > 20
    assert_whole(store.root)


@pytest.mark.parametrize(
    "change", [{"notes": {**NOTES, "weights_source": "hub"}}, {"notes": []}, {"created": 1.5}, {"created": "now"}]
)
def test_notes_and_time_are_protected(store, key_path, change):
    key_path.write_text(json.dumps({**json.loads(key_path.read_text()), **change}))
    (problem,) = store.verify().problems
    assert (problem.kind, problem.path) == ("key-file", key_path)
    assert store.reader(KEY.digest).notes == NOTES
    store.repair(store.verify())
    assert json.loads(key_path.read_text())["notes"] == NOTES
    (info,) = store.keys()
    oldest = min(path.stat().st_mtime for path in shard_files(store.root))
    assert info.created.timestamp() == pytest.approx(oldest)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 5000, '{"layout": 1e999}', "\ud800", "1" * 5000])
def test_whatever_lies_in_its_place_is_made_again(store, key_path, text):
    key_path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert [problem.kind for problem in store.verify().problems] == ["key-file"]
    assert complete(store.root) == 0, "a writer mends it as well"
    assert json.loads(key_path.read_text())["notes"] == NOTES
    assert (store.root / "quarantine" / key_path.parent.name / "key.json").exists()
    assert_whole(store.root)


def test_a_file_without_a_checksum_is_read_and_sealed_by_the_next_writer(store, key_path):
    sealed = key_path.read_bytes()
    without_seal(key_path)
    assert_whole(store.root)
    assert store.reader(KEY.digest).notes == NOTES
    complete(store.root)
    assert key_path.read_bytes() == sealed


@pytest.mark.parametrize("layout", [0, 2, 3, 9])
def test_another_layout_is_believed_only_of_a_sound_file(store, key_path, layout):
    """Even without shards that say otherwise, as in a folder whose writer was killed early."""
    content = json.loads(key_path.read_text())
    key_path.write_text(json.dumps({**content, "layout": layout}))
    assert store.reader(KEY.digest).contains(IDS, POOLED).all()
    assert store.prune(dry_run=False).old_layouts == ()
    for path in shard_files(store.root):
        path.unlink()
    assert store.prune(dry_run=False).old_layouts == ()
    assert [problem.kind for problem in store.verify().problems] == ["no-key"]
    assert key_path.exists()


def test_shards_of_two_keys_do_not_outvote_the_folders_name(store, key_path):
    fill(store.root, IDS[:2], key=OTHER_KEY)
    foreign = shard_files(store.root, key=OTHER_KEY)[0]
    (key_path.parent / foreign.name).write_bytes(foreign.read_bytes())
    key_path.unlink()
    assert [problem.kind for problem in store.verify().problems] == ["key-file", "wrong-key"]
    store.repair(store.verify())
    assert json.loads(key_path.read_text())["digest"] == KEY.digest
    assert_whole(store.root)


def test_a_damaged_shard_tells_no_key(store, key_path):
    key_path.unlink()
    for path in shard_files(store.root):
        flip_bit(path, 200)
    with pytest.raises(CacheError, match=r"no shard tells the key, and of key\.json: it is missing.*to quarantine"):
        store.reader(KEY.digest)
    (problem,) = store.verify().problems
    assert (problem.kind, problem.rows) == ("no-key", 12)
    done = store.repair(store.verify())
    assert (len(done.moved), done.rows_lost) == (3, 12)
    assert not key_path.parent.exists()
    assert complete(store.root) == 12
    assert_whole(store.root)


@pytest.mark.parametrize("how", UNREADABLE)
def test_a_file_that_cannot_be_read_is_left_alone_by_everyone(store, key_path, how):
    aside = make_unreadable(key_path, how)
    (problem,) = store.verify().problems
    assert (problem.kind, problem.path) == ("unreadable", key_path)
    assert store.repair(store.verify()).left == (problem,)
    assert complete(store.root) == 0
    assert key_path.is_symlink()
    for path in shard_files(store.root):
        make_unreadable(path, how)
    for attempt in (lambda: store.reader(KEY.digest), lambda: complete(store.root)):
        with pytest.raises(CacheReadError, match="which key it is of cannot be read"):
            attempt()
    report = store.verify()
    assert {problem.kind for problem in report.problems} == {"unreadable"}
    done = store.repair(report)
    assert (done.moved, done.removed, len(done.left)) == ((), (), len(report.problems))
    assert aside.exists()


def test_compact_keeps_the_notes_of_every_session_in_the_shards(tmp_path):
    cache = FeatureCache(tmp_path)
    for number, notes in enumerate([{"runtime": "a", "sources": ["x"]}, {"decoder": "b", "sources": ["y", "x"]}]):
        with cache.writer(KEY, notes) as writer:
            writer.append(IDS[number : number + 1], {POOLED: vectors(IDS[number : number + 1])})
    joined = {"runtime": "a", "decoder": "b", "sources": ["x", "y"]}
    assert [Shard(path).header.notes for path in shard_files(tmp_path)] == [
        {"runtime": "a", "sources": ["x"]},
        joined,
    ]
    cache.compact()
    (path,) = shard_files(tmp_path)
    assert Shard(path).header.notes == joined
    (folder_of(tmp_path) / "key.json").unlink()
    assert cache.reader(KEY.digest).notes == joined


def test_a_folder_with_nothing_but_its_lock_is_no_fault(tmp_path):
    """As a writer leaves it that was killed between the lock and key.json."""
    cache = fill(tmp_path, IDS)
    folder = folder_of(tmp_path, OTHER_KEY)
    folder.mkdir()
    (folder / "lock").write_text("1\n")
    assert cache.verify().ok
    for dry_run in (True, False):
        assert cache.prune(keep=IDS[:5], dry_run=dry_run).rows == 7
    cache.compact()
    (info,) = cache.keys()
    assert info.digest == KEY.digest
    with pytest.raises(CacheError, match="holds no vectors yet; run `python run.py extract`"):
        cache.reader(OTHER_KEY.digest)
    fill(tmp_path, IDS[:3], key=OTHER_KEY)
    assert cache.reader(OTHER_KEY.digest).contains(IDS[:3], POOLED).all()
    cache.prune(drop_keys=[OTHER_KEY.digest], dry_run=False)
    assert not folder.exists()


@pytest.mark.parametrize("field", [item.name for item in dataclasses.fields(BaseKey)])
def test_a_key_with_a_field_of_another_type_is_a_named_error(field):
    right = KEY.to_json()
    large = [10**400] if isinstance(right[field], list) else 1.5
    other = 7 if isinstance(right[field], str) else "x"
    for value in (None, True, {}, [None], large, other):
        with pytest.raises(CacheError):
            BaseKey.from_json({**right, field: value})


def test_columns_are_told_apart_after_the_key_was_made_again(store, key_path):
    with store.writer(KEY) as writer:
        writer.append(make_ids(2), {FLIPPED: vectors(make_ids(2), FLIPPED)})
    key_path.unlink()
    store.repair(store.verify())
    assert set(store.reader(KEY.digest).columns) == {POOLED, FLIPPED}
