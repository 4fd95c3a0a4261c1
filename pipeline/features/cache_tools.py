"""Catalogue-aware work on the cache: export in a catalogue's order, and which rows a catalogue still names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from cache import FeatureCache
from cache.export import ExportReport, Selection, export_h5, export_npz
from pipeline.catalogue import read_catalogue
from pipeline.errors import OptionError
from pipeline.features.selection import open_cache, select_features
from pipeline.options import CacheKeyOptions, DataOptions, ExportOptions


def export(data: DataOptions, key: CacheKeyOptions, options: ExportOptions) -> ExportReport:
    """One plain .h5 or .npz file: `features` (n, d) and `filename` (n,), one row per catalogue photo in its order.

    Without a catalogue every cached row is written, named by content id. Raises OptionError when the file's ending
    is neither, or vectors are missing.
    """
    writers = {".h5": export_h5, ".hdf5": export_h5, ".npz": export_npz}
    write = writers.get(options.out.suffix.lower())
    if write is None:
        raise OptionError(f"--out is {options.out.name!r}; expected a name ending in .h5 or .npz")
    cache = open_cache(options.cache)
    nothing = np.empty(0, "S32")
    if data.data is None:
        features = select_features(cache, key, nothing, (options.use, (options.view,)))
        selection = Selection(features.columns[0])
    else:
        catalogue = read_catalogue(data)
        ids, problems = cache.files.ids([Path(path) for path in catalogue.paths])
        features = select_features(cache, key, ids, (options.use, (options.view,)))
        rejected = set(cache.files.rejected(ids, features.info.digest)) | set(problems)
        rows = np.array([i for i in range(len(ids)) if i not in rejected], np.intp)
        selection = Selection(features.columns[0], ids[rows], [catalogue.filenames[i] for i in rows])
    return write(cache.reader(features.info.digest), selection, options.out)


def ids_of_catalogue(cache: FeatureCache, data: DataOptions) -> npt.NDArray[np.bytes_]:
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
