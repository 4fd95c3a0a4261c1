"""Which path has which content: an SQLite index that can be deleted at any time, and the table of rejects."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import xxhash

from cache.durable import CLOCK_NS
from cache.errors import CacheReadError, CacheWriteError, NotAFile
from cache.folder import make_root
from cache.ids import NO_ID, Ids, id_array
from cache.index import INDEX_NAME, Index, IndexDamaged
from cache.regular import open_regular

RACY_NS = CLOCK_NS
_BATCH = 5_000
_SQL_VARIABLES = 900
_LONGEST_REASON = 2_000
_HASH_PART = 16
_THREADS = min(8, (os.cpu_count() or 1) + 1)
_REJECTS = "SELECT path, scope, content_id, reason FROM rejects ORDER BY path, scope"

_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Rejected:
    """A photo that could not become a vector.

    Attributes:
        path: Where it lies.
        content_id: What it held then, 32 raw bytes.
        reason: Why.
        key: Digest of the key whose network refused it; None if the content cannot be decoded, whatever the key.
    """

    path: Path
    content_id: bytes
    reason: str
    key: str | None = None


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
        self.path = root / INDEX_NAME
        self._index = Index(self.path)

    def ids(self, paths: Sequence[Path | str], rehash: bool = False) -> tuple[Ids, dict[int, str]]:
        """Content ids of files and what was wrong with some of them.

        Args:
            paths: Files; a relative path counts from the current folder.
            rehash: Distrust the index and read every file; their rejects are forgotten, so they are tried again.

        Returns:
            The ids, S32 (n,), all zero where there is a problem; and the problems, {position: reason}.

        Raises:
            CacheBusy: Another process has locked the index for longer than `index.BUSY_SECONDS`.
        """
        ids: list[bytes] = []
        problems: dict[int, str] = {}
        for start in range(0, len(paths), _BATCH):
            part, wrong = self._batch(_names(paths[start : start + _BATCH]), rehash)
            ids += part
            problems.update({start + position: reason for position, reason in wrong.items()})
        return id_array(ids), problems

    def _batch(self, names: list[bytes], rehash: bool) -> tuple[list[bytes], dict[int, str]]:
        indexed = {} if rehash else self._lookup(names)
        ids = [NO_ID] * len(names)
        problems: dict[int, str] = {}
        unknown: dict[bytes, list[int]] = {}
        for position, name in enumerate(names):
            try:
                status = os.stat(name)  # noqa: PTH116
            except (OSError, ValueError) as error:
                problems[position] = _reason(error)
                continue
            entry = indexed.get(name)
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

    def known(self, names: Sequence[str], stamps: Sequence[_Stamp]) -> Ids:
        """Content ids of photos that are no files, by what they are called and by their versions.

        Args:
            names: Anything that no absolute path is, such as URLs.
            stamps: Three numbers per name, which another version does not share.

        Returns:
            S32 (n,), all zero where the index does not know this version.
        """
        ids: list[bytes] = []
        for start in range(0, len(names), _BATCH):
            part = [os.fsencode(name) for name in names[start : start + _BATCH]]
            indexed, unknown = self._lookup(part), ((), NO_ID)
            found = zip(part, stamps[start : start + _BATCH], strict=True)
            ids += [entry[1] if (entry := indexed.get(name, unknown))[0] == stamp else NO_ID for name, stamp in found]
        return id_array(ids)

    def remember(self, names: Sequence[str], stamps: Sequence[_Stamp], ids: Ids) -> None:
        """Note the content ids, S32 (n,), of photos that are no files; as `known` asks for them."""
        read = zip(names, stamps, ids.tolist(), strict=True)
        hashed = [_Hashed(os.fsencode(name), content.ljust(32, b"\0"), stamp, True) for name, stamp, content in read]
        self._remember(hashed, rehash=False)

    def indexed(self) -> tuple[list[Path], Ids]:
        """Every file whose content is indexed, by its path, and that content: S32 (n,). The file may have gone since.

        Raises:
            CacheBusy: Another process has locked the index.
        """

        def fetch(base: sqlite3.Connection) -> list[tuple[bytes, bytes]]:
            rows = base.execute("SELECT path, sha256, seal FROM files ORDER BY path")
            return [
                (path, content)
                for path, content, seal in rows
                if isinstance(path, bytes)
                and isinstance(content, bytes)
                and seal == _seal(path, content)
                # What is no absolute path is the name of a photo elsewhere.
                and path.startswith(b"/")
            ]

        rows = self._index.read(fetch)
        return [Path(os.fsdecode(path)) for path, _ in rows], id_array(content for _, content in rows)

    def reject(self, path: Path | str, content_id: bytes, reason: str, key: str | None = None) -> None:
        """Remember that a photo with this content could not become a vector.

        Args:
            path: Where it lies.
            content_id: What it holds, 32 raw bytes.
            reason: Why.
            key: Digest of the key whose network refused it; None if no network can have it.

        Raises:
            CacheBusy: Another process has locked the index.
            CacheWriteError: The disk refuses.
        """
        row = (_names([path])[0], key or "", content_id.ljust(32, b"\0"), reason[:_LONGEST_REASON])
        self._write(lambda base: base.execute("INSERT OR REPLACE INTO rejects VALUES (?, ?, ?, ?)", row))

    def rejects(self) -> list[Rejected]:
        """Rejected photos by path."""
        return self._index.read(_read_rejects)

    def rejected(self, ids: Ids, key: str | None = None) -> dict[int, str]:
        """Which contents were rejected before.

        Args:
            ids: S32 (n,).
            key: Digest of a key, for those that its network refused as well; such a reject is not for ever, the next
                `extract` tries it again.

        Returns:
            {position in `ids`: reason}.
        """
        rejects = [item for item in self.rejects() if item.key in (None, key)]
        if not rejects:
            return {}
        reasons = {item.content_id: item.reason for item in sorted(rejects, key=lambda item: item.key is None)}
        texts = [ids[position].ljust(32, b"\0") for position in range(len(ids))]
        return {position: reasons[text] for position, text in enumerate(texts) if text != NO_ID and text in reasons}

    def retry(self, ids: Ids, key: str) -> None:
        """Forget which of these contents the network of a key refused: they are about to be tried again.

        Args:
            ids: S32 (n,).
            key: Digest of the key.

        Raises:
            CacheBusy: Another process has locked the index.
            CacheWriteError: The disk refuses.
        """
        again = {bytes(item).ljust(32, b"\0") for item in ids}
        rows = [(key, item.content_id) for item in self.rejects() if item.key == key and item.content_id in again]
        if rows:
            self._write(lambda base: base.executemany("DELETE FROM rejects WHERE scope = ? AND content_id = ?", rows))

    def _lookup(self, names: list[bytes]) -> dict[bytes, tuple[_Stamp, bytes]]:
        def fetch(base: sqlite3.Connection) -> dict[bytes, tuple[_Stamp, bytes]]:
            indexed: dict[bytes, tuple[_Stamp, bytes]] = {}
            for start in range(0, len(names), _SQL_VARIABLES):
                part = names[start : start + _SQL_VARIABLES]
                marks = ",".join("?" * len(part))
                query = f"SELECT path, size, mtime_ns, ctime_ns, sha256, seal FROM files WHERE path IN ({marks})"
                for path, size, mtime, ctime, content, seal in base.execute(query, part):
                    whole = isinstance(path, bytes) and isinstance(content, bytes) and len(content) == 32
                    if whole and seal == _seal(path, content):
                        indexed[path] = ((size, mtime, ctime), content)
            return indexed

        try:
            return self._index.read(fetch)
        except (CacheReadError, CacheWriteError):  # an index that cannot even be opened knows nothing
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
        with contextlib.suppress(CacheReadError, CacheWriteError):
            self._write(store)

    def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        make_root(self.path.parent)
        self._index.write(work)


def _read_rejects(base: sqlite3.Connection) -> list[Rejected]:
    rejects = []
    for path, scope, content, reason in base.execute(_REJECTS):
        if not (isinstance(path, bytes) and isinstance(content, bytes) and isinstance(scope, str)):
            raise IndexDamaged("a reject in it is not of bytes and text")
        rejects.append(Rejected(Path(os.fsdecode(path)), content, str(reason), scope or None))
    return rejects


def _names(paths: Sequence[Path | str]) -> list[bytes]:
    """Absolute names as bytes, and URLs; `..` stays, because behind a symlink it is not what its text says."""
    here = os.fsencode(Path.cwd()) + b"/"
    given = [os.fsencode(path) for path in paths]
    return [name if name.startswith(b"/") or b"://" in name else here + name for name in given]


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
        descriptor = open_regular(name)
    except NotAFile:
        return _Hashed(name, problem="not a regular file")
    except (OSError, ValueError) as error:
        return _Hashed(name, problem=_reason(error))
    try:
        with open(descriptor, "rb", buffering=0) as stream:  # noqa: PTH123
            before = os.fstat(descriptor)
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
