"""One shard: an immutable HDF5 file with some rows of one column, readable without the HDF5 library.

    <block>-<view>-<column digest:12>-<sequence:8>-<rows>-<sha256 of the file:32>.h5

    user block   one JSON line, the header: what is in the file, at which offset, with which checksum
    features     (n, d) float32 or float16, contiguous, starts on a page
    ids          (n, 32) uint8, content ids
    checksums    (groups,) uint64, XXH3-64 of each group of `group_rows` rows of features

Any HDF5 reader sees the three datasets and the attributes. This package reads by the header instead: damaged HDF5
metadata can send the library into an endless loop, so no read of ours passes through it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from cache.errors import CacheError, ShardDamaged
from cache.ids import Ids, as_ids, id_bytes
from cache.key import LAYOUT_VERSION, BaseKey, Block, Column, canonical_json

DTYPES: Mapping[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
MOST_HEADER_BYTES = 16 * 1024 * 1024
GROUP_BYTES = 64 * 1024  # a group is hashed while it lies in the processor's cache
_USER_BLOCK = 4096
_PAGE = 4096
_IMAGES = itertools.count()
_MAGIC = "selvedge-shard"
_NAME = re.compile(r"([a-z0-9_]+)-([a-z0-9_]+)-([0-9a-f]{12})-(\d{8,})-(\d+)-([0-9a-f]{32})\.h5")


@dataclass(frozen=True, order=True)
class ShardName:
    """What a shard's file name says; ordered by sequence, so by time of writing."""

    sequence: int
    rows: int
    column: str
    sha256: str
    text: str

    @classmethod
    def parse(cls, text: str) -> ShardName | None:
        """Read a file name; None if it is not a shard's."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        return cls(int(match[4]), int(match[5]), match[3], match[6], text)


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


@dataclass(frozen=True)
class ShardSource:
    """What every shard of one column of one key has in common."""

    base: BaseKey
    column: Column
    notes: Mapping[str, Any]


def checksum(data: memoryview | bytes) -> int:
    """XXH3-64 of bytes."""
    return int(xxhash.xxh3_64_intdigest(data))


def bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """Memory of a contiguous array as bytes, not copied."""
    return memoryview(array.reshape(-1).view(np.uint8).data)


def group_sums(features: npt.NDArray[Any], group_rows: int) -> npt.NDArray[np.uint64]:
    """Checksum of each group of rows of a contiguous (n, d) array."""
    view = bytes_of(features)
    step = group_rows * features.shape[1] * features.itemsize
    return np.array([checksum(view[at : at + step]) for at in range(0, len(view), step)], dtype="<u8")


def build_shard(source: ShardSource, sequence: int, ids: Ids, features: npt.NDArray[Any]) -> tuple[str, bytes]:
    """Make a shard in memory; the same rows always give the same bytes.

    Args:
        source: Key, column and notes.
        sequence: Its number in the folder, which orders shards by time.
        ids: Content ids, S32 (n,), n at least 1.
        features: float32 or float16 (n, d).

    Returns:
        File name and file bytes.

    Raises:
        CacheError: There are no rows, or not as many ids.
    """
    ids = as_ids(ids)
    stored = np.ascontiguousarray(features).astype(features.dtype.newbyteorder("<"), copy=False)
    if len(ids) != len(stored) or not len(ids):
        raise CacheError(f"a shard needs as many ids as rows, and at least one; found {len(ids)} and {len(stored)}")
    group_rows = max(1, GROUP_BYTES // (stored.shape[1] * stored.itemsize))
    sums = group_sums(stored, group_rows)
    arrays = {"features": stored, "ids": id_bytes(ids), "checksums": sums}
    user_block = _USER_BLOCK
    while True:
        image, offsets = _hdf5_image(source, group_rows, user_block, arrays)
        header = ShardHeader(
            key=source.base.digest,
            base=source.base.to_json(),
            column_digest=source.column.digest(source.base),
            block=source.column.block.to_json(),
            view=source.column.view,
            rows=len(ids),
            dtype=stored.dtype.name,
            group_rows=group_rows,
            features_at=offsets["features"],
            ids_at=offsets["ids"],
            checksums_at=offsets["checksums"],
            features_sum=checksum(bytes_of(stored)),
            ids_sum=checksum(ids.tobytes()),
            checksums_sum=checksum(sums.tobytes()),
            file_bytes=user_block + len(image),
            notes=dict(source.notes),
        )
        line = _header_line(header, user_block)
        if len(line) <= user_block:
            break
        user_block *= 2
    data = line.ljust(user_block, b"\0") + image
    stem = f"{source.column.block.name}-{source.column.view}-{source.column.digest(source.base)[:12]}"
    return f"{stem}-{sequence:08d}-{len(ids)}-{hashlib.sha256(data).hexdigest()[:32]}.h5", data


def _hdf5_image(
    source: ShardSource, group_rows: int, user_block: int, arrays: Mapping[str, npt.NDArray[Any]]
) -> tuple[bytes, dict[str, int]]:
    import h5py  # only writing needs it

    options = {"userblock_size": user_block, "alignment_threshold": _PAGE, "alignment_interval": _PAGE}
    # The library knows files in memory by name, so two threads need two names.
    name = f"selvedge-shard-{next(_IMAGES)}"
    with h5py.File(name, "w", driver="core", backing_store=False, libver="earliest", **options) as file:
        file.attrs["format"] = _MAGIC
        file.attrs["layout"] = LAYOUT_VERSION
        file.attrs["key"] = source.base.digest
        file.attrs["key_json"] = canonical_json(source.base.to_json())
        file.attrs["block"] = source.column.block.name
        file.attrs["block_json"] = canonical_json(source.column.block.to_json())
        file.attrs["block_digest"] = source.column.block.digest(source.base)
        file.attrs["view"] = source.column.view
        file.attrs["group_rows"] = group_rows
        made = {name: file.create_dataset(name, data=array) for name, array in arrays.items()}
        file.flush()
        offsets = {name: int(dataset.id.get_offset()) for name, dataset in made.items()}
        # The library leaves the user block out of the image and counts offsets with it, as in a file on disk.
        return file.id.get_file_image(), offsets


def _header_line(header: ShardHeader, user_block: int) -> bytes:
    body = canonical_json(asdict(header)).encode("ascii")
    return f"{_MAGIC} {LAYOUT_VERSION} {user_block} {checksum(body):016x} ".encode("ascii") + body + b"\n"


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
    head = os.pread(descriptor, _USER_BLOCK, 0)
    parts = head.split(b" ", 4)
    if len(parts) != 5 or parts[0] != _MAGIC.encode("ascii"):
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


if sys.byteorder != "little":  # mapped and checked bytes are used as they lie in the file
    raise ImportError("the embedding cache needs a little-endian machine")
