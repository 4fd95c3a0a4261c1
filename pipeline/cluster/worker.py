"""A worker: loads the backbone once, turns orders into committed shards. It knows of no cluster."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from cache import CacheError, Column
from pipeline.arrays import Float32, Ids, Int64
from pipeline.cluster.messages import Order, Receipt, Setup, Started, Trouble
from pipeline.errors import BackboneError, PipelineError
from pipeline.features.backbone.network import base_key, load_backbone
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
        stored, refused, ids, features = _embedded(embedder, order)
        took = {name: value - before[name] for name, value in _seconds(embedder).items()}
        written = time.perf_counter()
        column_of = {(column.block.name, column.view): column for column in self.setup.columns}
        by_column: dict[Column, Float32] = {column_of[key]: values for key, values in features.items()}
        shards = self.setup.committer.commit(order.number, ids, by_column)
        now = time.perf_counter()
        took |= {"write": now - written, "wall": now - began}
        return Receipt(order.number, shards, stored, refused, took, described(embedder))

    def _embedder(self, blocks: tuple[str, ...], views: tuple[str, ...]) -> Embedder:
        there = self.embedder
        if there is None or (there.blocks, there.views) != (blocks, views):
            self.embedder = there = None  # the memory of one goes before the next is made
            self.embedder = Embedder(self._backbone, blocks, views, embed_options(self.setup.options))
            return self.embedder
        return there


def _embedded(embedder: Embedder, order: Order) -> tuple[Int64, list[Refused], Ids, Mapping[tuple[str, str], Float32]]:
    """Positions stored, photos refused, ids of the bytes decoded, and vectors, of one order."""
    positions = np.arange(len(order.paths))
    stored, refused, ids = [positions[:0]], list[Refused](), [np.empty(0, "S32")]
    features: dict[tuple[str, str], list[Float32]] = {}
    with contextlib.closing(embedder(order.paths)) as batches:
        for batch in batches:
            finite, bad = storable(batch, positions)
            refused += bad
            stored.append(batch.indices[finite])
            ids.append(batch.ids[finite])
            for key, values in batch.features.items():
                features.setdefault(key, []).append(values[finite])
    joined = {key: np.concatenate(parts) for key, parts in features.items()}
    return np.concatenate(stored), refused, np.concatenate(ids), joined


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
