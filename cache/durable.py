"""Files that are either whole under their final name or not there, and a lock that dies with its process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

from cache.errors import CacheBusy, CacheWriteError

CLOCK_NS = 2_000_000_000  # the coarsest clock of a file system in use (FAT: two seconds)
STRAY_PREFIX = ".tmp-"
_POLL_SECONDS = 0.05
_OPEN_LOCKS: weakref.WeakSet[FolderLock]


def write_error(path: Path, error: OSError, needed: int = 0) -> CacheWriteError:
    """Turn an `OSError` of a write into an error that says where, how much was needed and what to do."""
    advice = {
        errno.ENOSPC: "free some space, or choose another folder with --cache",
        errno.EDQUOT: "free some of your quota, or choose another folder with --cache",
        errno.EFBIG: "raise the file-size limit of this process (ulimit -f)",
        errno.EROFS: "choose a folder that can be written with --cache",
        errno.EACCES: "choose a folder that can be written with --cache",
        errno.EPERM: "choose a folder that can be written with --cache",
    }.get(error.errno or 0, "check the disk, then run the same command again")
    wanted = f" ({needed:,} bytes needed)" if needed else ""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return CacheWriteError(f"cannot write {path}{wanted}: {reason}; {advice}. Rows committed before are safe.")


def fsync_folder(folder: Path) -> None:
    """Make a rename or a new name in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create `folder` and its missing parents, each durable in its own parent.

    Raises
    ------
    CacheWriteError
        If it cannot be created.
    """
    if folder.is_dir():
        return
    try:
        if not folder.parent.is_dir():
            make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        fsync_folder(folder.parent)
    except OSError as error:
        raise write_error(folder, error) from error


def commit_file(path: Path, data: bytes | memoryview) -> None:
    """Write `data` under a temporary name, fsync, rename to `path`, fsync the folder.

    Raises
    ------
    CacheWriteError
        If the disk refuses; the temporary file is removed.
    """
    with temporary(path, len(data)) as stray:
        descriptor = os.open(stray, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def temporary(path: Path, needed: int = 0) -> Iterator[Path]:
    """Give a sibling name to write to; on success it becomes `path`, on any failure it is removed.

    The body must have fsynced what it wrote.
    """
    stray = path.with_name(f"{STRAY_PREFIX}{os.getpid()}-{path.name}"[:255])
    try:
        yield stray
        os.rename(stray, path)  # noqa: PTH104 - the call that the order of system calls is proved on
    except OSError as error:
        _discard(stray)
        raise write_error(path, error, needed) from error
    except BaseException:
        _discard(stray)
        raise
    try:
        fsync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error, needed) from error


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files, durably; one that is already gone is no error.

    Raises
    ------
    CacheWriteError
        If the disk refuses.
    """
    folders = set()
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise write_error(path, error) from error
        folders.add(path.parent)
    for folder in folders:
        fsync_folder(folder)


def strays(folder: Path) -> list[Path]:
    """Temporary files in `folder`: left by killed processes, or in use by a live writer."""
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if entry.name.startswith(STRAY_PREFIX))


class FolderLock:
    """An exclusive `flock` on `<folder>/lock`; the kernel drops it when the process ends, however it ends.

    A forked child gives up its copy at once: a worker that outlives its killed parent must not hold the key.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._descriptor: int | None = None

    def acquire(self, wait: float | None) -> None:
        """Take the lock; `wait` in seconds, 0 to give up at once, None to wait as long as it takes.

        Raises
        ------
        CacheBusy
            If another process holds it for longer than `wait`.
        CacheWriteError
            If the lock file cannot be made.
        """
        deadline = None if wait is None else time.monotonic() + wait
        while True:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise write_error(self.path, error) from error
            if self._try(descriptor):
                break
            if deadline is not None and time.monotonic() >= deadline:
                raise CacheBusy(self._busy_text())
            time.sleep(_POLL_SECONDS)
        self._descriptor = descriptor
        _OPEN_LOCKS.add(self)
        with contextlib.suppress(OSError):  # who holds it is only information for the other's message
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        _OPEN_LOCKS.discard(self)

    def _try(self, descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A removed key takes its lock file along: a lock on a file without a name guards nothing.
            if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):  # noqa: PTH116
                return True
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError as error:
            os.close(descriptor)
            raise write_error(self.path, error) from error
        os.close(descriptor)
        return False

    def _busy_text(self) -> str:
        try:
            holder = self.path.read_text(encoding="ascii").strip() or "unknown"
        except OSError:
            holder = "unknown"
        return (
            f"another process (id {holder}) is writing under this key in {self.path.parent}; "
            "let it finish, or ask to wait for it"
        )


def _drop_locks_in_child() -> None:
    for lock in list(_OPEN_LOCKS):
        lock.release()


_OPEN_LOCKS = weakref.WeakSet()
os.register_at_fork(after_in_child=_drop_locks_in_child)
