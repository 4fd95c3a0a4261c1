"""A worker: loads the backbone once, turns orders into committed shards. It knows of no cluster."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cache import CacheError, Column, FeatureCache
from pipeline.arrays import Float32, Ids, Int64
from pipeline.cluster.messages import Order, Receipt, Setup, Started, Trouble
from pipeline.errors import BackboneError, PipelineError
from pipeline.features.backbone.network import base_key, load_backbone
from pipeline.features.batch import Contents
from pipeline.features.contents.fresh import FreshContents, lacking_in
from pipeline.features.embed import Embedder
from pipeline.features.engines.engine import Refused, embed_options, storable
from pipeline.features.engines.local import described


class Worker:
    """Computes orders, one at a time.

    Args:
        setup: What is computed, and where it is written.
        share: Which of how many workers of this machine it is; with others it keeps to its own processor cores.
    """

    def __init__(self, setup: Setup, share: tuple[int, int] = (0, 1)) -> None:
        self.setup = setup
        self.embedder: Embedder | None = None
        self._fresh: FreshContents | None = None
        _keep_to_cores(*share)

    def start(self) -> Started | Trouble:
        """Load the backbone and compile it."""
        try:
            backbone = load_backbone(self.setup.backbone)
            key, wanted = base_key(backbone, self.setup.options.precision), self.setup.committer.base
            if key != wanted:
                raise BackboneError(
                    f"this machine's {backbone.name} has key {key.digest[:16]}, expected {wanted.digest[:16]}: other "
                    "weights or another version of timm or Pillow; install the same on every machine"
                )
            self._backbone = backbone
            embedder = self._embedder(self.setup.blocks, self.setup.views)
        except (PipelineError, CacheError) as error:
            return _trouble(error)
        return Started(described(embedder), embedder.runtime.note)

    def compute(self, order: Order) -> Receipt | Trouble:
        """Do one order and commit it: nothing of it is in the cache before, all of it afterwards."""
        try:
            return self._compute(order)
        except (PipelineError, CacheError) as error:
            return _trouble(error)

    def _compute(self, order: Order) -> Receipt:
        began = time.perf_counter()
        embedder = self._embedder(order.blocks, order.views)
        before = _seconds(embedder)
        made = _made(embedder, order, self._wanted() if order.fresh else None)
        took = {name: value - before[name] for name, value in _seconds(embedder).items()}
        written = time.perf_counter()
        column_of = {(column.block.name, column.view): column for column in self.setup.columns}
        by_column: dict[Column, Float32] = {column_of[key]: values for key, values in made.features.items()}
        shards = self.setup.committer.commit(order.number, made.ids, by_column)
        now = time.perf_counter()
        took |= {"write": now - written, "wall": now - began}
        contents = made.contents if order.fresh else None
        return Receipt(order.number, shards, made.stored, made.refused, contents, took, described(embedder))

    def _wanted(self) -> FreshContents:
        """Says of photos that nobody has read before which to compute. It does not know what other workers do."""
        if self._fresh is None:
            cache, key = FeatureCache(self.setup.options.cache), self.setup.committer.base.digest
            self._fresh = FreshContents(lacking_in(cache, key, self.setup.columns), self.setup.rejected)
        return self._fresh

    def _embedder(self, blocks: tuple[str, ...], views: tuple[str, ...]) -> Embedder:
        there = self.embedder
        if there is None or (there.blocks, there.views) != (blocks, views):
            self.embedder = there = None  # the memory of one goes before the next is made
            self.embedder = Embedder(self._backbone, blocks, views, embed_options(self.setup.options))
            return self.embedder
        return there


@dataclass(frozen=True)
class _Made:
    """What became of an order's photos, by their positions in it.

    Attributes:
        stored: Those with vectors, int64 (n,).
        ids: Of the bytes decoded, S32 (n,).
        features: Vectors by (block, view), float32 (n, d).
        refused: Those that can have none.
        contents: What each photo holds.
    """

    stored: Int64
    ids: Ids
    features: Mapping[tuple[str, str], Float32]
    refused: list[Refused]
    contents: Contents


def _made(embedder: Embedder, order: Order, wanted: Callable[[bytes], bool] | None) -> _Made:
    positions = np.arange(len(order.photos))
    met, stored, ids, refused = list[Contents](), [positions[:0]], [np.empty(0, "S32")], list[Refused]()
    features: dict[tuple[str, str], list[Float32]] = {}
    with contextlib.closing(embedder(order.photos, wanted)) as coming:
        for batch in coming:
            finite, bad = storable(batch, positions)
            met.append(batch.contents)
            refused += bad
            stored.append(batch.indices[finite])
            ids.append(batch.ids[finite])
            for key, values in batch.features.items():
                features.setdefault(key, []).append(values[finite])
    joined = {key: np.concatenate(parts) for key, parts in features.items()}
    contents = Contents(np.concatenate([each.rows for each in met]), np.concatenate([each.ids for each in met]))
    return _Made(np.concatenate(stored), np.concatenate(ids), joined, refused, contents)


def _seconds(embedder: Embedder) -> dict[str, float]:
    timings = embedder.timings
    return {name: getattr(timings, name) for name in ("read", "decode", "colour", "forward")}


def _trouble(error: Exception) -> Trouble:
    return Trouble(type(error).__name__, f"{error} (on {platform.node()})")


def _keep_to_cores(number: int, count: int) -> None:
    """Keep this process to its share of the cores, so that the threads of several workers do not take turns on them."""
    if count == 1 or not hasattr(os, "sched_setaffinity"):
        return
    mine: Any = sorted(os.sched_getaffinity(0))[number::count]
    if mine:
        os.sched_setaffinity(0, mine)
