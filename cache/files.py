"""Which path has which content: an SQLite index that can be deleted at any time, and the table of rejects."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import xxhash

from cache.durable import CLOCK_NS, write_error
from cache.errors import CacheBusy, CacheError, CacheWriteError
from cache.folder import make_root
from cache.ids import NO_ID, Ids, id_array

RACY_NS = CLOCK_NS
_BATCH = 5_000
_SQL_VARIABLES = 900
_BUSY_SECONDS = 60.0
_HASH_PART = 16
_THREADS = min(8, (os.cpu_count() or 1) + 1)
# SQLITE_ERROR: tables or fields that are not ours, as an older version may have left them.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
_REJECTS = "SELECT path, content_id, reason FROM rejects ORDER BY path"
_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    sha256 BLOB NOT NULL, seal INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rejects (
    path BLOB PRIMARY KEY, content_id BLOB NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
"""

_Stamp = tuple[int, int, int]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Rejected:
    """A photo that could not become a vector: where it lies, what it held then, and why."""

    path: Path
    content_id: bytes
    reason: str


@dataclass(frozen=True)
class _Hashed:
    """Outcome of hashing one file: an id and the stamp it belongs to, or a problem."""

    path: bytes
    content_id: bytes = NO_ID
    stamp: _Stamp = (0, 0, 0)
    settled: bool = False
    problem: str = ""


