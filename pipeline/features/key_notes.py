"""What a cache key's folder says of its vectors besides the key: where the weights came from, and what trained them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from cache import BaseKey, CacheError, FeatureCache, IdIndex, Writer, WriterOptions
from pipeline.features.backbone.network import Backbone
from pipeline.features.selection import weights_sources
from pipeline.options import ExtractOptions


def is_written_down(cache: FeatureCache, key: BaseKey, backbone: Backbone) -> bool:
    """Whether the cache knows where the weights came from this time, and what trained them.

    Vectors made from another copy of the same weights may come without either.
    """
    notes, provenance = _notes(cache, key), backbone.provenance
    if notes and backbone.weights_source not in weights_sources(notes):
        return False
    if not provenance:
        return True
    try:
        written = {name: IdIndex(cache.attached_ids(key.digest, name)) for name in provenance.lists}
    except CacheError:  # damaged: the weights file still has it
        return False
    return all((written[name].find(ids) >= 0).all() for name, ids in provenance.lists.items())


@contextlib.contextmanager
def key_writer(cache: FeatureCache, key: BaseKey, backbone: Backbone, options: ExtractOptions) -> Iterator[Writer]:
    """A writer of the key; which photos trained the weights is written down before any vector is.

    Raises:
        CacheBusy: The key is compacted, pruned or repaired for longer than `options.wait`.
    """
    source = backbone.weights_source
    sources = list(dict.fromkeys([*weights_sources(_notes(cache, key)), source]))
    # Weights that were ever drawn at random are random, whatever file they are given as now.
    random = any(each.startswith("random:") for each in sources)
    notes = {"weights_source": source, "weights_sources": sources, "random_weights": random}
    if backbone.provenance:
        notes |= backbone.provenance.note()
    storage = WriterOptions(dtype=options.dtype)
    with cache.writer(key, notes=notes, wait=options.wait, options=storage) as writer:
        if backbone.provenance:
            for name, ids in backbone.provenance.lists.items():
                writer.attach_ids(name, ids)
        yield writer


def _notes(cache: FeatureCache, key: BaseKey) -> Mapping[str, Any]:
    try:
        return cache.reader(key.digest).notes
    except CacheError:
        return {}
