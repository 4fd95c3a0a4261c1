"""Contents as they are first read: of photos that nobody has read before, only what is new is computed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cache import CacheError, Column, FeatureCache, Ids, id_array
from pipeline.arrays import Bool


def lacking_in(cache: FeatureCache, key: str, columns: Sequence[Column]) -> Callable[[Ids], Bool]:
    """Says what the committed cache, as it is now, lacks of contents. Takes no lock and makes no file.

    Args:
        key: Digest of the base key.
        columns: What is wanted of each content.

    Returns:
        Of ids S32 (n,) a bool (n, columns), True where there is no such row.
    """
    try:
        reader = cache.reader(key)
    except CacheError:
        return lambda ids: np.ones((len(ids), len(columns)), dtype=np.bool_)
    there = set(reader.columns)

    def lacking(ids: Ids) -> Bool:
        absent = np.zeros(len(ids), dtype=np.bool_)
        present = [reader.contains(ids, column) if column in there else absent for column in columns]
        return ~np.stack(present, axis=1)

    return lacking


@dataclass
class FreshContents:
    """Says of each content, when its bytes are there, whether it is to be computed. Decoding threads ask it.

    Attributes:
        lacking: What the cache lacks of contents: bool (n, columns) of ids S32 (n,).
        rejected: Contents that can have no vector, and why.
    """

    lacking: Callable[[Ids], Bool]
    rejected: Mapping[bytes, str]
    _met: set[bytes] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def meet(self, ids: Iterable[bytes]) -> None:
        """These contents are taken care of already."""
        self._met.update(bytes(content).ljust(32, b"\0") for content in ids)

    def __call__(self, content: bytes) -> bool:
        """Whether to compute a content: the first time it is met, if it is neither rejected nor complete."""
        with self._lock:
            if content in self._met:
                return False
            self._met.add(content)
            return content not in self.rejected and bool(self.lacking(id_array([content])).any())
