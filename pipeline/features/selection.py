"""Which cached vectors are meant: one base key, an ordered set of blocks, the views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import Column, FeatureCache, JoinedReader, KeyInfo
from pipeline.arrays import Float32, Ids, Int64, Vectors
from pipeline.errors import OptionError
from pipeline.features.backbone.blocks import BLOCKS
from pipeline.options import VectorKind
from pipeline.options.forms.words import changed, command


@dataclass(frozen=True)
class CachedFeatures:
    """Where to read X: `columns[v]` are the columns of view v, in block order.

    Attributes:
        info: The base key and what the cache says of it.
        columns: Per view, one Column per block.
        note: Why this key, where the cache holds several that fit; "" where it holds one.
    """

    info: KeyInfo
    columns: tuple[tuple[Column, ...], ...]
    note: str = ""

    @property
    def dim(self) -> int:
        """Width of X."""
        return sum(column.block.dim for column in self.columns[0])

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views, in the order of X."""
        return tuple(columns[0].view for columns in self.columns)

    @property
    def extract_command(self) -> str:
        """The command that makes these blocks and views of more photos."""
        blocks = ",".join(column.block.name for column in self.columns[0])
        return extract_command(self.info, f"--features {blocks} --views {','.join(self.views)}")


def open_cache(root: Path) -> FeatureCache:
    """An existing cache; OptionError when there is none, or a folder of other things."""
    if not root.is_dir():
        raise OptionError(f"no embedding cache at {root}; run `{command('extract')}`, or name it with --cache")
    cache = FeatureCache(root)
    if not (cache.is_there() or (root / "runtimes").is_dir()):
        raise OptionError(f"{root} is no embedding cache but {_what_it_is(root)}; name with --cache what extract wrote")
    return cache


def _what_it_is(root: Path) -> str:
    names = sorted(entry.name for entry in root.iterdir())
    if "run.json" in names:
        return "a run folder, whose run.json says which cache it was fit from"
    return f"a folder of other things, such as {names[0]}" if names else "an empty folder"


def select_key(
    cache: FeatureCache,
    wanted: VectorKind,
    ids: Ids,
    asked: tuple[Sequence[str], Sequence[str]],
    own: Sequence[Mapping[str, Any]] = (),
) -> tuple[KeyInfo, str]:
    """The base key that `wanted` and the photos name.

    Of several that fit, the one of the run that this one goes on from, else the newest that has all the photos' vectors
    is taken, and the note says so: an extraction with other settings must not break a command that worked before it.

    Args:
        cache: Where to look.
        wanted: What the cache key must be, as far as it was said.
        ids: Content ids of the catalogue's photos, S32 (n,); a key without any of them is passed over while another has
            some.
        asked: Names of blocks, none for all that are cached; names of views.
        own: The cache keys, as run.json has them, of the run whose split is taken.

    Returns:
        The key and, where the cache holds several that fit, why it is this one.

    Raises:
        OptionError: No key fits (it says which extract command to run), or several fit and none has the vectors of all
            photos (it says in which fields they differ).
    """
    infos = cache.keys()
    fitting = [info for info in infos if _matches(info, wanted)]
    if not fitting:
        there = "; ".join(describe(info) for info in infos) or "nothing"
        raise OptionError(
            f"no cached vectors in {cache.root} fit {_wanted_text(wanted)}; the cache holds: {there}. Run first: "
            f"{command('extract', changed(wanted) | {'cache': cache.root})} --data ..."
        )
    covering = [info for info in fitting if _covers(cache, info, ids)] if len(fitting) > 1 else fitting
    for name in asked[0]:
        if name not in BLOCKS:
            raise OptionError(f"there is no feature block {name!r}; there are {', '.join(BLOCKS)}")
    return _one_of(cache, covering or fitting, ids, asked, own)


def features_of(
    cache: FeatureCache, info: KeyInfo, note: str, ids: Ids, asked: tuple[Sequence[str], Sequence[str]]
) -> CachedFeatures:
    """The columns of a base key.

    Args:
        cache: Where it lies.
        info: The key.
        note: Why it is this one.
        ids: Content ids of the photos, S32 (n,).
        asked: Names of blocks, none for all that are cached; names of views.

    Raises:
        OptionError: A block or view was not extracted.
    """
    blocks, views = asked
    cached, names = _cached_columns(info), tuple(blocks) or common_blocks(cache, info, ids, views)
    return CachedFeatures(info, tuple(_columns_of(info, cached, names, views, view) for view in views), note)


def _cached_columns(info: KeyInfo) -> dict[tuple[str, str], Column]:
    return {(column.block.name, column.view): column for column in info.columns}


def _one_of(
    cache: FeatureCache,
    infos: Sequence[KeyInfo],
    ids: Ids,
    asked: tuple[Sequence[str], Sequence[str]],
    own: Sequence[Mapping[str, Any]],
) -> tuple[KeyInfo, str]:
    """One of these keys and, where they are several, why it is this one."""
    if len(infos) == 1:
        return infos[0], ""
    name_one = "with --backbone, --weights, --size, --resize or --precision"
    fit = f"{len(infos)} kinds of vectors in {cache.root} fit; they differ in {differences(infos)}."
    of_run = [info for info in infos if info.key.to_json() in own]
    complete = [info for info in infos if len(ids) and has_all(cache, info, ids, asked)]
    if not (of_run or complete):
        raise OptionError(f"{fit} Name one {name_one}, or remove one with `cache prune --drop-cache-key`.")
    taken = of_run[0] if of_run else max(complete, key=lambda info: info.created)
    why = "that of the run whose split is taken" if of_run else "the newest that has all these photos"
    return taken, f"{fit} Taken: {describe(taken)}, {why}; name another {name_one}"


