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

from cache.errors import CacheBusy, CacheError, CacheWriteError
from cache.regular import entries, is_regular, read_whole

CLOCK_NS = 2_000_000_000  # the coarsest clock of a file system in use (FAT: two seconds)
TEMPORARY_PREFIX = ".tmp-"
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

    Args:
        folder: What shall be there.

    Raises:
        CacheWriteError: It cannot be created.
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

    Args:
        path: Final name; what had it before is replaced.
        data: The whole content.

    Raises:
        CacheWriteError: The disk refuses; the temporary file is removed.
    """
    with temporary(path, len(data)) as unfinished:
        descriptor = _create(unfinished)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _create(path: Path) -> int:
    """Make a file that was not there; a leftover of that name, which could be a pipe that waits, goes first."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except FileExistsError:
        path.unlink()
        return os.open(path, flags, 0o666)


@contextlib.contextmanager
def temporary(path: Path, needed: int = 0) -> Iterator[Path]:
    """Give a sibling name to write to; on success it becomes `path`, on any failure it is removed.

    Args:
        path: Final name.
        needed: Bytes that will be written, for the message when the disk is full.

    Yields:
        The temporary name. The block must have fsynced what it wrote there.

    Raises:
        CacheWriteError: The disk refuses.
    """
    unfinished = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}"[:255])
    try:
        yield unfinished
        os.rename(unfinished, path)  # noqa: PTH104 - the call that the order of system calls is proved on
    except OSError as error:
        _discard(unfinished)
        raise write_error(path, error, needed) from error
    except BaseException:
        _discard(unfinished)
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

    Args:
        paths: What is removed.

    Raises:
        CacheWriteError: The disk refuses.
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


def temporary_files(folder: Path) -> list[Path]:
    """Temporary files in `folder`: left by killed processes, or in use by a live writer."""
    named = (entry for entry in entries(folder) if entry.name.startswith(TEMPORARY_PREFIX))
    return sorted(entry for entry in named if is_regular(entry))


def is_abandoned(path: Path) -> bool:
    """True for a temporary file whose process, by the id in its name, does not run on this machine.

    Asked without a lock: a process of another machine that shares the folder looks dead from here. So this is good
    for saying so; to remove the file needs the lock of its folder, which tells for certain.
    """
    owner = path.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
    if not owner.isdigit() or len(owner) > 9 or int(owner) == 0:
        return True
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


class FolderLock:
    """An exclusive `flock` on `<folder>/lock`; the kernel drops it when the process ends, however it ends.

    A forked child gives up its copy at once: a worker that outlives its killed parent must not hold the key.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._descriptor: int | None = None

    def acquire(self, wait: float | None) -> None:
        """Take the lock.

        Args:
            wait: Seconds; 0 to give up at once, None to wait as long as it takes.

        Raises:
            CacheBusy: Another process holds it for longer than that.
            CacheWriteError: The lock file cannot be made.
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
            holder = read_whole(self.path, 64).decode("ascii").strip() or "unknown"
        except (OSError, CacheError, ValueError):
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
