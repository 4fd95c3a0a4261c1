"""Files that are there whole or not at all, and the boundary around bytes from outside. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from pipeline.errors import PipelineError
from pipeline.spreadsheet import Lines, guarded

_LONGEST_REASON = 500


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_path(path: Path) -> Path:
    """The file beside another that holds its SHA-256, in the form that `sha256sum -c` reads."""
    return path.with_name(path.name + ".sha256")


def write_digest(path: Path, digest: str) -> None:
    """Write the SHA-256 (hex) of a file beside it."""
    write_text(digest_path(path), f"{digest}  {path.name}\n")


@contextlib.contextmanager
def parsed(error: type[PipelineError], before: str, after: str = "", lines: int = 20) -> Iterator[None]:
    """The boundary around a parser of bytes from outside: whatever it raises becomes one named error.

    Parsers are not only written to raise their own errors: limits of digits and of recursion, encodings, wrong types
    and lengths speak in many. Keep the block to the parser and the look at what it gave.

    Args:
        error: What is raised instead; errors of the package pass unchanged.
        before: The text up to the reason: which file, and which line or field of it.
        after: The text from there on: what was expected, or what to do.
        lines: How many of the reason's lines are told; some parsers go on with advice that is not ours.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as fault:
        shortened = "\n".join(str(fault).strip().splitlines()[:lines])
        reason = (shortened or type(fault).__name__)[:_LONGEST_REASON]
        raise error(before + reason + after) from fault


def wrong_text(text: str) -> str:
    """What makes a text from outside unusable as a name or value, as no file can be written with it; "" if nothing."""
    if "\0" in text:
        return "a NUL character"
    for character in () if text.isascii() else text:
        if "\ud800" <= character <= "\udfff":
            return f"a lone surrogate, \\u{ord(character):04x}, which is no character"
    return ""


class NotRegular(OSError):
    """A pipe, a socket, a device or a folder in a file's place."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one, to read its bytes; anything else is refused without waiting for it.

    Raises:
        NotRegular: It is no regular file.
        OSError: It cannot be opened.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise NotRegular("not a regular file")
    # Should a pipe take its place just now, the opening must not wait for the other end.
    file = open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")  # noqa: PTH123, SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NotRegular("not a regular file")
    return file


def read_text(path: Path, most: int) -> str:
    """The UTF-8 text of a regular file, with or without a byte order mark.

    Args:
        most: Bytes of the largest file that is read.

    Raises:
        OSError: It is no regular file, cannot be read or is larger.
        UnicodeDecodeError: It is not UTF-8.
    """
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(f"larger than the {most} bytes that are read")
    return data.decode("utf-8-sig")


@contextlib.contextmanager
def whole_file(path: Path, new: bool = False) -> Iterator[Path]:
    """A name to write a file under, which becomes `path` when the block ends and is removed when it fails.

    The name is this call's alone, so that writers of one path do not disturb each other: the last one wins. The
    file is on the disk before it has its final name, and the name before the block ends. Folders are made as needed.

    Args:
        path: The file.
        new: Replace nothing: the first writer wins, and the others get FileExistsError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        if new:
            _link_new(partial, path)
        else:
            partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        # A write that is refused names no file, and the unfinished one's name means nothing to anybody.
        if error.filename in (None, str(partial)):
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write files into, which becomes `path` when the block ends and is removed when it fails.

    Args:
        path: The folder: not there yet, or empty.

    Raises:
        FileExistsError: Something is there.
    """
    # The folder that one stands in, `.`, has no name that another could take.
    if not path.name or path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.partial")
    try:
        partial.mkdir()
        yield partial
        sync_tree(partial)
        # Over an empty folder, and over nothing that another process has put there meanwhile.
        partial.rename(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _link_new(partial: Path, path: Path) -> None:
    """Give a file a name that must be free, in one step where the file system has links."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        raise
    except OSError:
        if path.exists() or path.is_symlink():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        partial.replace(path)


@contextlib.contextmanager
def only_writer(folder: Path, error: type[PipelineError]) -> Iterator[None]:
    """Hold a folder against other commands that write into it; the hold dies with the process and leaves no file.

    Args:
        folder: It is there.
        error: Raised while another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = f"another process is writing into {folder}; let it finish, or name another folder with --out"
            raise error(text) from None
        except OSError as refused:  # a file system without locks
            if refused.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
                raise
        yield
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system can."""
    with contextlib.suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_tree(folder: Path) -> None:
    """Bring every file under a folder to the disk, and every name."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            sync_folder(path)
        elif path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text with its line ends as they are, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all; NumPy scalars, paths, tuples and sets become plain values."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, default=_plain) + "\n")


def write_records(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] | None = None,
    floats: str | None = None,
) -> None:
    """Write records as a CSV file, whole or not at all, with no cell that a spreadsheet would run.

    Args:
        path: The file.
        rows: Column to cell, per record.
        columns: Orders them, and stands where there are none.
        floats: Format of numbers, such as "%.4f".
    """
    import pandas as pd

    records = [{name: guarded(cell) for name, cell in row.items()} for row in rows]
    frame = pd.DataFrame(records, columns=None if columns is None else list(columns))
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        frame.to_csv(cast("TextIO", Lines(file)), index=False, lineterminator=Lines.END, float_format=floats)


def _plain(value: object) -> Any:
    import numpy as np

    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no place in a JSON file")
