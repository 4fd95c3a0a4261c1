"""Files of the cache are opened for reading here and nowhere else: regular files only, and never with a wait.

A named pipe in a file's place would wait for its other end for ever, and a folder, socket or device holds nothing of
ours. What cannot be read is told apart from what was read and is wrong, because only the latter may be dropped.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.errors import CacheReadError, NotAFile

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_CHUNK = 1024 * 1024


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Give a descriptor to read a regular file; every refusal of the disk in the block becomes a `CacheReadError`.

    A descriptor rather than a file object, which costs as much again as the system call, for every shard there is.

    Args:
        path: The file; a symbolic link is followed.

    Yields:
        The descriptor, closed after the block.

    Raises:
        FileNotFoundError: There is no such file.
        NotAFile: It is a folder, a named pipe, a socket or a device.
        CacheReadError: It is there and cannot be read.
    """
    try:
        descriptor = open_regular(path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        if path.is_symlink():
            raise CacheReadError(f"cannot read {path}: it is a link to a file that is not there") from None
        raise
    except OSError as error:
        raise read_error(path, error) from error


def open_regular(path: Path | str | bytes) -> int:
    """Open a regular file for reading.

    Args:
        path: The file; a symbolic link is followed.

    Returns:
        A descriptor, to be closed by the caller.

    Raises:
        NotAFile: It is a folder, a named pipe, a socket or a device.
        OSError: It cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise NotAFile(f"{_text(path)} is {_kind(os.stat(path).st_mode)}, expected a file") from error  # noqa: PTH116
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise NotAFile(f"{_text(path)} is {_kind(mode)}, expected a file")
    return descriptor


def read_whole(path: Path, most_bytes: int) -> bytes:
    """Read a regular file of a bounded size.

    Args:
        path: The file.
        most_bytes: A longer file is refused before it is read.

    Returns:
        Its bytes.

    Raises:
        FileNotFoundError: There is no such file.
        NotAFile: It is not a regular file, or larger than anything that was ever written there.
        CacheReadError: It is there and cannot be read.
    """
    with opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > most_bytes:
            raise NotAFile(f"{path} has {size:,} bytes, expected at most {most_bytes:,}")
        parts = []
        while part := os.read(descriptor, _CHUNK):
            parts.append(part)
        return b"".join(parts)


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, in no order; nothing if it is not there or is no folder.

    Args:
        folder: The folder.

    Returns:
        Its entries.

    Raises:
        CacheReadError: It is there and cannot be listed.
    """
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise read_error(folder, error) from error


def read_error(path: Path, error: OSError) -> CacheReadError:
    """Make the error for something that is there and cannot be read."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return CacheReadError(
        f"cannot read {path}: {reason}; nothing was judged by it and nothing removed. Check the permissions and the "
        "disk, then run the same command again.",
        reason,
    )


def is_regular(path: Path) -> bool:
    """True for a regular file itself: no link to one, nothing else."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "no regular file")


def _text(path: Path | str | bytes) -> str:
    return os.fsdecode(path)
