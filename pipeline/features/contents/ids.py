"""Content ids of photos: of files by the cache's index of files, of photos on other machines by their versions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cache import NO_ID, FeatureCache, Ids, id_array, id_of
from pipeline.arrays import Int64
from pipeline.errors import BadImage, why_unread
from pipeline.features.backbone.photo_file import read_photo
from pipeline.remote import RemotePhoto, RemotePhotos
from pipeline.remote.limits import READERS

Photos = Sequence[str | Path | RemotePhoto]

_NONE = NO_ID.rstrip(b"\0")
"""How NumPy gives out an id of zeros."""

_AT_A_TIME = 4096


def content_ids(
    cache: FeatureCache | None, photos: Photos, rehash: bool = False, read: bool = True
) -> tuple[Ids, dict[int, str]]:
    """Content ids of photos, and what was wrong with some of them.

    Args:
        cache: Whose index of files is asked first; without one every photo is read.
        photos: Paths, and photos on other machines.
        rehash: Distrust the index.
        read: Read remote photos of which the index does not know this version; else they have no id, and no problem.

    Returns:
        The ids, S32 (n,), all zero where there is none; and the problems, {position: reason}.

    Raises:
        RemoteError: A bucket or host cannot be used.
    """
    given = photos if isinstance(photos, RemotePhotos) else list(photos)
    here = {} if isinstance(given, RemotePhotos) else {i: p for i, p in enumerate(given) if not _is_remote(p)}
    ids, problems = id_array([NO_ID] * len(given)), dict[int, str]()
    lacking: Sequence[int] = range(len(given))
    if cache is not None:
        at = list(here)
        ids[at], wrong = cache.files.ids([str(path) for path in here.values()], rehash)
        problems = {at[i]: reason for i, reason in wrong.items()}
        if len(here) < len(given) and not rehash:
            _fill(ids, given, cache)
        lacking = unread(ids, problems, given).tolist()
    if read:
        problems |= _read(ids, lacking, given)
        if cache is not None:
            remember(cache, [given[i] for i in lacking], ids[lacking])
    return ids, dict(sorted(problems.items()))


def unread(ids: Ids, problems: Mapping[int, str], photos: Photos) -> Int64:
    """Positions, int64, of remote photos whose content nobody knows yet."""
    lacking = np.flatnonzero(ids == _NONE).tolist()
    return np.array([i for i in lacking if i not in problems and _is_remote(photos[i])], np.int64)


def remember(cache: FeatureCache, photos: Sequence[object], ids: Ids) -> None:
    """Note in the index of files which content each remote photo has, S32 (n,); ids of zero are left out."""
    read = [
        (photo.name, stamp, content)
        for photo, content in zip(photos, ids, strict=True)
        if isinstance(photo, RemotePhoto) and content != _NONE and (stamp := _numbers(photo))
    ]
    if read:
        names, stamps, contents = zip(*read, strict=True)
        cache.files.remember(names, stamps, np.array(contents, ids.dtype))


def _is_remote(photo: object) -> bool:
    return isinstance(photo, RemotePhoto)


def _numbers(photo: RemotePhoto) -> tuple[int, int, int] | None:
    """The version of a photo as the index holds it: size, time of writing, a digest of its ETag; None for none."""
    if photo.stamp is None or not photo.stamp.tells:
        return None
    size, modified, tag = photo.stamp
    digest = hashlib.sha256(tag.encode("utf-8", "surrogatepass")).digest()
    return -1 if size is None else size, modified, int.from_bytes(digest[:7]) if tag else -1


def _fill(ids: Ids, photos: Photos, cache: FeatureCache) -> None:
    """Put in the ids that the index knows."""
    asked = [(i, p.name, stamp) for i, p in enumerate(photos) if isinstance(p, RemotePhoto) and (stamp := _numbers(p))]
    if asked:
        at, names, stamps = zip(*asked, strict=True)
        ids[list(at)] = cache.files.known(names, stamps)


def _read(ids: Ids, rows: Sequence[int], photos: Photos) -> dict[int, str]:
    """Read photos for their ids, and put those in; why some have none."""
    problems = {}
    for row, found in _each(rows, photos):
        if isinstance(found, str):
            problems[row] = found
        else:
            ids[row] = found
    return problems


def _each(rows: Sequence[int], photos: Photos) -> Iterator[tuple[int, bytes | str]]:
    with ThreadPoolExecutor(READERS, "hash") as pool:
        for start in range(0, len(rows), _AT_A_TIME):
            part = rows[start : start + _AT_A_TIME]
            try:
                yield from zip(part, pool.map(_id_or_why, [photos[row] for row in part]), strict=True)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _id_or_why(photo: str | Path | RemotePhoto) -> bytes | str:
    try:
        return id_of(read_photo(photo))
    except (BadImage, OSError) as error:
        return why_unread(error)
