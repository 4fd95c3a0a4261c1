"""Pipes, sockets and folders in a file's place hang nothing, and headers of any content are damage, not tracebacks."""

import contextlib
import json
import signal

import numpy as np
import pytest
from cachekit import KEY, POOLED, InProcess, fill, folder_of, shard_files, vectors
from damagekit import IDS, IRREGULAR, assert_whole, complete, put_pipe

import cache.repair
import cache.verify
from cache import NO_ID, CacheBusy, CacheError, FeatureCache, JoinedReader, Selection, ShardDamaged, export_h5
from cache.header import checksum


@pytest.fixture
def store(tmp_path):
    """Three shards of four rows, a set of ids and an index."""
    store = fill(tmp_path / "features", IDS, shard_rows=4)
    with store.writer(KEY) as writer:
        writer.attach_ids("trained_on", IDS[:3])
    store.files.reject("photo.jpg", b"x" * 32, "bad")
    return store


@pytest.fixture(autouse=True)
def checks_in_process(monkeypatch):
    monkeypatch.setattr(cache.verify, "Probe", InProcess)
    monkeypatch.setattr(cache.repair, "Probe", InProcess)


@pytest.fixture(autouse=True)
def no_hang():
    """What waits for the other end of a pipe is stopped, and fails."""

    def stop(number, frame):
        raise AssertionError("hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def everything(store, out):
    """Each way into a cache, as a name and a call."""
    return {
        "read": lambda: store.reader(KEY.digest).read(IDS, [POOLED]),
        "map": lambda: list(store.reader(KEY.digest).shards(POOLED)),
        "info": store.keys,
        "attached": lambda: store.attached_ids(KEY.digest, "trained_on"),
        "export": lambda: export_h5(JoinedReader([(store.reader(KEY.digest), (POOLED,))]), Selection(), out),
        "verify": lambda: store.verify(deep=True),
        "prune": lambda: store.prune(keep=IDS),
        "index": lambda: store.files.ids([__file__]),
        "rejects": store.files.rejects,
        "compact": store.compact,
        "write": lambda: complete(store.root),
    }


PLACES = ("shard", "key.json", "trained_on.ids", "files.sqlite", "files.sqlite-journal", "files.sqlite-wal")


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_is_an_error_by_name_and_is_repaired(store, tmp_path, kind, place):
    folder = store.root if place.startswith("files") else folder_of(store.root)
    path = shard_files(store.root)[1] if place == "shard" else folder / place
    IRREGULAR[kind](path)
    for call in everything(store, tmp_path / "out.h5").values():
        try:
            call()
        except CacheError as error:
            assert str(path) in str(error), error
    store.repair(store.verify())
    assert complete(store.root) in (0, 4)
    assert_whole(store.root)
    inside = [item.name for item in (store.root / "quarantine").glob("*/*")]
    assert inside == [path.name], "what it was is somebody's; it is not deleted"


@pytest.mark.parametrize("place", ["lock", ".tmp-1-pooled.h5", "odd.h5", "README.txt"])
def test_a_pipe_in_another_place_hangs_nothing_either(store, tmp_path, place):
    for folder in (store.root, folder_of(store.root)):
        put_pipe(folder / place)
    for call in everything(store, tmp_path / "out.h5").values():
        call()
    with store.writer(KEY), pytest.raises(CacheBusy, match=r"\(id unknown\)|\(id \d+\)"):
        store.compact()
    assert_whole(store.root)


@pytest.mark.parametrize("kind", IRREGULAR)
def test_a_photo_that_is_no_file_is_refused(tmp_path, kind):
    path = tmp_path / "photo.jpg"
    IRREGULAR[kind](path)
    ids, problems = FeatureCache(tmp_path / "cache").files.ids([path])
    assert ids[0] == NO_ID.rstrip(b"\0") and problems == {0: "not a regular file"}


def test_a_key_folder_with_a_folder_in_it_is_not_pruned_half(store):
    (folder_of(store.root) / "mine").mkdir()
    with pytest.raises(CacheError, match="holds a folder, which no cache makes"):
        store.prune(drop_keys=[KEY.digest], dry_run=False)
    assert_whole(store.root)


def with_header(path, change):
    """Write a shard's first line anew, with the right checksum, after `change` of its JSON text."""
    data = path.read_bytes()
    line, _, _ = data[:4096].partition(b"\n")
    magic, layout, block, _, body = line.split(b" ", 4)
    body = change(body)
    line = b" ".join([magic, layout, block, f"{checksum(body):016x}".encode(), body]) + b"\n"
    assert len(line) <= 4096
    path.write_bytes(line.ljust(4096, b"\0") + data[4096:])


def assert_refused(store, path):
    """No vector comes of it, by any way, and the check names it."""
    for call in everything(store, store.root.parent / "out.h5").values():
        with contextlib.suppress(CacheError):
            call()
    with pytest.raises(ShardDamaged):
        store.reader(KEY.digest).read(IDS, [POOLED])
    assert [(problem.kind, problem.path) for problem in store.verify().problems] == [("damaged", path)]


FIELDS = (
    *("key", "base", "column_digest", "block", "view", "rows", "dtype", "group_rows", "features_at", "ids_at"),
    *("checksums_at", "features_sum", "ids_sum", "checksums_sum", "file_bytes", "notes"),
)


@pytest.mark.parametrize("field", FIELDS)
def test_a_header_field_of_any_type_is_damage(store, field):
    path = shard_files(store.root)[1]
    sound = path.read_bytes()
    right = json.loads(sound[:4096].partition(b"\n")[0].split(b" ", 4)[4])[field]
    for value in (None, True, -1, 2**70, 1.5, "x", "\ud800", [], {"dim": "x"}, {"name": 5, "dim": 8, "params": {}}):
        if type(value) is type(right) and field in ("notes", "base", "features_sum"):
            continue  # read and checked, if at all, where it is used
        with_header(path, lambda body, value=value: json.dumps({**json.loads(body), field: value}).encode())
        with contextlib.suppress(CacheError):
            np.testing.assert_array_equal(store.reader(KEY.digest).read(IDS, [POOLED]), vectors(IDS))
        kinds = [(problem.kind, problem.path) for problem in store.verify().problems]
        assert kinds in ([("damaged", path)], [("wrong-key", path)]), value
        path.write_bytes(sound)
    with_header(path, lambda body: json.dumps({k: v for k, v in json.loads(body).items() if k != field}).encode())
    assert_refused(store, path)


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"", b"[]", b"null", b"7", b"{", b"[" * 3000, b'{"key": ' + b"1" * 3900 + b"}"], ids=repr
)
def test_a_header_of_any_bytes_is_damage(store, body):
    path = shard_files(store.root)[1]
    with_header(path, lambda _: body)
    assert_refused(store, path)


@pytest.mark.parametrize("line", [b"", b"selvedge-shard", b"selvedge-shard 1 99999999 0 x", b"\xff" * 4096, b" " * 99])
def test_a_first_line_of_any_bytes_is_damage(store, line):
    path = shard_files(store.root)[1]
    path.write_bytes(line.ljust(4096, b"\0") + path.read_bytes()[4096:])
    assert_refused(store, path)


def test_a_wrong_base_in_a_sound_header_is_found(store):
    """The reader goes by the key's digest; the check compares the key itself, from which key.json may be made again."""
    path = shard_files(store.root)[1]
    with_header(
        path,
        lambda body: json.dumps({**(data := json.loads(body)), "base": {**data["base"], "size": 5}}).encode(),
    )
    assert [problem.kind for problem in FeatureCache(store.root).verify().problems] == ["damaged"]
    (folder_of(store.root) / "key.json").unlink()
    assert store.reader(KEY.digest).key == KEY
