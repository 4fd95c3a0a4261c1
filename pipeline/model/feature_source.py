"""The vectors that models take, of any number of photos: out of the cache where it has them, else computed.

Models that were fitted on vectors of one backbone share one pass over the photos. The backbone is built again from what
a model file says about its features, and every field of its key is compared before a single photo is read: vectors of
another network, size or resize mode would give confident nonsense.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.arrays import Float32, Ids, Int64, Positions
from pipeline.errors import BackboneError, ModelFileError
from pipeline.options import BackboneOptions, PredictOptions

if TYPE_CHECKING:
    from cache import BaseKey, FeatureCache
    from pipeline.features.backbone.network import Backbone
    from pipeline.features.batch import Reject
    from pipeline.features.embed import Embedder
    from pipeline.features.sources import Source

Model = Mapping[str, Any]

TOLERATED = ("precision",)
"""Fields of the key that may differ with no more than a note: the class of arithmetic."""

Cached = tuple["FeatureCache", Ids]

CHUNK = 1024
"""Rows read from the cache at a time."""


@dataclass(frozen=True)
class VectorBatch:
    """Vectors of some photos.

    Attributes:
        indices: Positions among the photos, int64 (b,).
        X: Per model, float32 (v, b, d): its views, its blocks side by side.
        rejects: Photos without vectors.
        cached: Whether they came out of the cache.
    """

    indices: Int64
    X: tuple[Float32, ...]
    rejects: tuple[Reject, ...] = ()
    cached: bool = False


class FeatureSource:
    """What gives models of one cache key their vectors. Safe to be used by several threads at once.

    Backbone and runtime are built once, by whichever thread is first; see `pipeline.features.embed` for how calls share
    the runtime.

    Args:
        models: Checked model dicts with one cache key.
        options: Where the weights are, device, runtime, batch size and workers.
    """

    def __init__(self, models: Sequence[Model], options: PredictOptions) -> None:
        self.models, self.options = tuple(models), options
        self._lock = threading.RLock()
        self._backbone: Backbone | None = None
        self._embedder: Embedder | None = None

    @property
    def blocks(self) -> tuple[str, ...]:
        """Every block that one of the models takes."""
        return tuple(dict.fromkeys(block["name"] for model in self.models for block in model["blocks"]))

    @property
    def views(self) -> tuple[str, ...]:
        """Every view that one of the models takes."""
        return tuple(dict.fromkeys(view for model in self.models for view in model["views"]))

    @property
    def backbone(self) -> Backbone:
        """The backbone of the models' features.

        Raises:
            ModelFileError: it is another one than a model was fitted on; with every field that differs.
            BackboneError: it or its weights cannot be had.
        """
        with self._lock:
            if self._backbone is None:
                self._backbone = _load(self.models, self.options)
            return self._backbone

    @property
    def embedder(self) -> Embedder:
        """The backbone in its runtime. Raises as `backbone` does."""
        with self._lock:
            if self._embedder is None:
                from pipeline.features.embed import Embedder, EmbedOptions

                asked = self.options
                feeding = EmbedOptions(asked.device, asked.runtime, self._precision, asked.batch_size, asked.workers)
                self._embedder = Embedder(self.backbone, self.blocks, self.views, feeding)
            return self._embedder

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user of these vectors should know about the backbone, once it has been built or read of."""
        wanted, found = self.models[0], []
        if wanted["weights_source"].startswith("random:"):
            found.append("the backbone has RANDOM weights: these predictions mean nothing")
        if self._embedder is not None and self._precision != wanted["cache_key"].get("precision"):
            found.append(
                f"fitted on {wanted['cache_key'].get('precision')} vectors, predicted from {self._precision}"
                " ones; probabilities may differ in the third decimal"
            )
        if self._embedder is not None and self._embedder.runtime.note:
            found.append(self._embedder.runtime.note)
        return tuple(found)

    def vectors(self, photos: Sequence[Source], cached: Cached | None = None) -> Generator[VectorBatch, None, None]:
        """Vectors of photos, batch by batch: those in the cache first, the others in their order.

        Close it when it is left before its end.

        Args:
            photos: The photos.
            cached: A cache, and the content ids of the photos, S32 (n,); without it, all are computed.

        Raises:
            BackboneError, ModelFileError, OptionError: the backbone or its runtime cannot be had.
            CacheError: a shard is damaged.
        """
        left = np.ones(len(photos), np.bool_)
        for batch in () if cached is None else self._from_cache(*cached):
            left[batch.indices] = False
            left[[reject.index for reject in batch.rejects]] = False
            yield batch
        at = np.flatnonzero(left)
        if not len(at):
            return
        with contextlib.closing(self.embedder([photos[i] for i in at.tolist()])) as batches:
            for made in batches:
                rejects = tuple(replace(reject, index=int(at[reject.index])) for reject in made.rejects)
                yield VectorBatch(at[made.indices], self._of_each(made.features), rejects)

    def _from_cache(self, cache: FeatureCache, ids: Ids) -> Iterator[VectorBatch]:
        """Vectors of those contents of which the cache has all that the models take, in chunks; rejects it knows."""
        from pipeline.features.cache_tools import cached_features_of

        features = [each for model in self.models if (each := cached_features_of(cache, model)) is not None]
        if len(features) < len(self.models):
            return
        readers = [cache.reader(each.info.digest) for each in features]
        have = np.ones(len(ids), np.bool_)
        for reader, each in zip(readers, features, strict=True):
            for column in (column for columns in each.columns for column in columns):
                have &= reader.contains(ids, column)
        there = np.flatnonzero(have)
        for at in (there[start : start + CHUNK] for start in range(0, len(there), CHUNK)):
            X = tuple(
                np.stack([np.asarray(reader.read(ids[at], columns), np.float32) for columns in each.columns])
                for reader, each in zip(readers, features, strict=True)
            )
            yield VectorBatch(at, X, cached=True)
        rejects = _known_rejects(cache, ids, np.flatnonzero(~have))
        if rejects:
            none = tuple(np.zeros((len(each.columns), 0, each.dim), np.float32) for each in features)
            yield VectorBatch(np.zeros(0, np.int64), none, rejects, cached=True)

    def _of_each(self, features: Mapping[tuple[str, str], Float32]) -> tuple[Float32, ...]:
        return tuple(
            np.stack(
                [
                    np.concatenate([features[block["name"], view] for block in model["blocks"]], axis=1)
                    for view in model["views"]
                ]
            )
            for model in self.models
        )

    @cached_property
    def _precision(self) -> str:
        from pipeline.system import choose_device

        half = self.models[0]["cache_key"].get("precision") == "half"
        return "half" if half and choose_device(self.options.device) == "cuda" else "fp32"


