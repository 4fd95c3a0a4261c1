"""What to tell the user of an error: what was found and what to do; nothing for what is a bug of ours."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path

from pipeline.errors import PipelineError

_ADVICE = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some of your quota, or write to another disk",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "name a folder that can be written",
    errno.EACCES: "change its permissions, or name another",
    errno.EPERM: "change its permissions, or name another",
    errno.EIO: "check the disk, then run the same command again",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}
_MEMORY = (
    "not enough memory; close other programs, raise the limit (ulimit -v), or ask for less at a time: "
    "--batch-size, --workers, --memory"
)
_SIGNS_OF_MEMORY = re.compile(
    r"cannot allocate memory|can't allocate memory|not enough memory|out of memory|can't start new thread"
    r"|bad_alloc|failed to map segment|unable to allocate|resource temporarily unavailable"
    r"|could not create a primitive",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"errno (\d+)", re.IGNORECASE)


def told(error: BaseException) -> str | None:
    """What to tell the user of an error that they can act on; None for a bug."""
    from cache.errors import CacheError  # imported only when something went wrong

    if _lacks_memory(error):
        return _MEMORY
    if isinstance(error, PipelineError | CacheError):
        return str(error)
    # A folder that may not be written, a full disk, a file where a folder goes; a file of ours that is gone is a bug.
    return _of_system(error) if isinstance(error, OSError) else None


def _lacks_memory(error: BaseException) -> bool:
    """Whether this error, or the one that it was made of, comes of too little memory: libraries say so in many ways."""
    first: BaseException = error
    while first.__cause__ is not None:
        first = first.__cause__
    if isinstance(first, MemoryError) or (isinstance(first, OSError) and first.errno in (errno.ENOMEM, errno.EAGAIN)):
        return True
    return not isinstance(first, PipelineError) and bool(_SIGNS_OF_MEMORY.search(str(first)))


def _of_system(error: OSError) -> str | None:
    found = _NUMBER.search(str(error))
    number = error.errno or (int(found[1]) if found else 0)
    name = os.fsdecode(error.filename) if error.filename else ""
    if name and _is_ours(name):
        return None
    if not name and number not in _ADVICE:
        return None
    reason = os.strerror(number) if number else str(error)
    advice = f"; {_ADVICE[number]}" if number in _ADVICE else ""
    return f"{name}: {reason}{advice}" if name else f"{reason}{advice}"


def _is_ours(name: str) -> bool:
    """Whether a file belongs to this code or to the installed packages, and not to the user."""
    packages = Path(__file__).resolve().parents[2]
    homes = (packages / "pipeline", packages / "cache", Path(sys.prefix) / "lib")
    return any(Path(name).resolve().is_relative_to(home) for home in homes)
