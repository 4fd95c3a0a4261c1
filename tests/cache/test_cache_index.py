"""The index holds our tables and nothing else, never makes anyone wait long, and tells whose reject a reject is."""

import sqlite3
import time

import pytest
from cachekit import KEY, OTHER_KEY

import cache.files
import cache.index
from cache import CacheBusy, CacheWriteError, FeatureCache, id_of
from cache.index import Index

TABLES_BEFORE = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    sha256 BLOB NOT NULL, seal INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rejects (
    path BLOB PRIMARY KEY, content_id BLOB NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
"""
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"


@pytest.fixture
def photos(tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index that trusts fresh files, so that a test need not wait for the clock."""
    monkeypatch.setattr(cache.files, "RACY_NS", -10_000_000_000)
    return FeatureCache(tmp_path / "features").files


def ids_of(paths):
    return [id_of(path.read_bytes()).rstrip(b"\0") for path in paths]


def change(index, *statements):
    base = sqlite3.connect(index.path, isolation_level=None)
    for statement in statements:
        base.execute(statement)
    base.close()


HOSTILE = {
    "a recursive view in a table's place": (
        "DROP TABLE files",
        f"CREATE VIEW files AS {ENDLESS} x'00' path, i size, 0 mtime_ns, 0 ctime_ns, x'00' sha256, 0 seal FROM n",
    ),
    "a view of rejects that never ends": (
        "DROP TABLE rejects",
        f"CREATE VIEW rejects AS {ENDLESS} x'00' path, '' scope, x'00' content_id, 'x' reason FROM n",
    ),
    "a trigger that forgets": ("CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM files; END",),
    "a trigger that never ends": (
        f"CREATE TRIGGER t BEFORE INSERT ON files BEGIN INSERT INTO rejects {ENDLESS} i, '', x'00', 'x' FROM n; END",
    ),
    "a table more": ("CREATE TABLE more (x)",),
    "an index on an expression": ("CREATE INDEX i ON files (abs(size))",),
    "a column more": ("ALTER TABLE files ADD COLUMN more",),
    "a generated column": (
        "DROP TABLE files",
        "CREATE TABLE files (path BLOB PRIMARY KEY, size, mtime_ns, ctime_ns, seal, sha256 AS (x'00'))",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_schema_that_is_not_ours_is_found_and_the_index_started_again(index, photos, what):
    index.ids(photos)
    index.reject(photos[0], id_of(b"0.jpg"), "bad")
    change(index, *HOSTILE[what])
    start = time.monotonic()
    assert [problem.kind for problem in FeatureCache(index.path.parent).verify().problems] == ["index"]
    assert index.rejects() == []
    change(index, *HOSTILE[what])
    ids, problems = index.ids(photos)
    assert (ids.tolist(), problems) == (ids_of(photos), {})
    assert time.monotonic() - start < 20
    index.reject(photos[0], id_of(b"0.jpg"), "bad")
    assert len(index.rejects()) == 1
    assert FeatureCache(index.path.parent).verify().ok


@pytest.mark.parametrize(
    "row",
    [
        "x'00', '', 7, 'bad'",
        "'text', '', x'00', 'bad'",
        "x'00', '', x'00', CAST(x'ff' AS TEXT)",
        "x'00', CAST(x'ff' AS TEXT), x'00', 'bad'",
        "x'00', '', zeroblob(5000000), 'bad'",
    ],
)
def test_a_reject_of_any_type_starts_the_index_again(index, photos, row):
    index.reject(photos[0], id_of(b"0.jpg"), "bad")
    change(index, f"INSERT INTO rejects VALUES ({row})")
    assert index.rejects() == []
    assert index.ids(photos)[0].tolist() == ids_of(photos)


@pytest.mark.parametrize("column", ["sha256", "path", "size", "seal"])
def test_a_file_of_any_type_is_hashed_again(index, photos, column):
    index.ids(photos)
    change(index, f"UPDATE files SET {column} = CAST({column} AS TEXT) || 'x' WHERE size > 0")
    ids, problems = index.ids(photos)
    assert (ids.tolist(), problems) == (ids_of(photos), {})


def test_a_locked_index_is_named_soon(index, photos, monkeypatch):
    assert cache.index.BUSY_SECONDS <= 5
    monkeypatch.setattr(cache.index, "BUSY_SECONDS", 0.3)
    index.ids(photos)
    base = sqlite3.connect(index.path, isolation_level=None)
    base.execute("BEGIN EXCLUSIVE")
    for call in (lambda: index.ids(photos), index.rejects, lambda: index.reject(photos[0], b"x" * 32, "bad")):
        start = time.monotonic()
        with pytest.raises(CacheBusy, match=r"files\.sqlite has been in use by another process for 0\.3 s; try again"):
            call()
        assert time.monotonic() - start < 5
    assert FeatureCache(index.path.parent).verify().ok, "what is in use is not looked into"
    base.execute("COMMIT")
    base.close()
    assert index.ids(photos)[0].tolist() == ids_of(photos)


def test_a_query_that_does_not_end_is_stopped(index, photos, monkeypatch):
    monkeypatch.setattr(cache.index, "QUERY_SECONDS", 0.2)
    index.reject(photos[0], b"x" * 32, "bad")
    with pytest.raises(CacheWriteError, match=r"files\.sqlite did not answer within 0\.2 s"):
        Index(index.path).read(lambda base: base.execute(f"{ENDLESS} count(*) FROM n").fetchone())
    assert len(index.rejects()) == 1


def before(index, photos):
    """An index as it was written before rejects had a scope."""
    index.path.parent.mkdir()
    base = sqlite3.connect(index.path, isolation_level=None)
    base.executescript(TABLES_BEFORE)
    rows = [
        (bytes(photos[0]), id_of(b"0.jpg"), "truncated"),
        (bytes(photos[1]), id_of(b"1.jpg"), "the network's output for it is not finite"),
    ]
    base.executemany("INSERT INTO rejects VALUES (?, ?, ?)", rows)
    base.close()


def test_an_index_from_before_is_read_as_it_stands(index, photos):
    """What a network caused cannot be told whose it was, so it is tried again."""
    before(index, photos)
    bytes_before = index.path.read_bytes()
    assert [(item.path, item.reason, item.key) for item in index.rejects()] == [(photos[0], "truncated", None)]
    assert FeatureCache(index.path.parent).verify().ok
    assert index.path.read_bytes() == bytes_before


def test_an_index_from_before_is_brought_up_by_the_first_write(index, photos):
    before(index, photos)
    ids, _ = index.ids(photos)
    index.reject(photos[2], id_of(b"2.jpg"), "not finite", KEY.digest)
    assert [(item.path, item.key) for item in index.rejects()] == [(photos[0], None), (photos[2], KEY.digest)]
    assert index.rejected(ids, KEY.digest) == {0: "truncated", 2: "not finite"}
    assert FeatureCache(index.path.parent).verify().ok


def test_rejects_of_a_network_belong_to_its_key(index, photos):
    ids, _ = index.ids(photos)
    index.reject(photos[0], id_of(b"0.jpg"), "not an image")
    index.reject(photos[1], id_of(b"1.jpg"), "not finite", KEY.digest)
    assert index.rejected(ids) == {0: "not an image"}
    assert index.rejected(ids, KEY.digest) == {0: "not an image", 1: "not finite"}
    assert index.rejected(ids, OTHER_KEY.digest) == {0: "not an image"}
    index.reject(photos[0], id_of(b"0.jpg"), "not finite", KEY.digest)
    assert index.rejected(ids, KEY.digest)[0] == "not an image", "what holds for every network is said first"
    index.retry(ids, KEY.digest)
    assert index.rejected(ids, KEY.digest) == {0: "not an image"}
    photos[0].write_bytes(b"mended")
    index.ids(photos)
    assert index.rejects() == []


@pytest.mark.parametrize("text", [b"CREATE TABLE files", b"tablefilesfiles", b"mtime_ns INTEGER"])
def test_a_schema_that_is_not_text_is_damage(index, photos, text):
    """SQLite quotes it in its message, which then cannot be decoded."""
    index.ids(photos)
    data = index.path.read_bytes()
    for place in range(data.index(text), data.index(text) + len(text), 3):
        index.path.write_bytes(data[:place] + bytes([data[place] ^ 0x80]) + data[place + 1 :])
        assert [problem.kind for problem in FeatureCache(index.path.parent).verify().problems] == ["index"]
        assert index.ids(photos)[0].tolist() == ids_of(photos)


def test_a_header_that_says_read_only_is_damage(index, photos):
    index.ids(photos)
    data = bytearray(index.path.read_bytes())
    data[18] = 9  # the version that a writer must know
    index.path.write_bytes(data)
    index.reject(photos[0], id_of(b"0.jpg"), "bad")
    assert len(index.rejects()) == 1
