"""The photos of a training as the squares of pixels that the backbone sees, decoded by threads, kept if they fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cache import NO_ID, Ids, id_array, read_with_id
from pipeline.errors import BadImage, CatalogueError
from pipeline.features.backbone.transform import Pixels, Transform, to_pixels
from pipeline.system import cores

_CHUNK = 64


@dataclass(frozen=True)
class Feeding:
    """How photos become squares: the transform of `extract`, decoding threads, bytes that may be held in memory."""

    transform: Transform
    workers: int | None
    limit: int


@dataclass(eq=False)
class Squares:
    """n photos that could be decoded; `take` gives their pixels.

    Attributes:
        paths: (n,) files.
        ids: S32 (n,), content ids of the bytes that were decoded.
        rejects: Reason per position among the paths given, of the photos that are no part of this.
        feeding: How the photos are decoded.
        held: uint8 (n, s, s, 3), or None when that is more than the limit and photos are decoded anew each time.
    """

    paths: Sequence[Path]
    ids: Ids
    rejects: Mapping[int, str]
    feeding: Feeding
    held: Pixels | None
    _pool: ThreadPoolExecutor = field(repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: npt.NDArray[np.int64]) -> Pixels:
        """Pixels of some photos: uint8 (b, s, s, 3), as `extract` shows them to the backbone.

        Raises:
            CatalogueError: a photo changed or vanished since it was first read.
        """
        if self.held is not None:
            return self.held[rows]
        return np.stack(list(self._pool.map(self._again, rows.tolist())))

    def _again(self, row: int) -> Pixels:
        path = self.paths[row]
        try:
            data, content_id = read_with_id(os.fspath(path))
        except OSError as error:
            raise CatalogueError(f"{path} cannot be read any more: {error.strerror or error}") from error
        if content_id.rstrip(b"\0") != self.ids[row]:
            raise CatalogueError(f"{path} changed while the backbone was being trained; start again with it as it is")
        return to_pixels(data, self.feeding.transform)


def decode_all(
    paths: Sequence[Path], feeding: Feeding, progress: Callable[[int, int], None] | None = None
) -> tuple[npt.NDArray[np.int64], Squares]:
    """Read, hash and decode every photo once; those that cannot be are left out, each with its reason.

    Returns the positions (int64) of the photos that could be decoded, ascending, and their squares.
    """
    size = feeding.transform.size
    fits = len(paths) * size * size * 3 <= feeding.limit
    held = np.empty((len(paths), size, size, 3), np.uint8) if fits else None
    ids, rejects = [NO_ID] * len(paths), dict[int, str]()

    def decode(row: int) -> None:
        try:
            data, ids[row] = read_with_id(os.fspath(paths[row]))
            pixels = to_pixels(data, feeding.transform)
            if held is not None:
                held[row] = pixels
        except BadImage as error:
            rejects[row] = str(error)
        except OSError as error:
            rejects[row] = error.strerror or str(error)

    pool = ThreadPoolExecutor(feeding.workers or cores(), "decode")
    for start in range(0, len(paths), _CHUNK):
        list(pool.map(decode, range(start, min(start + _CHUNK, len(paths)))))
        if progress is not None:
            progress(min(start + _CHUNK, len(paths)), len(paths))
    good = np.array([row for row in range(len(paths)) if row not in rejects], np.int64)
    kept = held[good] if held is not None and rejects else held
    sound = [paths[row] for row in good.tolist()]
    return good, Squares(sound, id_array(ids)[good], dict(sorted(rejects.items())), feeding, kept, pool)
