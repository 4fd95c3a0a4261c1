"""`similar`: the photos nearest to given ones, by the cosine of vectors that are cached, or are made first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.arrays import Float32, Ids
from pipeline.errors import BadImage, OptionError
from pipeline.features.contents.ids import content_ids
from pipeline.features.vectors.origin import as_fields
from pipeline.model.feature_source import FeatureSource
from pipeline.model.photos import find_photos
from pipeline.neighbours.pool import Pool
from pipeline.neighbours.report import Asked, Similar, SimilarReport, write_similar
from pipeline.neighbours.search import Nearest, Search, nearest_in_one_pass, to_unit
from pipeline.options import CacheKeyOptions, DataOptions, PredictOptions, SimilarOptions
from pipeline.remote import RemotePhoto


def similar(
    photos: Sequence[str], data: DataOptions, cache_key: CacheKeyOptions, options: SimilarOptions
) -> SimilarReport:
    """Find the photos nearest to some and write them to `options.out`.

    A photo is not listed as its own neighbour; another file with the same bytes is, with a cosine of 1.

    Args:
        photos: Names in the catalogue; files, folders and patterns.
        data: The catalogue that is searched; without one, every photo that the cache knows.
        cache_key: Which vectors, where the cache holds several kinds.
        options: How many, among which, and where to.

    Raises:
        OptionError: There is no such photo, attribute or value, or the cache lacks vectors.
        BadImage: No photo asked for can be taken.
        BackboneError, ModelFileError: A photo is new, and the backbone of the cached vectors cannot be had.
    """
    if options.out.suffix.lower() != ".csv":
        raise OptionError(f"--out is {options.out.name!r}; expected a name ending in .csv")
    pool = Pool.of(data, cache_key, options.cache, options.use)
    among = pool.labelled(options.where)
    names, paths = _asked(photos, pool)
    ids, _ = content_ids(pool.cache, paths)
    Q, rejects, embedded = _vectors(pool, paths, ids, options)
    if len(rejects) == len(names):
        raise BadImage(f"no photo that was asked for can be taken; the first: {names[0]}: {rejects[0]}")
    good = [i for i in range(len(names)) if i not in rejects]
    # One more than asked for, as a photo may be among those that are searched.
    wanted = options.count + 1, None if among.all() else among
    if pool.fits(options.memory):
        search = Search(pool.rows()[:])
        started = time.perf_counter()
        nearest = [search.nearest(Q[i], *wanted) for i in good]
    else:
        started = time.perf_counter()
        nearest = nearest_in_one_pass(pool.rows(), Q[good], *wanted)
    asked = tuple(
        Asked(names[i], paths[i], _others(pool, found, paths[i], options.count))
        for i, found in zip(good, nearest, strict=True)
    )
    report = SimilarReport(
        asked=asked,
        attributes=tuple(pool.cells),
        searched=int(np.count_nonzero(among)),
        features=str(pool.features),
        embedded=embedded,
        rejects=tuple((names[i], why) for i, why in rejects.items()),
        findings=pool.findings,
        seconds=time.perf_counter() - started,
    )
    write_similar(report, options.out)
    return report


def _asked(photos: Sequence[str], pool: Pool) -> tuple[list[str], list[Path | RemotePhoto]]:
    """Names and files: what the pool calls so, else what lies there."""
    place = {name: i for i, name in enumerate(pool.names)}
    found: dict[str, Path | RemotePhoto] = {}
    for photo in photos:
        if photo in place:
            found[photo] = pool.paths[place[photo]]
        else:
            # By whole paths: two folders, or a folder and the catalogue, may have files of the same name.
            found |= {str(path): Path(path) if isinstance(path, str) else path for path in find_photos([photo])[1]}
    return list(found), list(found.values())


def _vectors(
    pool: Pool, paths: Sequence[Path | RemotePhoto], ids: Ids, options: SimilarOptions
) -> tuple[Float32, dict[int, str], int]:
    """Vectors (m, d) of unit length, why some photos have none, and how many were not in the cache."""
    kind = {**as_fields(pool.features.origins), "views": list(pool.features.views)}
    source = FeatureSource([kind], PredictOptions(device=options.device))
    Q = np.zeros((len(paths), pool.features.dim), np.float32)
    rejects: dict[int, str] = {}
    embedded = 0
    for batch in source.vectors(list(paths), (pool.cache, ids)):
        Q[batch.indices] = batch.X[0][0]
        rejects |= {reject.index: reject.reason for reject in batch.rejects}
        embedded += 0 if batch.cached else len(batch.indices)
    return to_unit(Q, [width for _, width in pool.features.blocks]), dict(sorted(rejects.items())), embedded


def _others(pool: Pool, found: Nearest, photo: Path | RemotePhoto, count: int) -> tuple[Similar, ...]:
    """What was found, but for the photo itself."""
    own = _place(photo)
    rows = [
        (int(i), float(cosine))
        for i, cosine in zip(found.rows, found.cosine, strict=True)
        if _place(pool.paths[int(i)]) != own
    ]
    return tuple(
        Similar(pool.names[i], pool.paths[i], cosine, {name: cells[i] for name, cells in pool.cells.items()})
        for i, cosine in rows[:count]
    )


def _place(photo: Path | RemotePhoto) -> str:
    """Where a photo lies, whatever way it was named."""
    return str(photo.parent.resolve() / photo.name if isinstance(photo, Path) else photo)
