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

import hashlib
import itertools
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.arrays import UInt64
from cache.errors import CacheError
from cache.header import GROUP_BYTES, MAGIC, USER_BLOCK, ShardHeader, checksum, header_line
from cache.ids import Ids, as_ids, id_bytes
from cache.key import LAYOUT_VERSION, BaseKey, Column, canonical_json

_PAGE = 4096
_IMAGES = itertools.count()
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
class ShardSource:
    """What every shard of one column of one key has in common."""

    base: BaseKey
    column: Column
    notes: Mapping[str, Any]


def bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """Memory of a contiguous array as bytes, not copied."""
    return memoryview(array.reshape(-1).view(np.uint8).data)


def group_sums(features: npt.NDArray[Any], group_rows: int) -> UInt64:
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
    user_block = USER_BLOCK
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
        line = header_line(header, user_block)
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
        file.attrs["format"] = MAGIC
        file.attrs["layout"] = LAYOUT_VERSION
        file.attrs["key"] = source.base.digest
        file.attrs["key_json"] = canonical_json(source.base.to_json())
        file.attrs["block"] = source.column.block.name
        file.attrs["block_json"] = canonical_json(source.column.block.to_json())
        file.attrs["block_digest"] = source.column.block.digest(source.base)
        file.attrs["view"] = source.column.view
        file.attrs["group_rows"] = group_rows
        datasets = {name: file.create_dataset(name, data=array) for name, array in arrays.items()}
        file.flush()
        offsets = {name: int(dataset.id.get_offset()) for name, dataset in datasets.items()}
        # The library leaves the user block out of the image and counts offsets with it, as in a file on disk.
        return file.id.get_file_image(), offsets


if sys.byteorder != "little":  # mapped and checked bytes are used as they lie in the file
    raise ImportError("the embedding cache needs a little-endian machine")
