"""The index of files: hashes once, notices every change, survives its own loss, and takes any name."""

import hashlib
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

import cache.files
from cache import NO_ID, FeatureCache, id_array, id_of


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(f"photo {number}".encode())
    return sorted(folder.iterdir())


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index that trusts fresh files, so that a test need not wait for the clock."""
    monkeypatch.setattr(cache.files, "RACY_NS", -10_000_000_000)
    return FeatureCache(tmp_path / "features").files


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files that were read, in order."""
    names = []
    real = cache.files._hash_file

    def counting(name):
        names.append(name)
        return real(name)

    monkeypatch.setattr(cache.files, "_hash_file", counting)
    return names


def test_ids_are_the_sha256_of_the_bytes(index, photos):
    ids, problems = index.ids(photos)
    assert ids.dtype == "S32"
    assert [bytes(item).ljust(32, b"\0") for item in ids] == [
        hashlib.sha256(path.read_bytes()).digest() for path in photos
    ]
    assert problems == {}
    assert bytes(ids[0]).ljust(32, b"\0") == id_of(b"photo 0")


def test_known_files_are_not_read_again_until_told(index, photos, hashed):
    first, _ = index.ids(photos)
    assert len(hashed) == 4
    again, _ = index.ids(photos)
    assert len(hashed) == 4
    assert again.tolist() == first.tolist()
    index.ids(photos, rehash=True)
    assert len(hashed) == 8


