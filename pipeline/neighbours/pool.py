"""The photos among which is searched: of a catalogue, with its labels, or whatever the cache has vectors of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache import FeatureCache
from pipeline.arrays import Bool, Float32, Ids, Int64
from pipeline.catalogue import Catalogue, Cell, Finding, coded, split_column
from pipeline.errors import OptionError, counted, nearest_few
from pipeline.experiment.cached_rows import cached_rows
from pipeline.features.selection import StoredRows, open_cache
from pipeline.features.vectors.joined import JoinedFeatures, join_features
from pipeline.machine import memory_limit
from pipeline.neighbours.search import to_unit
from pipeline.options import CacheKeyOptions, DataOptions, FitOptions, SplitOptions
from pipeline.options.forms.words import command
from pipeline.remote import RemotePhoto

_VIEWS = ("identity",)
_COPIES = 1.25
"""Bytes in use over those of the vectors: the search holds a narrow copy."""

_NAMED = 8


@dataclass(frozen=True, eq=False)
class PoolRows:
    """Rows of the cache, of unit length when they are asked for, every block counting the same."""

    stored: StoredRows
    widths: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.stored.shape

    def __getitem__(self, rows: slice | Int64) -> Float32:
        return to_unit(self.stored[rows], self.widths)


@dataclass(frozen=True, eq=False)
class Pool:
    """Photos whose vectors are in the cache; n rows.

    Attributes:
        names, paths: (n,).
        ids: Content ids, S32 (n,).
        cells: Per attribute (n,) cells; none without a catalogue.
        catalogue: Where names, paths and cells are from.
        findings: What was left out, and why.
    """

    cache: FeatureCache
    features: JoinedFeatures
    names: Sequence[str]
    paths: Sequence[Path | RemotePhoto]
    ids: Ids
    cells: Mapping[str, Sequence[Cell]]
    findings: tuple[Finding, ...]
    catalogue: Catalogue | None = None

    @classmethod
    def of(cls, data: DataOptions, cache_key: CacheKeyOptions, cache: Path, use: tuple[str, ...]) -> Pool:
        """The photos of a catalogue, or without one those whose files the cache knows.

        Raises:
            OptionError: Vectors are missing; it names the command that makes them.
        """
        if data.data is not None:
            rows = cached_rows(data, cache_key, SplitOptions(), FitOptions(cache=cache, use=use, views=_VIEWS))
            catalogue = rows.catalogue
            cells = {attribute: catalogue.cells[attribute] for attribute in catalogue.attributes}
            found = rows.vectors.cache, rows.features
            return cls(*found, catalogue.filenames, catalogue.paths, rows.ids, cells, rows.findings, catalogue)
        opened = open_cache(cache)
        paths, ids = opened.files.indexed()
        features = join_features(opened, cache_key, ids, (use, _VIEWS))
        have = np.flatnonzero(features.reader(opened).contains(ids))
        if not len(have):
            # Of what is cached, no file is known: the index was removed, or all was written by other code.
            raise OptionError(
                f"{cache} does not know which files its vectors are of; name the catalogue with --data, or run "
                f"`{command('extract')}` over it"
            )
        kept = [paths[i] for i in have.tolist()]
        notes = tuple(Finding("kind-of-vectors", "", note) for note in features.notes)
        return cls(opened, features, [str(path) for path in kept], kept, ids[have], {}, notes)

    def fits(self, memory: float | None) -> bool:
        """Whether a search through vectors in memory takes no more than is allowed."""
        return self._need <= memory_limit(memory)

    @property
    def _need(self) -> float:
        return _COPIES * 4 * self.features.dim * len(self.ids)

    def read(self, memory: float | None) -> Float32:
        """Vectors float32 (n, d) of unit length, every block counting the same.

        Raises:
            OptionError: They do not fit into the memory allowed.
        """
        if not self.fits(memory):
            allowed = memory_limit(memory)
            raise OptionError(
                f"all vectors are held in memory: {counted(len(self.ids), 'photo')} x {self.features.dim} numbers need "
                f"{self._need / 2**30:.1f} GiB, and {allowed / 2**30:.1f} GiB may be used. Raise --memory, or choose "
                "fewer blocks with --use"
            )
        return self.rows()[:]

    def rows(self) -> PoolRows:
        """The same vectors, read from the cache when they are asked for."""
        return PoolRows(
            StoredRows(self.features.reader(self.cache), self.ids), tuple(width for _, width in self.features.blocks)
        )

    def labelled(self, where: Sequence[str]) -> Bool:
        """Photos, bool (n,), that have every attribute named, with one of the values named for it.

        Args:
            where: Such as `colour=red`.

        Raises:
            OptionError: There is no such attribute or value, or no photo has all of them.
        """
        wanted: dict[str, set[str]] = {}
        for each in where:
            attribute, value = self._condition(each)
            wanted.setdefault(attribute, set()).add(value)
        kept = np.ones(len(self.ids), np.bool_)
        for attribute, values in wanted.items():
            column = coded(self.cells[attribute])
            fitting = np.array([bool(values & set(cell or ())) for cell in column.table], np.bool_)
            kept &= fitting[column.codes]
        if not kept.any():
            raise OptionError(f"no photo has all of --where {','.join(where)}")
        return kept

    def _condition(self, text: str) -> tuple[str, str]:
        if "=" not in text:
            raise OptionError(f"--where is {text!r}; expected attribute=value, such as colour=red")
        if not self.cells:
            raise OptionError(f"--where {text} asks for labels; name the catalogue that has them with --data")
        attribute, value = split_column(text)
        if attribute not in self.cells:
            raise OptionError(f"--where: there is no attribute {attribute!r}; {_there_are(attribute, self.cells)}")
        values = {v for cell in coded(self.cells[attribute]).table for v in cell or ()}
        if value not in values:
            raise OptionError(f"--where: no photo has {attribute} {value!r}; {_there_are(value, sorted(values))}")
        return attribute, value


def _there_are(name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    """What was perhaps meant, else the first of what there is."""
    if near := nearest_few(name, known, 3):
        return f"did you mean {' or '.join(near)}?"
    some = list(known)[:_NAMED]
    return f"there are {', '.join(some)}{', ...' if len(known) > len(some) else ''}"
