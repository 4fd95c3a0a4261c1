"""split.csv.sha256: what notices that a split file is no longer the one that was written.

A photo that moves from test to training flatters every figure, and a file with another part in it looks as good as any.
So the SHA-256 of its bytes lies beside it, in the form that `sha256sum -c` reads. A split without it, an old one or one
that somebody made, is read as it is.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pipeline.errors import CatalogueError
from pipeline.system import digest_path, file_digest, parsed, read_text, write_digest

_LINE = re.compile(r"([0-9a-fA-F]{64})\b.*", re.DOTALL)
_MOST_BYTES = 4096


def move_split(new: Path, path: Path) -> None:
    """Give a split file, and the digest beside it, their final place."""
    digest_path(path).unlink(missing_ok=True)
    new.replace(path)
    digest_path(new).unlink(missing_ok=True)
    write_digest(path, file_digest(path))


def remove_split(path: Path) -> None:
    """Remove a split file and its digest, as far as they are there."""
    path.unlink(missing_ok=True)
    digest_path(path).unlink(missing_ok=True)


def check_digest(path: Path, data: bytes) -> None:
    """Hold the bytes of a split file against the digest beside it, where there is one.

    Raises:
        CatalogueError: They are not what was written, or the digest cannot be read.
    """
    beside = digest_path(path)
    if not beside.exists() and not beside.is_symlink():
        return
    advice = f"restore the split; if you changed it on purpose, remove {beside.name}"
    with parsed(CatalogueError, f"{beside}: cannot be read as a SHA-256 (", f"); {advice}."):
        recorded = _LINE.fullmatch(read_text(beside, _MOST_BYTES))
        if recorded is None:
            raise ValueError("it does not begin with 64 hexadecimal digits")
    found = hashlib.sha256(data).hexdigest()
    if recorded[1].lower() != found:
        raise CatalogueError(
            f"{path} is not the split that was written: its SHA-256 is {found}, {beside.name} says {recorded[1]}; "
            f"{advice}."
        )
