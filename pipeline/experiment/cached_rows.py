"""Photos of a catalogue whose vectors are in the cache: both joined, before there is a split."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cache import FeatureCache
from pipeline.arrays import Float32, Ids, Int64, Positions, Vectors
from pipeline.catalogue import LARGEST_GROUP, Catalogue, Finding, groups_of, join_groups, named_products, read_catalogue
from pipeline.errors import OptionError, RunError, counted
from pipeline.experiment.kinds.stored import StoredVectors
from pipeline.features.contents.ids import content_ids
from pipeline.features.near_duplicates import all_pairs, check_cosine, words_beyond
from pipeline.features.selection import CachedFeatures, open_cache
from pipeline.features.vectors.joined import JoinedFeatures, join_features
from pipeline.features.vectors.origin import origins_of
from pipeline.machine import memory_limit
from pipeline.options import CacheKeyOptions, DataOptions, FitOptions, SplitOptions, grouping
from pipeline.system import parsed, read_text

_MOST_BYTES = 2**28
"""Largest run.json that is read."""


@dataclass(frozen=True, eq=False)
class CachedRows:
    """Photos whose vectors are all there; n rows in catalogue order.

    Attributes:
        ids: Content ids, S32.
        groups: int64, photos of one product.
        findings: The catalogue's, and what was dropped.
    """

    catalogue: Catalogue
    vectors: StoredVectors
    ids: Ids
    groups: Int64
    findings: tuple[Finding, ...]

    @property
    def features(self) -> JoinedFeatures:
        """What the vectors are made of."""
        return self.vectors.features

    def read(self) -> Float32:
        """Vectors (n, d) of the first view."""
        return self.vectors.read_first_view(self.ids)


def cached_rows(data: DataOptions, cache_key: CacheKeyOptions, split: SplitOptions, options: FitOptions) -> CachedRows:
    """Catalogue and cache joined. Photos that `extract` rejected are dropped and reported.

    Raises:
        OptionError: Vectors are missing (with the command that makes them).
    """
    check_cosine(split.near_duplicates)
    if split.regroup and not split.near_duplicates:
        raise OptionError("--regroup needs the cosine from which photos belong together, but --near-duplicates is 0")
    cache = open_cache(options.cache)
    catalogue = read_catalogue(data, grouping(split.group_column, split.group_regex))
    ids, problems = content_ids(cache, catalogue.paths)
    readable = np.ones(len(ids), bool)
    readable[list(problems)] = False
    own = _cache_keys_of(split.split_from)
    features = join_features(cache, cache_key, ids[readable], (options.use, options.views), own)
    taken = tuple(Finding("kind-of-vectors", "", note) for note in features.notes)
    there, dropped = in_cache(catalogue, cache, features, ids, problems)
    catalogue, ids = catalogue.take(there), ids[there]
    products = named_products(catalogue.filenames, split.group_regex, catalogue.groups)
    groups = groups_of(catalogue.filenames, None, products, ids)
    catalogue = replace(catalogue, groups=products)
    if split.regroup:
        limit = memory_limit(options.memory)
        groups = _regroup(groups, ids, partial(features.read_pooled, cache, limit=limit), split.near_duplicates)
        if words := words_beyond(len(ids), len(ids)):
            taken += (Finding("not-all-compared", "", words),)
    return CachedRows(catalogue, StoredVectors(cache, features), ids, groups, (*catalogue.findings, *taken, *dropped))


def _cache_keys_of(run: Path | None) -> tuple[Mapping[str, Any], ...]:
    """The cache keys of the vectors that a run was fit on; none for what is no run folder."""
    info = None if run is None else run / "run.json"
    if info is None or not info.is_file():
        return ()
    with parsed(RunError, f"{info} cannot be read (", "); name the split.csv beside it with --split-from"):
        content = json.loads(read_text(info, _MOST_BYTES))
        return tuple(origin.cache_key for origin in origins_of(content)) if isinstance(content, dict) else ()


def in_cache(
    catalogue: Catalogue, cache: FeatureCache, features: JoinedFeatures, ids: Ids, problems: Mapping[int, str]
) -> tuple[Positions, tuple[Finding, ...]]:
    """Rows whose vectors are all there, and a finding per photo that cannot have one.

    Args:
        catalogue: Photos, n of them.
        cache: Where the vectors are.
        features: Which ones.
        ids: Content ids, S32 (n,).
        problems: Photos that have none because they could not be read, by row.

    Raises:
        OptionError: A photo that could have vectors has none; with the command that makes them.
    """
    have, reasons = np.ones(len(ids), bool), dict(problems)
    for kind in features.kinds:
        of_kind = JoinedFeatures((kind,)).reader(cache).contains(ids)
        absent = np.flatnonzero(~of_kind)
        reasons = {
            int(absent[i]): why for i, why in cache.files.rejected(ids[absent], kind.info.digest).items()
        } | reasons
        _require_the_rest(catalogue, kind, [int(i) for i in absent if int(i) not in reasons])
        have &= of_kind
    findings = tuple(Finding("rejected", catalogue.filenames[i], why) for i, why in sorted(reasons.items()))
    return np.flatnonzero(have), findings


def _require_the_rest(catalogue: Catalogue, kind: CachedFeatures, lost: Sequence[int]) -> None:
    """OptionError for rows that have no vectors of a kind, and could have."""
    if lost:
        have_none = (
            f"{counted(len(catalogue), 'photo')} {'has' if len(lost) == 1 else 'have'} no vectors in the cache yet"
        )
        labels = any(finding.kind == "labels-new-photo" for finding in catalogue.findings)
        raise OptionError(
            f"{len(lost)} of {have_none} (first: {catalogue.filenames[lost[0]]}). Run: {kind.extract_command}"
            f"{', and with the same --labels' if labels else ''}"
        )


def first_of_each(ids: Ids) -> Positions:
    """Positions, ascending, of the first row of each content id, S32 (n,)."""
    return np.sort(np.unique(ids, return_index=True)[1])


def _regroup(groups: Int64, ids: Ids, pooled: Callable[[Ids], Vectors], cosine: float) -> Int64:
    """Groups joined over near-duplicates.

    Args:
        groups: int64 (n,).
        ids: Content ids, S32 (n,).
        pooled: Gives the pooled vectors of contents.
        cosine: From which two of these are near.

    Raises:
        OptionError: One group becomes too large for a fair split.
    """
    rows = first_of_each(ids)
    pairs = all_pairs(pooled(ids[rows]), cosine)
    joined = join_groups(groups, ((rows[block.first], rows[block.second]) for block in pairs))
    before, after = (int(np.bincount(numbers).max(initial=0)) for numbers in (groups, joined))
    if before < after and after > LARGEST_GROUP * len(ids):
        raise OptionError(
            f"--regroup joins {after} of {len(ids)} photos into one group (cosine >= {cosine:g}, each like the next), "
            f"more than {LARGEST_GROUP:.0%}: no fair split; raise --near-duplicates, or leave out --regroup"
        )
    return joined
