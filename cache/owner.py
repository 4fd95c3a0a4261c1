"""Who is writing an unfinished file: its name says so, that nobody else takes it for the stray of a dead process.

    .tmp-<host: 12 hex digits>-<process id>-<start of the process>-<8 random hex digits>-<what it becomes>

A process id means something on one boot of one machine, within one namespace of ids: the host is a digest of both. A
process that came later under the same id started at another time. Of another host's process nothing can be known from
here, so its files count as left behind only when nobody has written to them for `ABANDONED_SECONDS`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import socket
import time
import uuid
from pathlib import Path

ABANDONED_SECONDS = 86_400.0
"""Far above the seconds that a shard takes to be written, and above what clocks of one cluster differ by."""

_OWNED = re.compile(r"([0-9a-f]{12})-(\d{1,10})-(\d{1,20})-[0-9a-f]{8}-")
_BEFORE = re.compile(r"(\d{1,9})-")  # by versions that let one process write at a time
_TOLD = 40  # characters of the final name, of up to 4 bytes each; a file's name has at most 255


def owned_name(prefix: str, name: str = "") -> str:
    """A file name that no other process, of any host, has had or will have.

    Args:
        prefix: What all such names begin with.
        name: What the file becomes; only to be read by people.
    """
    pid = os.getpid()
    return f"{prefix}{host_tag()}-{pid}-{_started(pid) or 0}-{secrets.token_hex(4)}-{name[:_TOLD]}"


@functools.cache
def host_tag() -> str:
    """What this host is called in names of unfinished files: 12 hex digits."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        told = (boot, os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 - no path, but the name of a namespace
    except OSError:
        told = (socket.gethostname(), f"{uuid.getnode():x}")
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:12]


def is_abandoned(path: Path, prefix: str) -> bool:
    """Whether the process that was writing a file is gone, so that nobody will finish it.

    Args:
        path: An unfinished file or folder.
        prefix: What the names of its kind begin with.

    Returns:
        True only if its process, on this host, has ended; or if it is another host's and has not been written to for
        `ABANDONED_SECONDS`; or if its name is none that a process of ours gives.
    """
    text = path.name.removeprefix(prefix)
    if owned := _OWNED.match(text):
        if owned[1] != host_tag():
            return _is_old(path)
        return not _runs(int(owned[2]), int(owned[3]))
    if before := _BEFORE.match(text):
        return not _runs(int(before[1]), 0)
    return True


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > ABANDONED_SECONDS
    except OSError:  # gone, or not to be looked at
        return False


def _runs(pid: int, started: int) -> bool:
    """Whether the process of this id, if its start is known the one that started then, has not ended."""
    if pid == 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    now = _started(pid)
    return now is None or (now != 0 and started in (0, now))


def _started(pid: int) -> int | None:
    """Ticks since boot at which a process started, 0 for one that has ended; None where that cannot be known."""
    try:
        fields = Path("/proc", str(pid), "stat").read_bytes().rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
