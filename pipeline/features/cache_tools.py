"""Catalogue-aware work on the cache: export in a catalogue's order, and which rows a catalogue still names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cache import FeatureCache
from cache.export import ExportReport, Selection, export_h5, export_npz
from pipeline.arrays import Ids
from pipeline.catalogue import read_catalogue
from pipeline.errors import OptionError
from pipeline.features.selection import CachedFeatures, open_cache, select_features
from pipeline.options import CacheKeyOptions, DataOptions, ExportOptions
from pipeline.options.words import changed, command


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
    paths = [] if catalogue is None else [Path(path) for path in catalogue.paths]
    ids, problems = cache.files.ids(paths)
    if model is None:
        features = select_features(cache, key, ids, options.use, (options.view,))
    else:
        _require_nothing_else(key, options)
        features = features_of_model(cache, model)
    columns = tuple(column for view in features.columns for column in view)
    reader = cache.reader(features.info.digest)
    selection = Selection(columns)
    if catalogue is not None:
        rejected = set(cache.files.rejected(ids, features.info.digest)) | set(problems)
        rows = np.array([i for i in range(len(ids)) if i not in rejected], np.intp)
        selection = Selection(columns, ids[rows], [catalogue.filenames[i] for i in rows])
    report = write(reader, selection, options.out)
    asked = len(ids)
    if catalogue is None:
        asked = len(np.unique(np.concatenate([reader.ids(column) for column in features.info.columns])))
    notes = (features.note,) if features.note else ()
    return replace(report, left_out=asked - report.rows, notes=notes)


def features_of_model(cache: FeatureCache, model: Mapping[str, Any]) -> CachedFeatures:
    """The cached columns that a model was fitted on, by the digests of their blocks.

    Raises:
        OptionError: No cache key has them all; it names the command that extracts them.
    """
    found = cached_features_of(cache, model)
    if found is not None:
        return found
    views = [str(view) for view in model["views"]]
    made_with = model["cache_key"]
    words = {"backbone": made_with.get("architecture"), "weights": model["weights_source"]}
    words |= {"size": made_with.get("size"), "resize": made_with.get("fit"), "precision": made_with.get("precision")}
    blocks = ",".join(str(block["name"]) for block in model["blocks"])
    raise OptionError(
        f"{cache.root} lacks vectors that the model was fitted on ({blocks}; views {','.join(views)}). Run: "
        f"{command('extract', words)} --features {blocks} --views {','.join(views)} (with the same --data and --cache)"
    )


def cached_features_of(cache: FeatureCache, model: Mapping[str, Any]) -> CachedFeatures | None:
    """The cached columns that a model was fitted on, by the digests of their blocks; None where no key has them all."""
    wanted = [(str(block["name"]), str(block["digest"])) for block in model["blocks"]]
    infos = cache.keys()
    for info in infos:
        there = {(c.block.name, c.block.digest(info.key), c.view): c for c in info.columns}
        columns = [[there.get((name, digest, str(view))) for name, digest in wanted] for view in model["views"]]
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
    paths = [Path(path) for path in read_catalogue(data).paths]
    ids, problems = cache.files.ids(paths)
    if problems:
        first = min(problems)
        raise OptionError(
            f"{len(problems)} photo(s) of {data.data} cannot be read (first: {paths[first]}, {problems[first]}), "
            "so their rows are not known; make them readable or take them out of the catalogue"
        )
    return ids
