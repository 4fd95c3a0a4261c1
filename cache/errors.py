"""Errors of the cache; every text says what was found, what was expected and what to do.

    CacheError(RuntimeError)
    ├── CacheLayoutError   a folder written by another layout version of this cache
    ├── CacheBusy          another process writes under the same key
    ├── KeyMismatch        vectors made with another key than the one asked for
    ├── MissingRows        rows asked for that are not in the cache
    ├── ShardDamaged       bytes on disk that are not the bytes that were written
    └── CacheWriteError    the disk refused a write (full, read-only, gone)

    try:
        features = reader.read(ids, columns)
    except MissingRows as error:
        print(error)
"""

from __future__ import annotations


class CacheError(RuntimeError):
    """Root of everything this package raises on purpose."""


class CacheLayoutError(CacheError):
    """A folder was written by another layout version of this cache."""


class CacheBusy(CacheError):
    """Another process holds the lock of the key, and the caller did not want to wait longer."""


class KeyMismatch(CacheError):
    """Vectors were made with another key; the text names each field and both values."""


class MissingRows(CacheError):
    """Rows were asked for that the cache does not hold; `count` says how many."""

    def __init__(self, message: str, count: int = 0) -> None:
        super().__init__(message)
        self.count = count


class ShardDamaged(CacheError):
    """A shard's bytes are not those that were written; nothing of it was returned."""


class CacheWriteError(CacheError):
    """The disk refused a write; rows committed before are safe, nothing half-written is left."""