class FileIndex:
    """Content ids of files, hashed only when size, mtime or ctime has changed.

    A file changed within the clock's granularity of its hashing could keep its times, so a fresh file's entry is not
    kept: the file is hashed again the next time. No connection stays open between calls, so the index may cross a fork.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / "files.sqlite"

    def ids(self, paths: Sequence[Path | str], rehash: bool = False) -> tuple[Ids, dict[int, str]]:
        """Content ids of files and what was wrong with some of them.

        Parameters
        ----------
        paths
            Files; a relative path counts from the current folder.
        rehash : bool
            Distrust the index and read every file; their rejects are forgotten, so they are tried again.

        Returns
        -------
        ids : S32 (n,)
            All zero where there is a problem.
        problems : {position: reason}
        """
        found: list[bytes] = []
        problems: dict[int, str] = {}
        for start in range(0, len(paths), _BATCH):
            part, wrong = self._batch(_names(paths[start : start + _BATCH]), rehash)
            found += part
            problems.update({start + position: reason for position, reason in wrong.items()})
        return id_array(found), problems

    def _batch(self, names: list[bytes], rehash: bool) -> tuple[list[bytes], dict[int, str]]:
        known = {} if rehash else self._lookup(names)
        ids = [NO_ID] * len(names)
        problems: dict[int, str] = {}
        unknown: dict[bytes, list[int]] = {}
        for position, name in enumerate(names):
            try:
                status = os.stat(name)  # noqa: PTH116
            except (OSError, ValueError) as error:
                problems[position] = _reason(error)
                continue
            entry = known.get(name)
            if entry is not None and entry[0] == _stamp(status):
                ids[position] = entry[1]
            else:
                unknown.setdefault(name, []).append(position)
        hashed = _hash_files(list(unknown))
        for result in hashed:
            for position in unknown[result.path]:
                ids[position] = result.content_id
                if result.problem:
                    problems[position] = result.problem
        self._remember(hashed, rehash)
        return ids, problems

    def reject(self, path: Path | str, content_id: bytes, reason: str) -> None:
        """Remember that a photo with this content could not become a vector."""
        row = (_names([path])[0], content_id.ljust(32, b"\0"), reason)
        self._write(lambda base: base.execute("INSERT OR REPLACE INTO rejects VALUES (?, ?, ?)", row).rowcount)

    def rejects(self) -> list[Rejected]:
        """Rejected photos by path."""
        rows = self._read(lambda base: base.execute(_REJECTS).fetchall())
        return [Rejected(Path(os.fsdecode(path)), content, reason) for path, content, reason in rows]

    def rejected(self, ids: Ids) -> dict[int, str]:
        """Positions in `ids` whose content was rejected before, with the reason."""
        reasons = {content: reason for _, content, reason in self._read(lambda base: base.execute(_REJECTS).fetchall())}
        if not reasons:
            return {}
        texts = [ids[position].ljust(32, b"\0") for position in range(len(ids))]
        return {position: reasons[text] for position, text in enumerate(texts) if text != NO_ID and text in reasons}

    def forget_rejects(self) -> int:
        """Empty the table of rejects, so that all are tried again; returns how many there were."""
        return self._write(lambda base: base.execute("DELETE FROM rejects").rowcount)

    def _lookup(self, names: list[bytes]) -> dict[bytes, tuple[_Stamp, bytes]]:
        def fetch(base: sqlite3.Connection) -> dict[bytes, tuple[_Stamp, bytes]]:
            known: dict[bytes, tuple[_Stamp, bytes]] = {}
            for start in range(0, len(names), _SQL_VARIABLES):
                part = names[start : start + _SQL_VARIABLES]
                marks = ",".join("?" * len(part))
                query = f"SELECT path, size, mtime_ns, ctime_ns, sha256, seal FROM files WHERE path IN ({marks})"
                for path, size, mtime, ctime, content, seal in base.execute(query, part):
                    if seal == xxhash.xxh3_64_intdigest(path + content) >> 1:
                        known[path] = ((size, mtime, ctime), content)
            return known

        try:
            return self._read(fetch)
        except CacheWriteError:  # an index that cannot even be opened knows nothing
            return {}

    def _remember(self, hashed: list[_Hashed], rehash: bool) -> None:
        good = [item for item in hashed if not item.problem]
        if not good:
            return
        rows = [(item.path, *item.stamp, item.content_id, _seal(item.path, item.content_id)) for item in good]
        keep = [row for row, item in zip(rows, good, strict=True) if item.settled]
        drop = [(item.path,) for item in good if not item.settled]
        changed = [(item.path, b"" if rehash else item.content_id) for item in good]

        def store(base: sqlite3.Connection) -> None:
            base.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", keep)
            base.executemany("DELETE FROM files WHERE path = ?", drop)
            base.executemany("DELETE FROM rejects WHERE path = ? AND content_id <> ?", changed)

        # The index only saves time: photos can be named even where nothing can be written.
        with contextlib.suppress(CacheWriteError):
            self._write(store)

    def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        if not self.path.exists():
            with contextlib.closing(sqlite3.connect(":memory:")) as base:
                base.executescript(_TABLES)
                return work(base)
        return self._run(work, writing=False)

    def _write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        make_root(self.path.parent)
        return self._run(work, writing=True)

    def _run(self, work: Callable[[sqlite3.Connection], _T], writing: bool) -> _T:
        """Do `work` on a connection of its own; an index that is damaged is started again."""
        try:
            return self._attempt(work, writing)
        except sqlite3.Error as error:
            if _code(error) not in _DAMAGED:
                raise self._as_cache_error(error) from error
        try:
            self._start_again()
            return self._attempt(work, writing=True)
        except sqlite3.Error as error:
            raise self._as_cache_error(error) from error

    def _attempt(self, work: Callable[[sqlite3.Connection], _T], writing: bool) -> _T:
        with contextlib.closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)) as base:
            base.execute("PRAGMA synchronous = NORMAL")
            if writing:
                base.executescript(_TABLES)
                base.execute("BEGIN IMMEDIATE")
            result = work(base)
            if writing:
                base.execute("COMMIT")
            return result

    def _start_again(self) -> None:
        # The journal goes first: left beside a new index it would be played back into it.
        try:
            for ending in ("-journal", "-wal", "-shm", ""):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        except OSError as error:
            raise write_error(self.path, error) from error

    def _as_cache_error(self, error: sqlite3.Error) -> CacheError:
        if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return CacheBusy(f"{self.path} has been in use by another process for {_BUSY_SECONDS:.0f} s; try again")
        return CacheWriteError(f"cannot use {self.path}: {error}; check the disk, or delete this file: it is rebuilt")


def _names(paths: Sequence[Path | str]) -> list[bytes]:
    """Absolute names as bytes; `..` stays, because behind a symlink it is not what its text says."""
    here = os.fsencode(Path.cwd()) + b"/"
    given = [os.fsencode(path) for path in paths]
    return [name if name.startswith(b"/") else here + name for name in given]


def _hash_files(names: list[bytes]) -> list[_Hashed]:
    if len(names) < 2:
        return [_hash_file(name) for name in names]
    parts = [names[start : start + _HASH_PART] for start in range(0, len(names), _HASH_PART)]
    with ThreadPoolExecutor(_THREADS) as pool:
        done = pool.map(lambda part: [_hash_file(name) for name in part], parts)
        return [result for part in done for result in part]


def _hash_file(name: bytes) -> _Hashed:
    """Hash one file; a file that changes meanwhile is a problem, not a pairing."""
    started = time.time_ns()
    try:
        # Opening a pipe would wait for its other end for ever.
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        return _Hashed(name, problem=_reason(error))
    try:
        with open(descriptor, "rb", buffering=0) as stream:  # noqa: PTH123
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return _Hashed(name, problem="not a regular file")
            digest = hashlib.file_digest(stream, "sha256").digest()
            if _stamp(before) != _stamp(os.fstat(descriptor)):
                return _Hashed(name, problem="changed while it was read")
    except OSError as error:
        return _Hashed(name, problem=_reason(error))
    settled = before.st_ctime_ns + RACY_NS < started and abs(started - before.st_mtime_ns) > RACY_NS
    return _Hashed(name, digest, _stamp(before), settled)


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _seal(path: bytes, content_id: bytes) -> int:
    """Checksum of a row, so that a flipped bit in the index reads as an unknown file."""
    return int(xxhash.xxh3_64_intdigest(path + content_id)) >> 1


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
