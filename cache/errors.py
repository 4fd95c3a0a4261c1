"""Errors of the cache; every text says what was found, what was expected and what to do.

CacheError(RuntimeError)
├── CacheLayoutError   a folder written by another layout version of this cache
├── CacheBusy          another process writes under the same key
├── MissingRows        rows asked for that are not in the cache
├── ShardDamaged       bytes on disk that are not the bytes that were written
├── NotAFile           a folder, pipe, socket or device where a file of the cache belongs
├── CacheReadError     the disk refused a read (no permission, I/O error): nothing is known of the content
└── CacheWriteError    the disk refused a write (full, read-only, gone)

try:
    features = reader.read(ids, columns)
except MissingRows as error:
    print(error)
"""

from __future__ import annotations


class CacheError(RuntimeError):
    """Root of everything this package raises on purpose; its text can be written anywhere, whatever it quotes."""

    def __str__(self) -> str:
        return super().__str__().encode("utf-8", "backslashreplace").decode("utf-8")


class CacheLayoutError(CacheError):
    """A folder was written by another layout version of this cache."""


class CacheBusy(CacheError):
    """Another process holds the lock of the key, and the caller did not want to wait longer."""


class MissingRows(CacheError):
    """Rows were asked for that the cache does not hold.

    Attributes:
        count: How many of them.
    """

    def __init__(self, message: str, count: int = 0) -> None:
        super().__init__(message)
        self.count = count


class ShardDamaged(CacheError):
    """A shard's bytes are not those that were written; nothing of it was returned.

    Attributes:
        what: The finding alone, without the advice.
        foreign: Whether the shard is whole and of another key.
    """

    def __init__(self, message: str, what: str = "", foreign: bool = False) -> None:
        super().__init__(message)
        self.what = what or message
        self.foreign = foreign


class NotAFile(CacheError):
    """Something that holds no content lies where a file of the cache belongs; it was not opened."""


class CacheReadError(CacheError):
    """The disk or its permissions refused a read: nothing is known of the content, so nothing may be dropped for it.

    Attributes:
        what: The finding alone, without the advice.
    """

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.what = what or message


class CacheWriteError(CacheError):
    """The disk refused a write; rows committed before are safe, nothing half-written is left."""
