"""Content ids: SHA-256 of a file's bytes, held as NumPy arrays of dtype S32 and found by binary search."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from cache.arrays import Bool, Int64, UInt64
from cache.errors import CacheError

Ids = npt.NDArray[np.bytes_]
ID_DTYPE = np.dtype("S32")
NO_ID = bytes(32)


def id_array(ids: Iterable[bytes]) -> Ids:
    """Join raw 32-byte ids into an array of dtype S32, shape (n,)."""
    listed = list(ids)
    if any(len(item) != 32 for item in listed):
        raise CacheError("a content id is 32 raw bytes; bytes.fromhex makes them of its 64 hex digits")
    return np.frombuffer(b"".join(listed), dtype=ID_DTYPE).copy()


def as_ids(ids: npt.ArrayLike | Ids) -> Ids:
    """Check and make contiguous an array of ids: S32 (n,) or uint8 (n, 32)."""
    array = np.asarray(ids)
    if array.dtype == np.uint8 and array.ndim == 2 and array.shape[1] == 32:
        return np.ascontiguousarray(array).view(ID_DTYPE).reshape(-1)
    if array.size == 0:
        return np.empty(0, dtype=ID_DTYPE)
    if array.dtype.kind != "S" or array.ndim != 1 or array.dtype.itemsize > 32:
        raise CacheError(f"ids are {array.dtype} {array.shape}; expected dtype S32, shape (n,)")
    # A narrower S dtype only lost trailing NULs, which astype puts back.
    return np.ascontiguousarray(array.astype(ID_DTYPE, copy=False))


def id_bytes(ids: Ids) -> npt.NDArray[np.uint8]:
    """The same memory as uint8 (n, 32), the form stored in HDF5."""
    return as_ids(ids).view(np.uint8).reshape(-1, 32)


def ids_to_hex(ids: Ids) -> list[str]:
    """64 hex digits per id."""
    text = as_ids(ids).tobytes().hex()
    return [text[start : start + 64] for start in range(0, len(text), 64)]


def id_of(data: bytes | bytearray | memoryview) -> bytes:
    """Content id of bytes in memory: 32 raw bytes."""
    return hashlib.sha256(data).digest()


class IdIndex:
    """Where an id lies: positions in the order of `ids`; ids that lie there twice hold equal rows, any may be given.

    SHA-256 is uniform, so its first 8 bytes sort like the whole id and much faster; the rest is compared on a hit.
    Sorted at the first question that needs it; then 16 bytes a row besides the ids themselves.
    """

    def __init__(self, ids: Ids) -> None:
        self.ids = as_ids(ids)
        self._words = _words(self.ids)
        self._sorted: tuple[UInt64, Int64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, ids: Ids) -> Int64:
        """Position of each id, -1 where absent: int64 (n,)."""
        wanted = _words(as_ids(ids))
        if not len(self._words) or not len(wanted):
            return np.full(len(wanted), -1, dtype=np.int64)
        run = self._find_run(wanted)
        return self._search(wanted) if run is None else run

    def duplicates(self) -> Bool:
        """True on every row whose id already lies on an earlier row: bool (n,)."""
        heads, _ = self._sort()
        if not (heads[1:] == heads[:-1]).any():
            return np.zeros(len(self), dtype=np.bool_)
        return np.not_equal(self._search(self._words), np.arange(len(self)))

    def _find_run(self, wanted: UInt64) -> Int64 | None:
        """Positions of ids asked for in stored order, as most are; found by comparing, without sorting."""
        for start in np.flatnonzero(self._words[:, 0] == wanted[0, 0]).tolist():
            if np.array_equal(self._words[start : start + len(wanted)], wanted):
                return np.arange(start, start + len(wanted), dtype=np.int64)
        return None

    def _search(self, wanted: UInt64) -> Int64:
        heads, order = self._sort()
        positions = np.full(len(wanted), -1, dtype=np.int64)
        place = np.searchsorted(heads, wanted[:, 0], side="left")
        todo = np.flatnonzero(place < len(heads))
        while len(todo):
            at = place[todo]
            same_head = heads[at] == wanted[todo, 0]
            todo, at = todo[same_head], at[same_head]
            rows = order[at]
            hit = (self._words[rows] == wanted[todo]).all(axis=1)
            positions[todo[hit]] = rows[hit]
            todo = todo[~hit]
            place[todo] += 1
            todo = todo[place[todo] < len(heads)]
        return positions

    def _sort(self) -> tuple[UInt64, Int64]:
        if self._sorted is None:
            order = np.argsort(self._words[:, 0], kind="stable")
            self._sorted = (self._words[order, 0], order)
        return self._sorted


class IdSet:
    """A growing set of ids: sorted parts, merged when a part is no larger than the one after it."""

    def __init__(self, ids: Ids | None = None) -> None:
        self._parts: list[IdIndex] = []
        if ids is not None:
            self.add(ids)

    def add(self, ids: Ids) -> None:
        """Take ids in; those already there do no harm."""
        if not len(ids):
            return
        self._parts.append(IdIndex(ids))
        while len(self._parts) > 1 and len(self._parts[-2]) <= 2 * len(self._parts[-1]):
            last, before = self._parts.pop(), self._parts.pop()
            self._parts.append(IdIndex(np.concatenate([before.ids, last.ids])))

    def contains(self, ids: Ids) -> Bool:
        """True where the id is in the set: bool (n,)."""
        held = np.zeros(len(ids), dtype=np.bool_)
        for part in self._parts:
            held |= part.find(ids) >= 0
        return held


def _words(ids: Ids) -> UInt64:
    return ids.view(np.uint64).reshape(-1, 4)
