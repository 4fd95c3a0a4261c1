"""Sets of content ids kept beside a key, outside its digest: such as the photos that its weights were trained on.

`<key>/<name>.ids` holds the ids, sorted, 32 bytes each, and then the SHA-256 of all of them.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from cache.durable import commit_file
from cache.errors import CacheError, NotAFile
from cache.ids import Ids, as_ids
from cache.quarantine import quarantine
from cache.regular import read_whole

SUFFIX = ".ids"
MOST_BYTES = 1024 * 1024 * 1024  # 33 million photos

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


class AttachedDamaged(CacheError):
    """A set of ids that was read and is not what was written."""


def attached_path(folder: Path, name: str) -> Path:
    """Where a key's folder keeps the set of that name.

    Args:
        folder: The key's folder.
        name: Lower-case letters, digits and _.

    Returns:
        The file.

    Raises:
        CacheError: The name is another one.
    """
    if not _NAME.fullmatch(name):
        raise CacheError(f"a set of ids is called {name!r}; expected lower-case letters, digits and _ (at most 32)")
    return folder / f"{name}{SUFFIX}"


def read_attached(path: Path) -> Ids:
    """The ids of one set.

    Args:
        path: Its file.

    Returns:
        S32 (n,), sorted; none if there is no such set.

    Raises:
        AttachedDamaged: Its bytes are not those that were written, or it is no file.
        CacheReadError: It cannot be read.
    """
    advice = "run `extract` again with the same weights file, which writes it again"
    try:
        data = read_whole(path, MOST_BYTES)
    except FileNotFoundError:
        return as_ids(())
    except NotAFile as error:
        raise AttachedDamaged(f"{error}; {advice}") from error
    body, seal = data[:-32], data[-32:]
    if len(data) < 32 or len(data) % 32 or hashlib.sha256(body).digest() != seal:
        raise AttachedDamaged(f"{path} is damaged; {advice}")
    return np.frombuffer(body, dtype="S32")


def write_attached(path: Path, ids: Ids) -> None:
    """Add ids to a set; what is there stays, or goes to quarantine if it is damaged. Call it under the cache's lock.

    Args:
        path: File of the set.
        ids: S32 (n,).

    Raises:
        CacheReadError: What is there cannot be read.
        CacheWriteError: The disk refuses.
    """
    try:
        before = read_attached(path)
    except AttachedDamaged:
        quarantine(path.parent.parent, path)
        before = as_ids(())
    together = np.unique(np.concatenate([before, as_ids(ids)]))
    if len(together) == len(before) and path.exists():
        return
    body = together.tobytes()
    commit_file(path, body + hashlib.sha256(body).digest())