def grouped(models: Sequence[Model], options: PredictOptions) -> Iterator[tuple[list[int], FeatureSource]]:
    """Models by the vectors they share: positions of some of them, and what serves these."""
    keys = [tuple(sorted((name, str(value)) for name, value in model["cache_key"].items())) for model in models]
    for key in dict.fromkeys(keys):
        at = [i for i, other in enumerate(keys) if other == key]
        yield at, FeatureSource([models[i] for i in at], options)


def _known_rejects(cache: FeatureCache, ids: Ids, absent: Positions) -> tuple[Reject, ...]:
    """Photos without vectors because of their content, as `extract` has found; what only a limit kept out is left."""
    from pipeline.features.backbone.decoding import TOO_MANY_PIXELS
    from pipeline.features.batch import Reject

    reasons = cache.files.rejected(ids[absent])
    return tuple(
        Reject(int(absent[at]), bytes(ids[absent[at]]), why)
        for at, why in reasons.items()
        if not why.startswith(TOO_MANY_PIXELS)
    )


def check_cache_key(wanted: Mapping[str, Any], found: BaseKey) -> None:
    """Raises ModelFileError naming each field of the model's key that `found` does not share, with both values."""
    have = found.to_json()
    fields = [name for name in {**wanted, **have} if name not in TOLERATED]
    wrong = [
        f"{name}: fitted on {wanted.get(name)!r}, found {have.get(name)!r}"
        for name in fields
        if wanted.get(name) != have.get(name)
    ]
    if wrong:
        raise ModelFileError(f"the model needs vectors of another backbone or transform ({'; '.join(wrong)})")


def _load(models: Sequence[Model], options: PredictOptions) -> Backbone:
    from pipeline.features.backbone.network import base_key, load_backbone

    wanted = models[0]["cache_key"]
    source = models[0]["weights_source"] if options.weights is None else str(options.weights)
    try:
        asked = BackboneOptions(wanted["architecture"], source, int(wanted["size"]), wanted["fit"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"the model's cache_key does not name its backbone ({error})") from error
    try:
        backbone = load_backbone(asked)
    except BackboneError as error:
        raise BackboneError(f"{error}. The model needs these weights; name a copy of them with --weights") from error
    for model in models:
        check_cache_key(model["cache_key"], base_key(backbone))
        _check_blocks(model, backbone, base_key(backbone))
    return backbone


def _check_blocks(model: Model, backbone: Backbone, key: BaseKey) -> None:
    """A block's digest covers the key, so it is taken under the precision the model was fitted with."""
    key = replace(key, precision=model["cache_key"].get("precision", key.precision))
    found = backbone.blocks([block["name"] for block in model["blocks"]])
    for block in model["blocks"]:
        mine = found[block["name"]]
        if (mine.dim, mine.digest(key)) != (block["dim"], block["digest"]):
            raise ModelFileError(
                f"the model was fitted on another block {block['name']!r}: {block['dim']} numbers, digest"
                f" {block['digest'][:12]}; this backbone gives {mine.dim}, digest {mine.digest(key)[:12]}"
            )
