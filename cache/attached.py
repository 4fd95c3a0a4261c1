"""Sets of content ids kept beside a key, outside its digest: such as the photos that its weights were trained on.

`<key>/<name>.ids` holds the ids, sorted, 32 bytes each, and then the SHA-256 of all of them.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from cache.durable import commit_file
from cache.errors import CacheError
from cache.ids import Ids, as_ids

SUFFIX = ".ids"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


def attached_path(folder: Path, name: str) -> Path:
    """Where a key's folder keeps the set of that name.

    Raises
    ------
    CacheError
        If the name is not lower-case letters, digits and _.
    """
    if not _NAME.fullmatch(name):
        raise CacheError(f"a set of ids is called {name!r}; expected lower-case letters, digits and _ (at most 32)")
    return folder / f"{name}{SUFFIX}"


def read_attached(path: Path) -> Ids:
    """The ids of one set, S32 (n,), sorted; none if there is no such set.

    Raises
    ------
    CacheError
        If its bytes are not those that were written.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return as_ids(())
    body, seal = data[:-32], data[-32:]
    if len(data) < 32 or len(data) % 32 or hashlib.sha256(body).digest() != seal:
        raise CacheError(f"{path} is damaged; run `extract` again with the same weights file, which writes it again")
    return np.frombuffer(body, dtype="S32")


def write_attached(path: Path, ids: Ids) -> None:
    """Add ids to a set; what is there stays, unless it is damaged. To be called under the key's lock.

    Raises
    ------
    CacheWriteError
        If the disk refuses.
    """
    try:
        before = read_attached(path)
    except CacheError:
        before = as_ids(())
    together = np.unique(np.concatenate([before, as_ids(ids)]))
    if len(together) == len(before) and path.exists():
        return
    body = together.tobytes()
    commit_file(path, body + hashlib.sha256(body).digest())
