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

from cache import owner
from cache.errors import CacheBusy, CacheError, CacheWriteError
from cache.regular import entries, is_regular, read_whole

CLOCK_NS = 2_000_000_000  # the coarsest clock of a file system in use (FAT: two seconds)
TEMPORARY_PREFIX = ".tmp-"
_POLL_SECONDS = 0.05
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
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
        **dict.fromkeys(_NO_LOCKS, "choose a folder on a file system that has locks (docs/CACHE.md) with --cache"),
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
        _write(unfinished, data)


def commit_new(path: Path, data: bytes | memoryview) -> bool:
    """Write `data` under a temporary name, fsync, link it to `path`, fsync the folder; a taken name is left alone.

    Renaming would replace what has the name already, and readers on other hosts would lose the file under their hands.

    Args:
        path: Final name.
        data: The whole content.

    Returns:
        Whether the name was free, and is that of `data` now.

    Raises:
        CacheWriteError: The disk refuses; the temporary file is removed.
    """
    unfinished = _unfinished(path)
    try:
        _write(unfinished, data)
        is_new = _link(unfinished, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error, len(data)) from error
    finally:
        _discard(unfinished)
    return is_new


def _link(unfinished: Path, path: Path) -> bool:
    try:
        os.link(unfinished, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links. Two that come at once here have the same name, so the same bytes.
        if os.path.lexists(path):
            return False
        os.rename(unfinished, path)  # noqa: PTH104
    return True


def _write(path: Path, data: bytes | memoryview) -> None:
    """Make a file that was not there, whole and on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unfinished(path: Path) -> Path:
    return path.with_name(owner.owned_name(TEMPORARY_PREFIX, path.name))


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
    unfinished = _unfinished(path)
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


def abandoned_files(folder: Path) -> list[Path]:
    """Temporary files in `folder` whose processes are gone; see `cache.owner`. Asked and true without any lock."""
    return [path for path in temporary_files(folder) if owner.is_abandoned(path, TEMPORARY_PREFIX)]


class FolderLock:
    """A `flock` on `<folder>/lock`; the kernel drops it when the process ends, however it ends.

    Writers of a key share it; what takes files away from the key, or moves them, has it alone. A forked child gives up
    its copy at once: a worker that outlives its killed parent must not hold the key.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._descriptor: int | None = None

    def acquire(self, wait: float | None, shared: bool = False) -> None:
        """Take the lock.

        Args:
            wait: Seconds; 0 to give up at once, None to wait as long as it takes.
            shared: Beside others that share it.

        Raises:
            CacheBusy: Another process holds it, and one of the two not shared, for longer than that.
            CacheWriteError: The lock file cannot be made.
        """
        deadline = None if wait is None else time.monotonic() + wait
        while True:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise write_error(self.path, error) from error
            if self._try(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
                break
            if deadline is not None and time.monotonic() >= deadline:
                raise CacheBusy(self._busy_text(shared))
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

    def _try(self, descriptor: int, kind: int) -> bool:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
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

    def _busy_text(self, shared: bool) -> str:
        try:
            holder = read_whole(self.path, 64).decode("ascii").strip() or "unknown"
        except (OSError, CacheError, ValueError):
            holder = "unknown"
        doing = "compacting, pruning or repairing" if shared else "writing under this key in"
        return f"another process (id {holder}) is {doing} {self.path.parent}; let it finish, or ask to wait for it"


def _drop_locks_in_child() -> None:
    for lock in list(_OPEN_LOCKS):
        lock.release()


_OPEN_LOCKS = weakref.WeakSet()
os.register_at_fork(after_in_child=_drop_locks_in_child)
