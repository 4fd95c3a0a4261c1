"""The SQLite file of the index: opened only when it holds our tables and nothing else, with a limit on every wait.

It holds nothing that cannot be had again, so a file that is damaged or not ours is started again. What is told apart:
a file that another process has locked (after `BUSY_SECONDS`), a query that does not end (after `QUERY_SECONDS`), and a
disk that refuses.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from cache.durable import FolderLock, write_error
from cache.errors import CacheBusy, CacheError, CacheWriteError, NotAFile
from cache.quarantine import quarantine
from cache.regular import opened

INDEX_NAME = "files.sqlite"
BUSY_SECONDS = 5.0
QUERY_SECONDS = 60.0
SIDE_FILES = ("-journal", "-wal", "-shm", "")  # the journal first: beside a new index it would be played back into it
_STEPS = 10_000  # of SQLite's machine, between two looks at the clock
_LONGEST_CELL = 1024 * 1024
# SQLITE_ERROR: tables or fields that are not ours.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG)
_FILES = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    sha256 BLOB NOT NULL, seal INTEGER NOT NULL) WITHOUT ROWID;
"""
_TABLES = f"""{_FILES}
CREATE TABLE IF NOT EXISTS rejects (
    path BLOB NOT NULL, scope TEXT NOT NULL, content_id BLOB NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (path, scope)) WITHOUT ROWID;
"""
# Before rejects had a scope, those that a network had caused stood among those of the content.
_TABLES_BEFORE = f"""{_FILES}
CREATE TABLE IF NOT EXISTS rejects (
    path BLOB PRIMARY KEY, content_id BLOB NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
"""
_REJECTS_BEFORE = """
SELECT path, '' AS scope, content_id, reason FROM rejects WHERE reason <> 'the network''s output for it is not finite'
"""
_READ_BEFORE = f"""
ALTER TABLE rejects RENAME TO rejects_before;
{_TABLES}
INSERT INTO rejects {_REJECTS_BEFORE.replace("FROM rejects", "FROM rejects_before")};
DROP TABLE rejects_before;
"""

_T = TypeVar("_T")
_Schema = frozenset[tuple[str, str, str]]


class IndexDamaged(CacheError):
    """An index that was read and is not what this package makes."""


class Index:
    """One SQLite file; a connection is opened for each piece of work, so it may cross a fork."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do `work` on the index, or on an empty one if there is none.

        Args:
            work: Gets a connection; what it reads may be of any type.

        Returns:
            What `work` returns.

        Raises:
            CacheBusy: Another process has locked the index.
            CacheWriteError: It cannot be used, or a query took too long.
        """
        if not os.path.lexists(self.path):
            with contextlib.closing(sqlite3.connect(":memory:")) as base:
                base.executescript(_TABLES)
                return work(base)
        return self._run(work, writing=False)

    def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do `work` in one transaction; likewise."""
        return self._run(work, writing=True)

    def _run(self, work: Callable[[sqlite3.Connection], _T], writing: bool) -> _T:
        try:
            return self._attempt(work, writing)
        except (IndexDamaged, NotAFile):
            self._start_again()
        try:
            return self._attempt(work, writing=True)
        except (IndexDamaged, NotAFile) as error:
            raise CacheWriteError(f"cannot use {self.path}: {error}; delete this file: it is rebuilt") from error

    def _attempt(self, work: Callable[[sqlite3.Connection], _T], writing: bool) -> _T:
        with _connected(self.path) as base:
            base.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
            is_before = _require_schema(base)
            if writing:
                for statement in (_READ_BEFORE if is_before else _TABLES).split(";"):
                    base.execute(statement)
            elif is_before:
                view = _REJECTS_BEFORE.replace("FROM rejects", "FROM main.rejects")
                base.execute(f"CREATE TEMP VIEW rejects AS {view}")
            elif not _schema(base):
                base.execute("ROLLBACK")
                base.executescript(_TABLES.replace("EXISTS ", "EXISTS temp."))
            result = work(base)
            if base.in_transaction:
                base.execute("COMMIT")
            return result

    def _start_again(self) -> None:
        """Remove the index; whatever lies in its place and is no file goes to quarantine."""
        root = self.path.parent
        lock = FolderLock(root)
        lock.acquire(BUSY_SECONDS)
        try:
            for path in (self.path.with_name(self.path.name + ending) for ending in SIDE_FILES):
                if path.is_file():
                    path.unlink(missing_ok=True)
                elif os.path.lexists(path):
                    quarantine(root, path)
        except OSError as error:
            raise write_error(self.path, error) from error
        finally:
            lock.release()


def check_index(path: Path) -> None:
    """Look through an index; nothing is wrong with one that is not there.

    Args:
        path: The SQLite file.

    Raises:
        IndexDamaged: It was read and is wrong.
        NotAFile: It, or a file that SQLite keeps beside it, is no file.
        CacheReadError: It cannot be read.
        CacheBusy: Another process has locked it.
        CacheWriteError: It cannot be used, or looking through it took too long.
    """
    if not os.path.lexists(path):
        return
    with _connected(path) as base:
        _require_schema(base)
        said = base.execute("PRAGMA quick_check(1)").fetchone()
        if said != ("ok",):
            raise IndexDamaged(f"SQLite finds it damaged ({str(said[0])[:100]})")


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection with every limit set; what SQLite throws becomes an error of this package."""
    for place in (path.with_name(path.name + ending) for ending in SIDE_FILES):
        with contextlib.suppress(FileNotFoundError), opened(place):
            pass
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as base:
            deadline = time.monotonic() + QUERY_SECONDS
            base.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
            base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_CELL)
            for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "synchronous = NORMAL"):
                base.execute(f"PRAGMA {pragma}")
            yield base
    except sqlite3.Error as error:
        raise _as_cache_error(path, error) from error
    except UnicodeDecodeError as error:  # SQLite's message, or a cell, quotes what is no text
        raise IndexDamaged("SQLite finds it damaged (a text in it is not UTF-8)") from error


