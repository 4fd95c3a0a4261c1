"""What a repair takes out of a cache is moved to `<root>/quarantine/<folder it lay in>/`, and deleted only when asked.

No other part of this package looks in there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cache.durable import fsync_folder, make_folder, write_error

FOLDER = "quarantine"
_FROM_ROOT = "root"


def quarantine(root: Path, path: Path) -> Path:
    """Move a file (or whatever lies in its place) of a cache out of the way; to be called under its folder's lock.

    Args:
        root: The cache.
        path: What is moved: an entry of the cache's folder or of a key's.

    Returns:
        Where it lies now; a name that is taken gets a number behind it.

    Raises:
        CacheWriteError: The disk refuses.
    """
    place = root / FOLDER / (_FROM_ROOT if path.parent == root else path.parent.name)
    make_folder(place)
    target, number = place / path.name, 0
    while os.path.lexists(target):
        number += 1
        target = place / f"{path.name}.{number}"
    try:
        path.rename(target)
        fsync_folder(place)
        fsync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    return target


def quarantined(root: Path) -> list[Path]:
    """Everything in quarantine, by name."""
    return sorted((root / FOLDER).glob("*/*"))


def size_of(paths: list[Path]) -> int:
    """Bytes of files, and of what lies in folders."""
    every = [inner for path in paths for inner in (path, *path.rglob("*"))]
    return sum(path.lstat().st_size for path in every if not path.is_dir())


def empty(root: Path) -> None:
    """Delete everything in quarantine, for good.

    Args:
        root: The cache.

    Raises:
        CacheWriteError: The disk refuses.
    """
    folder = root / FOLDER
    try:
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
            fsync_folder(root)
    except OSError as error:
        raise write_error(folder, error) from error
