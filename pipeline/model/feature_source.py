"""The vectors that models take, of any number of photos: out of the cache where it has them, else computed.

Models that were fitted on vectors of the same backbones share one pass over the photos, which are read once for all of
them. A backbone is built again from what a model file says about its features, and every field of its key is compared
before a single photo is read: vectors of another network, size or resize mode would give confident nonsense.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.arrays import Float32, Ids, Int64, Positions
from pipeline.errors import BackboneError, ModelFileError, OptionError, counted
from pipeline.features.vectors.origin import Origin, origins_of
from pipeline.options import BackboneOptions, PredictOptions

if TYPE_CHECKING:
    from cache import BaseKey, FeatureCache
    from pipeline.features.backbone.network import Backbone
    from pipeline.features.batch import Decoded, Reject
    from pipeline.features.embed import Embedder, EmbedOptions
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
    """What gives models of the same backbones their vectors. Safe to be used by several threads at once.

    Backbones and runtimes are built once, by whichever thread is first; see `pipeline.features.embed` for how calls
    share the runtimes.

    Args:
        models: Checked model dicts with the same cache keys in the same order.
        options: Where the weights are, device, runtime, batch size and workers.
    """

    def __init__(self, models: Sequence[Model], options: PredictOptions) -> None:
        self.models, self.options = tuple(models), options
        self._origins = [origins_of(model) for model in self.models]
        self._lock = threading.RLock()
        self._backbones: tuple[Backbone, ...] | None = None
        self._embedder: Embedder | None = None

    @property
    def views(self) -> tuple[str, ...]:
        """Every view that one of the models takes."""
        return tuple(dict.fromkeys(view for model in self.models for view in model["views"]))

    @property
    def backbones(self) -> tuple[Backbone, ...]:
        """The backbones of the models' features, in their order.

        Raises:
            ModelFileError: one is another than a model was fitted on; with every field that differs.
            BackboneError: one or its weights cannot be had.
            OptionError: `--weights` names as many sources as there are not backbones.
        """
        with self._lock:
            if self._backbones is None:
                given = _given_weights(self.options, self._origins[0])
                of_backbones = zip(zip(*self._origins, strict=True), given, strict=True)
                self._backbones = tuple(_load(origins, weights, self._store) for origins, weights in of_backbones)
            return self._backbones

    @property
    def embedder(self) -> Embedder:
        """The backbones in their runtimes. Raises as `backbones` does."""
        with self._lock:
            if self._embedder is None:
                from pipeline.features.embed import Embedder
                from pipeline.features.runtimes.forward import ForwardPass

                (first, *others), blocks = self.backbones, [self._blocks(i) for i in range(len(self.backbones))]
                beside = [
                    ForwardPass(other, blocks[i], self.views, self._feeding(i)) for i, other in enumerate(others, 1)
                ]
                self._embedder = Embedder(first, blocks[0], self.views, self._feeding(0), beside)
            return self._embedder

    def _blocks(self, backbone: int) -> tuple[str, ...]:
        """Every block of a backbone that one of the models takes."""
        return tuple(dict.fromkeys(str(b["name"]) for origins in self._origins for b in origins[backbone].blocks))

    def _feeding(self, backbone: int) -> EmbedOptions:
        from pipeline.features.embed import EmbedOptions

        asked = self.options
        precision = self._precision(backbone)
        return EmbedOptions(asked.device, asked.runtime, precision, asked.batch_size, asked.workers, store=self._store)

    @property
    def _store(self) -> Path | None:
        """The cache's folder of converted models."""
        return None if self.options.cache is None else self.options.cache / "runtimes"

    def _precision(self, backbone: int) -> str:
        from pipeline.machine import choose_device

        half = self._origins[0][backbone].cache_key.get("precision") == "half"
        return "half" if half and choose_device(self.options.device) == "cuda" else "fp32"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user of these vectors should know about the backbones, once they have been built or read of."""
        several, found = len(self._origins[0]) > 1, []
        for i, origin in enumerate(self._origins[0]):
            made_with, named = origin.cache_key.get("precision"), f"{origin}: " if several else ""
            if origin.random:
                found.append(f"{named}the backbone has RANDOM weights: these predictions mean nothing")
            if self._embedder is not None and self._precision(i) != made_with:
                found.append(
                    f"{named}fitted on {made_with} vectors, predicted from {self._precision(i)} ones; probabilities may"
                    " differ in the third decimal"
                )
        passes = () if self._embedder is None else self._embedder.passes
        return tuple(dict.fromkeys((*found, *(each.runtime.note for each in passes if each.runtime.note))))

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
                yield VectorBatch(at[made.indices], self._of_each((made.features, *made.beside)), rejects)

    def vectors_of(self, photos: Sequence[Decoded]) -> VectorBatch:
        """Vectors of photos that this object's `embedder` has decoded, at the positions that they say.

        Raises:
            BackboneError, ModelFileError, OptionError: the backbone or its runtime cannot be had.
        """
        indices = np.array([photo.index for photo in photos], np.int64)
        return VectorBatch(indices, self._of_each(self.embedder.forward(photos)))

    def _from_cache(self, cache: FeatureCache, ids: Ids) -> Iterator[VectorBatch]:
        """Vectors of those contents of which the cache has all that the models take, in chunks; rejects it knows."""
        from pipeline.features.cache_tools import cached_features_of

        features = [each for model in self.models if (each := cached_features_of(cache, model)) is not None]
        if len(features) < len(self.models):
            return
        readers = [each.readers(cache) for each in features]
        have = np.ones(len(ids), np.bool_)
        for reader in (reader for of_model in readers for reader in of_model):
            have &= reader.contains(ids)
        there = np.flatnonzero(have)
        for at in (there[start : start + CHUNK] for start in range(0, len(there), CHUNK)):
            X = tuple(np.stack([reader.read(ids[at]) for reader in of_model]) for of_model in readers)
            yield VectorBatch(at, X, cached=True)
        rejects = _known_rejects(cache, ids, np.flatnonzero(~have))
        if rejects:
            none = tuple(np.zeros((len(each.views), 0, each.dim), np.float32) for each in features)
            yield VectorBatch(np.zeros(0, np.int64), none, rejects, cached=True)

    def _of_each(self, made: Sequence[Mapping[tuple[str, str], Float32]]) -> tuple[Float32, ...]:
        """Per model its X (v, b, d), of what each backbone made."""
        return tuple(
            np.stack(
                [
                    np.concatenate(
                        [made[i][block["name"], view] for i, origin in enumerate(origins) for block in origin.blocks],
                        axis=1,
                    )
                    for view in model["views"]
                ]
            )
            for model, origins in zip(self.models, self._origins, strict=True)
        )


def grouped(models: Sequence[Model], options: PredictOptions) -> Iterator[tuple[list[int], FeatureSource]]:
    """Models by the backbones they share: positions of some of them, and what serves these."""
    keys = [
        tuple(tuple(sorted((name, str(value)) for name, value in o.cache_key.items())) for o in origins_of(model))
        for model in models
    ]
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


def _given_weights(options: PredictOptions, origins: Sequence[Origin]) -> Sequence[str | None]:
    """Per backbone where its weights are said to be; None where only the model says it."""
    given = options.weights
    if given and len(given) != len(origins):
        needed = "; ".join(map(str, origins))
        raise OptionError(f"--weights names {counted(len(given), 'source')}, the model's backbones are: {needed}")
    return [str(each) for each in given] or [None] * len(origins)


def _load(origins: Sequence[Origin], weights: str | None, store: Path | None) -> Backbone:
    """One backbone that models have in common."""
    from pipeline.features.backbone.network import base_key, load_backbone

    wanted, source = origins[0].cache_key, weights or origins[0].weights_source
    try:
        asked = BackboneOptions(wanted["architecture"], source, int(wanted["size"]), wanted["fit"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"the model's cache_key does not name its backbone ({error})") from error
    try:
        backbone = load_backbone(asked, store)
    except BackboneError as error:
        needed = f"The model needs the weights of {origins[0]}; name a copy of them with --weights"
        raise BackboneError(f"{error}. {needed}") from error
    for origin in origins:
        check_cache_key(origin.cache_key, base_key(backbone))
        _check_blocks(origin, backbone, base_key(backbone))
    return backbone


def _check_blocks(origin: Origin, backbone: Backbone, key: BaseKey) -> None:
    """A block's digest covers the key, so it is taken under the precision the model was fitted with."""
    key = replace(key, precision=origin.cache_key.get("precision", key.precision))
    found = backbone.blocks([block["name"] for block in origin.blocks])
    for block in origin.blocks:
        mine = found[block["name"]]
        if (mine.dim, mine.digest(key)) != (block["dim"], block["digest"]):
            raise ModelFileError(
                f"the model was fitted on another block {block['name']!r}: {block['dim']} numbers, digest"
                f" {block['digest'][:12]}; this backbone gives {mine.dim}, digest {mine.digest(key)[:12]}"
            )