@pytest.mark.parametrize("change", ["size", "mtime", "content of the same size and mtime"])
def test_a_changed_photo_is_read_again(index, photos, hashed, change):
    index.ids(photos)
    before = photos[1].stat()
    time.sleep(0.02)  # longer than the kernel's clock tick
    if change == "size":
        photos[1].write_bytes(b"another photo")
        os.utime(photos[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "mtime":
        os.utime(photos[1], ns=(1, 1))
    else:
        photos[1].write_bytes(b"PHOTO 1")
        os.utime(photos[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    ids, _ = index.ids(photos)
    assert hashed[4:] == [os.fsencode(photos[1])]
    assert ids[1] == id_of(photos[1].read_bytes())


def test_a_file_as_young_as_its_hash_is_not_trusted(tmp_path, photos, hashed):
    """A change within the same tick of the clock would keep size, mtime and ctime."""
    files = FeatureCache(tmp_path / "features").files
    files.ids(photos)
    files.ids(photos)
    assert len(hashed) == 8


def test_renamed_and_copied_photos_have_the_same_id(index, photos):
    ids, _ = index.ids(photos)
    moved = photos[0].rename(photos[0].with_name("renamed.jpg"))
    copy = photos[0].with_name("copy.jpg")
    copy.write_bytes(moved.read_bytes())
    assert index.ids([moved, copy])[0].tolist() == [ids[0], ids[0]]


def test_problems_have_the_zero_id_and_a_reason(index, photos, tmp_path):
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    paths = [photos[0], tmp_path / "gone.jpg", loop, pipe, tmp_path, tmp_path / "nul\0byte.jpg"]
    ids, problems = index.ids(paths)
    assert [item == NO_ID.rstrip(b"\0") for item in ids.tolist()] == [False] + [True] * 5
    assert problems == {
        1: "No such file or directory",
        2: "Too many levels of symbolic links",
        3: "not a regular file",
        4: problems[4],
        5: problems[5],
    }
    assert problems[4] in {"Is a directory", "not a regular file"}
    assert "null" in problems[5]


def test_a_symlink_has_the_id_of_its_target(index, photos, tmp_path):
    link = tmp_path / "link.jpg"
    link.symlink_to(photos[2])
    assert index.ids([link])[0][0] == id_of(b"photo 2")


HOSTILE = [
    "with space.jpg",
    "new\nline.jpg",
    "tab\tand'quote\".jpg",
    "caf\u00e9.jpg",
    "cafe\u0301.jpg",
    os.fsdecode(b"not-utf8-\xff\xfe.jpg"),
    "x" * 251 + ".jpg",
    "-rf.jpg",
    "\u202egpj.exe",
]


def test_hostile_names(index, tmp_path, hashed):
    paths = []
    for number, name in enumerate(HOSTILE):
        path = tmp_path / name
        path.write_bytes(b"hostile %d" % number)
        paths.append(path)
    for _ in range(2):
        ids, problems = index.ids(paths)
        assert problems == {}
        assert ids.tolist() == id_array(id_of(b"hostile %d" % number) for number in range(len(HOSTILE))).tolist()
    assert len(hashed) == len(HOSTILE)
    for path in paths:
        index.reject(path, id_of(b"x"), "odd name")
    assert {item.path for item in index.rejects()} == set(paths)


def test_relative_paths_count_from_the_current_folder(index, photos, monkeypatch, hashed):
    monkeypatch.chdir(photos[0].parent)
    assert index.ids(["0.jpg"])[0][0] == id_of(b"photo 0")
    index.ids([photos[0]])
    assert len(hashed) == 1
    other = photos[0].parent / "sub"
    other.mkdir()
    (other / "0.jpg").write_bytes(b"another")
    monkeypatch.chdir(other)
    assert index.ids([Path("0.jpg")])[0][0] == id_of(b"another")


def test_one_path_asked_for_twice(index, photos, hashed):
    ids, problems = index.ids([photos[0], photos[1], photos[0]])
    assert (ids[0], len(hashed), problems) == (ids[2], 2, {})


def test_a_file_that_changes_while_it_is_read_is_a_problem(index, tmp_path, monkeypatch):
    path = tmp_path / "growing.jpg"
    path.write_bytes(b"first half")
    real = hashlib.file_digest

    def grow(stream, name):
        digest = real(stream, name)
        time.sleep(0.02)
        path.write_bytes(b"first half, second half")
        return digest

    monkeypatch.setattr(hashlib, "file_digest", grow)
    ids, problems = index.ids([path])
    assert problems == {0: "changed while it was read"}
    assert ids.tolist() == [b""]


@pytest.mark.parametrize("damage", ["deleted", "empty", "garbage", "truncated", "other tables", "flipped"])
def test_a_lost_or_damaged_index_is_rebuilt(index, photos, hashed, damage):
    expected, _ = index.ids(photos)
    index.reject(photos[0], id_of(b"photo 0"), "bad")
    whole = index.path.read_bytes()
    if damage == "deleted":
        index.path.unlink()
    elif damage == "other tables":
        index.path.unlink()
        with sqlite3.connect(index.path) as base:
            base.execute("CREATE TABLE files (name TEXT)")
        base.close()
    elif damage == "flipped":
        place = whole.index(hashlib.sha256(b"photo 1").digest())
        index.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    else:
        index.path.write_bytes(
            {"empty": b"", "garbage": b"garbage" * 999, "truncated": whole[: len(whole) // 2]}[damage]
        )
    ids, problems = index.ids(photos)
    assert (ids.tolist(), problems) == (expected.tolist(), {})
    assert len(hashed) == (5 if damage == "flipped" else 8)
    if damage != "flipped":
        assert index.rejects() == []
    index.ids(photos)
    assert len(hashed) == (5 if damage == "flipped" else 8)


def test_rejects_last_until_the_photo_changes(index, photos):
    ids, _ = index.ids(photos)
    index.reject(photos[1], id_of(b"photo 1"), "truncated")
    index.reject(photos[2], id_of(b"photo 2"), "not an image")
    assert index.rejected(ids) == {1: "truncated", 2: "not an image"}
    assert [(item.path, item.content_id, item.reason) for item in index.rejects()] == [
        (photos[1], id_of(b"photo 1"), "truncated"),
        (photos[2], id_of(b"photo 2"), "not an image"),
    ]
    photos[1].write_bytes(b"mended")
    ids, _ = index.ids(photos)
    assert index.rejected(ids) == {2: "not an image"}
    assert len(index.rejects()) == 1
    index.ids(photos, rehash=True)
    assert index.rejects() == []


def test_threads_may_share_an_index(index, photos):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(index.ids(photos)[0].tolist())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [index.ids(photos)[0].tolist()] * 4


def test_no_path_at_all(index):
    ids, problems = index.ids([])
    assert (ids.shape, problems) == ((0,), {})
