"""The header of a shard: one checked line of JSON at its start that says what lies where in the file."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from cache.errors import CacheError, ShardDamaged
from cache.key import LAYOUT_VERSION, Block, Column, canonical_json

DTYPES: Mapping[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
GROUP_BYTES = 64 * 1024  # a group is hashed while it lies in the processor's cache
MAGIC = "selvedge-shard"
USER_BLOCK = 4096
MOST_HEADER_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of itself in its user block.

    Attributes:
        key: Digest of the base key.
        base: The base key as JSON.
        column_digest: Digest of key, block and view.
        block: Block as JSON.
        view: Name of the view.
        rows: Rows in the shard.
        dtype: "float32" or "float16".
        group_rows: Rows that share a checksum.
        features_at: Where the features begin, in bytes from the start of the file; likewise `ids_at` and
            `checksums_at`.
        features_sum: XXH3-64 of all the features; likewise `ids_sum` and `checksums_sum`.
        file_bytes: Size of the file.
        notes: Those of the key when the shard was written.
    """

    key: str
    base: dict[str, Any]
    column_digest: str
    block: dict[str, Any]
    view: str
    rows: int
    dtype: str
    group_rows: int
    features_at: int
    ids_at: int
    checksums_at: int
    features_sum: int
    ids_sum: int
    checksums_sum: int
    file_bytes: int
    notes: dict[str, Any]

    @property
    def column(self) -> Column:
        """Block and view of the rows."""
        return Column(Block.from_json(self.block), self.view)

    @property
    def dim(self) -> int:
        """Numbers in one row of features."""
        return int(self.block["dim"])

    @property
    def groups(self) -> int:
        """Groups of rows that have a checksum of their own."""
        return -(-self.rows // self.group_rows)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of features."""
        return self.dim * DTYPES[self.dtype].itemsize

    def problem(self) -> str:
        """Why no shard can have this description; empty if one can. Fields may be of any JSON type."""
        wrong = [name for name, kind in _json_types().items() if type(getattr(self, name)).__name__ != kind]
        if wrong:
            return f"its description holds other types than expected ({', '.join(wrong)})"
        if self.dtype not in DTYPES or self.rows < 1 or not 1 <= self.group_rows <= GROUP_BYTES:
            return f"its description says {self.rows} rows of {self.dtype!r} in groups of {self.group_rows}"
        try:
            column = self.column
        except (CacheError, KeyError, TypeError, ValueError) as error:
            return f"its description names no column ({error})"
        if column.block.to_json() != self.block:
            return "its description names no column"
        arrays = [
            (self.features_at, self.rows * self.row_bytes),
            (self.ids_at, 32 * self.rows),
            (self.checksums_at, 8 * self.groups),
        ]
        if any(at < 0 or at + size > self.file_bytes for at, size in arrays):
            return "its description points outside the file"
        return ""


def checksum(data: memoryview | bytes) -> int:
    """XXH3-64 of bytes."""
    return int(xxhash.xxh3_64_intdigest(data))


class Checksum:
    """XXH3-64 of bytes that come piece by piece."""

    def __init__(self) -> None:
        self._state = xxhash.xxh3_64()

    def update(self, data: memoryview | bytes) -> None:
        """Take in the next piece."""
        self._state.update(data)

    @property
    def value(self) -> int:
        """That of all pieces so far, as `checksum` gives it."""
        return int(self._state.intdigest())


def header_line(header: ShardHeader, user_block: int) -> bytes:
    """The line that `read_header` reads, for a user block of so many bytes."""
    body = canonical_json(asdict(header)).encode("ascii")
    return f"{MAGIC} {LAYOUT_VERSION} {user_block} {checksum(body):016x} ".encode("ascii") + body + b"\n"


def damaged(path: Path, what: str, foreign: bool = False) -> ShardDamaged:
    """Make the error for a shard that must not be read."""
    return ShardDamaged(
        f"{path}: {what}. Nothing of it was used; run `python run.py cache verify --repair` on this cache, "
        "then `extract` to compute the lost rows again.",
        what,
        foreign,
    )


def read_header(path: Path, descriptor: int) -> ShardHeader:
    """Read and verify the header at the start of an open file.

    Args:
        path: Its name, for the message.
        descriptor: Open for reading.

    Returns:
        The header: whole, of the expected types and within the file it describes.

    Raises:
        ShardDamaged: It is not a header of this layout, or its bytes have changed.
        OSError: It cannot be read.
    """
    head = os.pread(descriptor, USER_BLOCK, 0)
    parts = head.split(b" ", 4)
    if len(parts) != 5 or parts[0] != MAGIC.encode("ascii"):
        raise damaged(path, "it does not begin like a shard")
    if parts[1] != str(LAYOUT_VERSION).encode("ascii"):
        raise damaged(path, f"it has layout {parts[1].decode('ascii', 'replace')}, expected {LAYOUT_VERSION}")
    if b"\n" not in head and parts[2].isdigit() and len(parts[2]) < 9:
        head = os.pread(descriptor, min(int(parts[2]), MOST_HEADER_BYTES), 0)
        parts = head.split(b" ", 4)
    body = parts[4].split(b"\n", 1)[0]
    if f"{checksum(body):016x}".encode("ascii") != parts[3]:
        raise damaged(path, "its description is damaged")
    try:
        header = ShardHeader(**json.loads(body))
    except TypeError as error:  # whole, but with other fields: another version of this package wrote it
        raise damaged(path, f"its description has other fields than expected ({error})") from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its description cannot be understood ({type(error).__name__})") from error
    problem = header.problem()
    if problem:
        raise damaged(path, problem)
    return header


@functools.cache
def _json_types() -> dict[str, str]:
    """Names of the Python types that the header's fields have when they were read from JSON: str, int or dict."""
    return {item.name: str(item.type).split("[", 1)[0] for item in fields(ShardHeader)}
