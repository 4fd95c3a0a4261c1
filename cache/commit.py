"""Rows of one column to one shard under its final name; any number of processes may do so at once, on any host.

A shard's name carries the SHA-256 of its bytes, so a name stands for the same bytes for ever: a commit that finds its
name taken was done before, by this process or by another that was given the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.durable import commit_new
from cache.errors import CacheError
from cache.folder import KeyFolder
from cache.header import DTYPES
from cache.ids import IdIndex, Ids, as_ids, ids_to_hex
from cache.key import BaseKey, Column
from cache.shard import ShardSource, build_shard


@dataclass(frozen=True)
class Committer:
    """Commits rows under a key whose folder a writer has prepared, in any process of any host that reaches the folder.

    It takes no lock and touches neither key.json nor the index, so it asks nothing of the file system but links,
    renames and fsync. `Writer.committer` makes one; what is committed after that writer is gone does no harm.

    Attributes:
        root: The cache.
        base: The key.
        notes: What shards carry of key.json.
        dtype: Storage type of features.
    """

    root: Path
    base: BaseKey
    notes: Mapping[str, Any]
    dtype: str

    def commit(self, sequence: int, ids: npt.ArrayLike, features: Mapping[Column, npt.ArrayLike]) -> tuple[str, ...]:
        """Commit one shard per column; the same rows under the same number are the same shards, and stored once.

        Args:
            sequence: Number of the shards.
            ids: Content ids, S32 (n,).
            features: One array per column, float (n, d).

        Returns:
            Names of the shards; none for no rows.

        Raises:
            CacheError: A shape is wrong, or a value is not finite (or not in the storage type).
            CacheWriteError: The disk refuses, or the key's folder is gone.
        """
        wanted = as_ids(ids)
        first = ~IdIndex(wanted).duplicates()
        stored = {column: as_stored(column, wanted, array, self.dtype)[first] for column, array in features.items()}
        folder = KeyFolder.of(self.root, self.base.digest)
        return tuple(
            commit_rows(folder, ShardSource(self.base, column, self.notes), sequence, wanted[first], array)
            for column, array in stored.items()
            if len(array)
        )


def commit_rows(folder: KeyFolder, source: ShardSource, sequence: int, ids: Ids, features: npt.NDArray[Any]) -> str:
    """Make a shard and commit it.

    Args:
        folder: Of the key; it has its key.json.
        source: Key, column and notes.
        sequence: Its number in the folder; other shards may have it too.
        ids: Content ids, S32 (n,), n at least 1.
        features: float32 or float16 (n, d), as `as_stored` gives them.

    Returns:
        The shard's name.

    Raises:
        CacheWriteError: The disk refuses.
    """
    name, data = build_shard(source, sequence, ids, features)
    commit_new(folder.path / name, data)
    return name


def as_stored(column: Column, ids: Ids, features: npt.ArrayLike, dtype: str) -> npt.NDArray[Any]:
    """Features in their storage type.

    Args:
        column: Block and view they are of.
        ids: Content ids, S32 (n,).
        features: float (n, d).
        dtype: "float32" or "float16".

    Returns:
        (n, d) of that type.

    Raises:
        CacheError: The shape is wrong, or a value is not finite, or not in that type.
    """
    given = np.asarray(features)
    if given.shape != (len(ids), column.block.dim):
        raise CacheError(f"{column.name} has shape {given.shape}; expected ({len(ids)}, {column.block.dim})")
    with np.errstate(over="ignore"):
        array = given.astype(DTYPES[dtype])
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        reason = "not a number" if not np.isfinite(given[row]).all() else f"too large for {dtype}"
        raise CacheError(
            f"{column.name} of photo {ids_to_hex(ids[row : row + 1])[0]} holds a value that is {reason}; "
            "such a row is never stored. Check the network's precision, or store float32."
        )
    return array
