"""The photos of a training as the backbone sees them, decoded by threads, kept if they fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache import NO_ID, Ids, id_array, id_of
from pipeline.arrays import Int64, Pixels
from pipeline.errors import BadImage, CatalogueError, why_unread
from pipeline.features.backbone.photo_file import read_photo
from pipeline.features.backbone.transform import Transform, to_pixels
from pipeline.machine import cores
from pipeline.remote import RemotePhoto

_CHUNK = 64


@dataclass(frozen=True)
class Feeding:
    """How photos become pixels.

    Attributes:
        transform: The transform of `extract`.
        workers: Decoding threads (None: the number of cores).
        limit: Bytes of pixels that may be held in memory.
    """

    transform: Transform
    workers: int | None
    limit: int


@dataclass(eq=False)
class DecodedPhotos:
    """n photos that could be decoded; `take` gives their pixels.

    Attributes:
        paths: (n,) files.
        ids: S32 (n,), content ids of the bytes that were decoded.
        rejects: Reason per position among the paths given, of the photos that are no part of this.
        feeding: How the photos are decoded.
        held: uint8 (n, s, s, 3), or None when that is more than the limit and photos are decoded anew each time.
    """

    paths: Sequence[Path | RemotePhoto]
    ids: Ids
    rejects: Mapping[int, str]
    feeding: Feeding
    held: Pixels | None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Int64) -> Pixels:
        """Pixels of some photos, as `extract` shows them to the backbone.

        Args:
            rows: int64 (b,), positions among these photos.

        Returns:
            uint8 (b, s, s, 3).

        Raises:
            CatalogueError: a photo changed or vanished since it was first read.
        """
        if self.held is not None:
            return self.held[rows]
        with _pool(self.feeding) as pool:
            return np.stack(list(pool.map(self._again, rows.tolist())))

    def _again(self, row: int) -> Pixels:
        path = self.paths[row]
        try:
            data = read_photo(path)
        except BadImage as error:
            raise CatalogueError(f"{path} cannot be read any more: {error}") from error
        except OSError as error:
            raise CatalogueError(f"{path} cannot be read any more: {error.strerror or error}") from error
        if id_of(data).rstrip(b"\0") != self.ids[row]:
            raise CatalogueError(f"{path} changed while the backbone was being trained; start again with it as it is")
        return to_pixels(data, self.feeding.transform)


def decode_all(
    paths: Sequence[Path | RemotePhoto], feeding: Feeding, progress: Callable[[int, int], None] | None = None
) -> tuple[Int64, DecodedPhotos]:
    """Read, hash and decode every photo once; those that cannot be are left out, each with its reason.

    Args:
        paths: Photo files.
        feeding: How they are decoded, and how much may be kept.
        progress: Called with (photos done, photos in all).

    Returns:
        Positions among `paths` of the photos that could be decoded, int64 (n,), ascending; and those photos.
    """
    size = feeding.transform.size
    fits = len(paths) * size * size * 3 <= feeding.limit
    held = np.empty((len(paths), size, size, 3), np.uint8) if fits else None
    ids, rejects = [NO_ID] * len(paths), dict[int, str]()

    def decode(row: int) -> None:
        try:
            data = read_photo(paths[row])
            ids[row] = id_of(data)
            pixels = to_pixels(data, feeding.transform)
            if held is not None:
                held[row] = pixels
        except (BadImage, OSError) as error:
            rejects[row] = why_unread(error)

    with _pool(feeding) as pool:
        for start in range(0, len(paths), _CHUNK):
            list(pool.map(decode, range(start, min(start + _CHUNK, len(paths)))))
            if progress is not None:
                progress(min(start + _CHUNK, len(paths)), len(paths))
    good = np.array([row for row in range(len(paths)) if row not in rejects], np.int64)
    if held is not None and rejects:
        # Downwards in place: a copy would be twice what the limit was compared with.
        for place, row in enumerate(good.tolist()):
            if place != row:
                held[place] = held[row]
    kept = None if held is None else held[: len(good)]
    sound = [paths[row] for row in good.tolist()]
    return good, DecodedPhotos(sound, id_array(ids)[good], dict(sorted(rejects.items())), feeding, kept)


def _pool(feeding: Feeding) -> ThreadPoolExecutor:
    """Threads for one call: they cost a tenth of a millisecond and are not left behind."""
    return ThreadPoolExecutor(feeding.workers or cores(), "decode")