def has_all(cache: FeatureCache, info: KeyInfo, ids: Ids, asked: tuple[Sequence[str], Sequence[str]]) -> bool:
    """Whether a key has these blocks (none: all it has), in these views, of every content that was not rejected."""
    blocks, views = asked
    cached, names = _cached_columns(info), blocks or common_blocks(cache, info, ids, views)
    columns = [cached.get((name, view)) for name in names for view in views]
    kept = np.delete(ids, list(cache.files.rejected(ids, info.digest)))
    reader = cache.reader(info.digest)
    return all(column is not None and bool(reader.contains(kept, column).all()) for column in columns)


@dataclass(frozen=True)
class StoredRows:
    """Rows of the cache that can be indexed like an array (n, d); read when they are asked for.

    Attributes:
        reader: Of the columns that stand side by side.
        ids: Content ids, S32 (n,).
    """

    reader: JoinedReader
    ids: Ids

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return len(self.ids), self.reader.dim

    def __getitem__(self, rows: slice | Int64) -> Float32:
        return self.reader.read(self.ids[rows])


def read_pooled(cache: FeatureCache, info: KeyInfo, ids: Ids, limit: int) -> Vectors:
    """The pooled vectors, identity view, of these contents: (n, d), in memory if they take no more than `limit` bytes.

    Raises:
        OptionError: Some are not cached.
    """
    column = next((c for c in info.columns if (c.block.name, c.view) == ("pooled", "identity")), None)
    reader = cache.reader(info.digest)
    have = 0 if column is None else int(reader.contains(ids, column).sum())
    if column is None or have < len(ids):
        command = extract_command(info, "--features pooled --views identity")
        raise OptionError(
            f"near-duplicates are searched by the block pooled, which {len(ids) - have} of {len(ids)} photos lack. "
            f"Run: {command}"
        )
    rows = StoredRows(JoinedReader([(reader, (column,))]), ids)
    return rows[:] if 4 * column.block.dim * len(ids) <= limit else rows


def common_blocks(cache: FeatureCache, info: KeyInfo, ids: Ids, views: Sequence[str]) -> tuple[str, ...]:
    """Blocks that every view has, for some of these photos if there are any; pooled when there are none."""
    reader, cached = cache.reader(info.digest), _cached_columns(info)

    def there(block: str) -> bool:
        columns = [cached.get((block, view)) for view in views]
        return all(c is not None and (not len(ids) or bool(reader.contains(ids, c).any())) for c in columns)

    return tuple(block for block in BLOCKS if there(block)) or ("pooled",)


def _columns_of(
    info: KeyInfo, cached: Mapping[tuple[str, str], Column], names: Sequence[str], views: Sequence[str], view: str
) -> tuple[Column, ...]:
    for name in names:
        if (name, view) not in cached:
            have = ", ".join(sorted(f"{b}/{v}" for b, v in cached))
            command = extract_command(info, f"--features {','.join(names)} --views {','.join(views)}")
            raise OptionError(f"block {name!r} of view {view!r} is not in the cache (it has {have}). Run: {command}")
    return tuple(cached[name, view] for name in names)


def extract_command(info: KeyInfo, options: str = "") -> str:
    """The command that extends this key to more photos, blocks or views."""
    key, source = info.key, info.notes.get("weights_source", "hub")
    words = {"backbone": key.architecture, "weights": source, "size": key.size, "resize": key.fit}
    words |= {"precision": key.precision} if key.precision != "fp32" else {}
    return f"{command('extract', words)} {options}".rstrip() + " (with the same --data and --cache)"


def describe(info: KeyInfo) -> str:
    """One line about a base key: backbone, weights, size, resize mode, precision."""
    key = info.key
    return f"{key.architecture} ({info.notes.get('weights_source', '?')}, {key.size} px, {key.fit}, {key.precision})"


def weights_sources(notes: Mapping[str, Any]) -> tuple[str, ...]:
    """Every source that a key's weights were given as: the key is their digest, whatever they came from.

    Args:
        notes: Notes of the key; those written before there was a list hold the last source alone.

    Returns:
        Such as ("package", "hub"), in the order in which they were given.
    """
    listed = notes.get("weights_sources")
    sources = [*(listed if isinstance(listed, list) else []), notes.get("weights_source")]
    return tuple(dict.fromkeys(source for source in sources if isinstance(source, str)))


def _matches(info: KeyInfo, wanted: VectorKind) -> bool:
    have = {
        "backbone": info.key.architecture,
        "size": info.key.size,
        "resize": info.key.fit,
        "precision": info.key.precision,
    }
    if wanted.weights is not None and wanted.weights not in weights_sources(info.notes):
        return False
    return all(getattr(wanted, name) in (None, value) for name, value in have.items())


def _covers(cache: FeatureCache, info: KeyInfo, ids: Ids) -> bool:
    reader = cache.reader(info.digest)
    return any(bool(reader.contains(ids, column).any()) for column in info.columns)


def differences(infos: Sequence[KeyInfo]) -> str:
    """In what base keys differ: field by field, what each has."""
    fields: dict[str, set[str]] = {}
    for info in infos:
        for name, value in {**info.key.to_json(), "weights_source": info.notes.get("weights_source")}.items():
            fields.setdefault(name, set()).add(str(value))
    return "; ".join(f"{name}: {' | '.join(sorted(values))}" for name, values in fields.items() if len(values) > 1)


def _wanted_text(wanted: VectorKind) -> str:
    return ", ".join(f"{name} {value}" for name, value in changed(wanted).items()) or "any backbone"
