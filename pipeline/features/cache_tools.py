"""Catalogue-aware work on the cache: export in a catalogue's order, and which rows a catalogue still names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cache import FeatureCache
from cache.export import ExportReport, Selection, export_h5, export_npz
from pipeline.arrays import Ids
from pipeline.catalogue import read_catalogue
from pipeline.errors import OptionError
from pipeline.features.contents.ids import content_ids
from pipeline.features.selection import CachedFeatures, open_cache
from pipeline.features.vectors.joined import JoinedFeatures, join_features
from pipeline.features.vectors.origin import Origin, origins_of
from pipeline.options import CacheKeyOptions, DataOptions, ExportOptions
from pipeline.options.forms.words import changed


def export(
    data: DataOptions, key: CacheKeyOptions, options: ExportOptions, model: Mapping[str, Any] | None = None
) -> ExportReport:
    """One plain .h5 or .npz file: `features` (n, d) and `filename` (n,), one row per catalogue photo in its order.

    Without a catalogue every content that has all that is written is a row, named by content id.

    Args:
        data: The catalogue, or nothing.
        key: Which cache key, where the cache holds several; a model names its own.
        options: What is written, and where.
        model: A read model file: `features` (n, v d) is what it takes, for each of its v views its blocks in order.

    Raises:
        OptionError: The file's ending is neither, vectors are missing, or the cache has none that the model takes.
    """
    writers = {".h5": export_h5, ".hdf5": export_h5, ".npz": export_npz}
    write = writers.get(options.out.suffix.lower())
    if write is None:
        raise OptionError(f"--out is {options.out.name!r}; expected a name ending in .h5 or .npz")
    cache = open_cache(options.cache)
    catalogue = None if data.data is None else read_catalogue(data)
    ids, problems = content_ids(cache, [] if catalogue is None else catalogue.paths)
    if model is None:
        features = join_features(cache, key, ids, (options.use, (options.view,)))
    else:
        _require_nothing_else(key, options)
        features = features_of_model(cache, model)
    reader, infos = features.reader(cache), features.infos
    selection = Selection()
    if catalogue is not None:
        rejected = set(problems).union(*(cache.files.rejected(ids, info.digest) for info in infos))
        rows = np.array([i for i in range(len(ids)) if i not in rejected], np.intp)
        selection = Selection(ids[rows], [catalogue.filenames[i] for i in rows])
    report = write(reader, selection, options.out)
    asked = len(ids)
    if catalogue is None:
        stored = [cache.reader(info.digest).ids(column) for info in infos for column in info.columns]
        asked = len(np.unique(np.concatenate(stored)))
    return replace(report, left_out=asked - report.rows, notes=features.notes)


def features_of_model(cache: FeatureCache, model: Mapping[str, Any]) -> JoinedFeatures:
    """The cached columns that a model was fitted on, by the digests of their blocks.

    Raises:
        OptionError: A backbone's are in no cache key; it names the command that extracts them.
    """
    views = [str(view) for view in model["views"]]
    kinds = []
    for origin in origins_of(model):
        found = _cached_kind(cache, origin, views)
        if found is None:
            blocks = ",".join(str(block["name"]) for block in origin.blocks)
            raise OptionError(
                f"{cache.root} lacks vectors that the model was fitted on ({origin}: {blocks}; views "
                f"{','.join(views)}). Run: {origin.extract_command(views)} (with the same --data and --cache)"
            )
        kinds.append(found)
    return JoinedFeatures(tuple(kinds))


def cached_features_of(cache: FeatureCache, model: Mapping[str, Any]) -> JoinedFeatures | None:
    """The cached columns that a model was fitted on, by the digests of their blocks; None where some have no key."""
    views = [str(view) for view in model["views"]]
    kinds = [_cached_kind(cache, origin, views) for origin in origins_of(model)]
    found = tuple(kind for kind in kinds if kind is not None)
    return JoinedFeatures(found) if len(found) == len(kinds) else None


def _cached_kind(cache: FeatureCache, origin: Origin, views: Sequence[str]) -> CachedFeatures | None:
    wanted = [(str(block["name"]), str(block["digest"])) for block in origin.blocks]
    infos = cache.keys()
    for info in infos:
        there = {(c.block.name, c.block.digest(info.key), c.view): c for c in info.columns}
        columns = [[there.get((name, digest, view)) for name, digest in wanted] for view in views]
        if all(column is not None for view in columns for column in view):
            return CachedFeatures(info, tuple(tuple(c for c in view if c is not None) for view in columns))
    return None


def _require_nothing_else(key: CacheKeyOptions, options: ExportOptions) -> None:
    asked = [name for name in ("use", "view") if getattr(options, name) != getattr(ExportOptions(), name)]
    asked += list(changed(key))
    if asked:
        raise OptionError(f"--model says which vectors are written; leave out {', '.join(f'--{n}' for n in asked)}")


def ids_of_catalogue(cache: FeatureCache, data: DataOptions) -> Ids:
    """Content ids (S32) of every photo a catalogue names; OptionError when one cannot be read."""
    paths = read_catalogue(data).paths
    ids, problems = content_ids(cache, paths)
    if problems:
        first = min(problems)
        raise OptionError(
            f"{len(problems)} photo(s) of {data.data} cannot be read (first: {paths[first]}, {problems[first]}), "
            "so their rows are not known; make them readable or take them out of the catalogue"
        )
    return ids