def _require_schema(base: sqlite3.Connection) -> bool:
    """Refuse any table, view, trigger or index that we do not make; True for the tables from before."""
    schema = _schema(base)
    if schema in (_schema_of(_TABLES), frozenset()):
        return False
    if schema == _schema_of(_TABLES_BEFORE):
        return True
    ours = {(kind, name) for kind, name, _ in _schema_of(_TABLES)}
    odd = sorted(f"{kind} {name}"[:60] for kind, name, _ in schema if (kind, name) not in ours)
    raise IndexDamaged(f"it holds {', '.join(odd[:3]) or 'other fields'}, which this package does not make")


def _schema(base: sqlite3.Connection) -> _Schema:
    rows = base.execute("SELECT type, name, sql FROM sqlite_master LIMIT 100").fetchall()
    return frozenset((str(kind), str(name), str(sql)) for kind, name, sql in rows)


@functools.cache
def _schema_of(tables: str) -> _Schema:
    with contextlib.closing(sqlite3.connect(":memory:")) as base:
        base.executescript(tables)
        return _schema(base)


_ADVICE = {
    sqlite3.SQLITE_FULL: "free some space, or choose another folder with --cache",
    sqlite3.SQLITE_READONLY: "choose a folder that can be written with --cache",
    sqlite3.SQLITE_CANTOPEN: "choose a folder that can be written with --cache",
    sqlite3.SQLITE_IOERR: (
        "check the disk, and the limit on the size of files (ulimit -f), or delete this file: it is rebuilt"
    ),
}


def _as_cache_error(path: Path, error: sqlite3.Error) -> CacheError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return CacheBusy(f"{path} has been in use by another process for {BUSY_SECONDS:g} s; try again")
    if code == sqlite3.SQLITE_INTERRUPT:
        return CacheWriteError(
            f"{path} did not answer within {QUERY_SECONDS:g} s; check the disk, or delete this file: it is rebuilt"
        )
    not_utf8 = code == 0 and isinstance(error, sqlite3.OperationalError)
    # A file that may be written and that SQLite will not write says so of itself, in a damaged header.
    read_only = code == sqlite3.SQLITE_READONLY and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    if code in _DAMAGED or not_utf8 or read_only:
        return IndexDamaged(f"SQLite finds it damaged ({error})")
    return CacheWriteError(f"cannot use {path}: {error}; {_ADVICE.get(code, 'check the disk')}")
