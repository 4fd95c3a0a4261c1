"""What lies in a file's place in the tests of damage: bits that flipped, pipes, folders, files that cannot be read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
from cachekit import KEY, POOLED, make_ids, vectors

from cache import FeatureCache

IDS = make_ids(12)


def flip_bit(path: Path, place: int, bit: int = 4) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def complete(root: Path) -> int:
    """What `extract` does after a repair: compute what is missing. Returns how many rows that were."""
    with FeatureCache(root).writer(KEY) as writer:
        new = writer.missing(IDS, POOLED)
        writer.append(IDS[new], {POOLED: vectors(IDS[new])})
    return int(new.sum())


def assert_whole(root: Path) -> None:
    """Every row is there and right, and a deep check finds nothing."""
    cache = FeatureCache(root)
    np.testing.assert_array_equal(cache.reader(KEY.digest).read(IDS, [POOLED]), vectors(IDS))
    assert cache.verify(deep=True).problems == ()


def put_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def put_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "inside.txt").write_text("somebody's")


def put_socket(path: Path) -> None:
    """Bound by its name alone, as the path of a socket must be short."""
    path.unlink(missing_ok=True)
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


IRREGULAR = {"pipe": put_pipe, "folder": put_folder, "socket": put_socket}


def make_unreadable(path: Path, how: str) -> Path:
    """Put the file aside and something in its place that refuses to be read, by a real error of the system.

    Not by permissions, which do not stop root. Returns where the file lies now.
    """
    aside = path.parent.parent / f"aside-{path.name}"
    path.rename(aside)
    path.symlink_to({"loop of links": path.name, "input/output error": "/proc/self/mem"}[how])
    return aside


UNREADABLE = ("loop of links", "input/output error")
