"""Cached vectors of one kind, or of several side by side: which columns they are, and the reader of them.

A kind is one base key of the cache: one backbone, its weights, its size. X is made of the kinds in the order in which
they were named, each with its blocks in their order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cache import FeatureCache, JoinedReader, KeyInfo, Reader
from pipeline.arrays import Ids, Vectors
from pipeline.errors import OptionError
from pipeline.features.backbone.blocks import BLOCKS, PIXEL_BLOCKS
from pipeline.features.selection import (
    CachedFeatures,
    common_blocks,
    describe,
    extract_command,
    features_of,
    has_all,
    read_pooled,
    select_key,
)
from pipeline.features.vectors.origin import Origin
from pipeline.options import CacheKeyOptions


@dataclass(frozen=True)
class JoinedFeatures:
    """Where to read X.

    Attributes:
        kinds: The columns of each base key, all in the same views.
    """

    kinds: tuple[CachedFeatures, ...]

    @property
    def dim(self) -> int:
        """Width of X."""
        return sum(kind.dim for kind in self.kinds)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views, in the order of X."""
        return self.kinds[0].views

    @property
    def blocks(self) -> tuple[tuple[str, int], ...]:
        """Name and width of what stands side by side in X."""
        return tuple((column.block.name, column.block.dim) for kind in self.kinds for column in kind.columns[0])

    @property
    def notes(self) -> tuple[str, ...]:
        """Why these keys, where the cache holds others that fit."""
        return tuple(kind.note for kind in self.kinds if kind.note)

    @property
    def origins(self) -> tuple[Origin, ...]:
        """What files say of the backbones."""
        return tuple(
            Origin(
                kind.info.key.to_json(),
                str(kind.info.notes.get("weights_source", "")),
                tuple(
                    {"name": c.block.name, "dim": c.block.dim, "digest": c.block.digest(kind.info.key)}
                    for c in kind.columns[0]
                ),
            )
            for kind in self.kinds
        )

    def __str__(self) -> str:
        """The kinds, each with its blocks."""
        return "; ".join(
            f"{describe(kind.info)}: {', '.join(c.block.name for c in kind.columns[0])}" for kind in self.kinds
        )

    @property
    def infos(self) -> tuple[KeyInfo, ...]:
        """What the cache says of each base key."""
        return tuple(kind.info for kind in self.kinds)

    def read_pooled(self, cache: FeatureCache, ids: Ids, limit: int) -> Vectors:
        """Pooled vectors, of the first kind that uses them (else of the first); see `selection.read_pooled`."""
        with_pooled = (kind for kind in self.kinds if any(c.block.name == "pooled" for c in kind.columns[0]))
        return read_pooled(cache, next(with_pooled, self.kinds[0]).info, ids, limit)

    def take(self, positions: Sequence[int]) -> JoinedFeatures:
        """Some of the kinds."""
        return JoinedFeatures(tuple(self.kinds[position] for position in positions))

    def span(self, position: int) -> tuple[int, int]:
        """First and last column, exclusive, that one kind has in X."""
        start = sum(kind.dim for kind in self.kinds[:position])
        return start, start + self.kinds[position].dim

    def readers(self, cache: FeatureCache) -> tuple[JoinedReader, ...]:
        """What reads X, (n, d), per view."""
        of_kinds = self._readers(cache)
        return tuple(
            JoinedReader([(reader, kind.columns[view]) for reader, kind in of_kinds]) for view in range(len(self.views))
        )

    def reader(self, cache: FeatureCache) -> JoinedReader:
        """What reads X of all views, one after the other: (n, v d)."""
        of_kinds = self._readers(cache)
        views = range(len(self.views))
        return JoinedReader([(reader, kind.columns[view]) for view in views for reader, kind in of_kinds])

    def _readers(self, cache: FeatureCache) -> list[tuple[Reader, CachedFeatures]]:
        return [(cache.reader(kind.info.digest), kind) for kind in self.kinds]


def join_features(
    cache: FeatureCache,
    wanted: CacheKeyOptions,
    ids: Ids,
    asked: tuple[Sequence[str], Sequence[str]],
    own: Sequence[Mapping[str, Any]] = (),
) -> JoinedFeatures:
    """The base keys that `wanted` and the photos name, and their columns.

    Of several keys, each gives those of the blocks asked for that it has for all photos, in every view; a block that is
    computed from the pixels alone is taken from the first that has it.

    Args:
        cache: Where to look.
        wanted: What the keys must be, as far as it was said.
        ids: Content ids of the catalogue's photos, S32 (n,).
        asked: Names of blocks, none for all that are cached; names of views.
        own: The cache keys, as run.json has them, of the run whose split is taken.

    Raises:
        OptionError: As `select_key` does; a block or view was not extracted; two of several are one key; or one has
            none of the blocks for all photos.
    """
    found = [select_key(cache, kind, ids, asked, own) for kind in wanted.kinds()]
    if len(found) == 1:
        return JoinedFeatures((features_of(cache, *found[0], ids, asked),))
    digests = [info.digest for info, _ in found]
    if repeated := [info for info, _ in found if digests.count(info.digest) > 1]:
        raise OptionError(f"{describe(repeated[0])} is named twice; name other vectors to stand beside it")
    of_pixels: set[str] = set()
    joined = []
    for info, note in found:
        names = _blocks_of(cache, info, ids, asked, of_pixels)
        of_pixels |= {name for name in names if name in PIXEL_BLOCKS}
        joined.append(features_of(cache, info, note, ids, (names, asked[1])))
    _require_each(asked[0], joined)
    return JoinedFeatures(tuple(joined))


def _blocks_of(
    cache: FeatureCache, info: KeyInfo, ids: Ids, asked: tuple[Sequence[str], Sequence[str]], taken: Collection[str]
) -> list[str]:
    """The blocks that one of several keys gives, beside those that another one has given for all."""
    blocks, views = asked
    names = blocks or common_blocks(cache, info, ids, views)
    given = [name for name in names if name not in taken and has_all(cache, info, ids, ([name], views))]
    if given:
        return given
    options = f"--features {','.join(blocks) or 'pooled'} --views {','.join(views)}"
    raise OptionError(
        f"{describe(info)} has none of the blocks {', '.join(blocks or BLOCKS)} for all these photos in every view. "
        f"Run: {extract_command(info, options)}"
    )


def _require_each(blocks: Sequence[str], joined: Sequence[CachedFeatures]) -> None:
    """OptionError for a block that was asked for and that none of the keys has for all photos."""
    there = {column.block.name for kind in joined for column in kind.columns[0]}
    if absent := [name for name in blocks if name not in there]:
        first = joined[0]
        options = f"--features {','.join(blocks)} --views {','.join(first.views)}"
        raise OptionError(
            f"none of the {len(joined)} kinds of vectors has the block {absent[0]!r} of all these photos in every "
            f"view. Run: {extract_command(first.info, options)}"
        )
