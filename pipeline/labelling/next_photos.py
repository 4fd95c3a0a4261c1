"""`next`: the photos whose labels would help most, each with what is asked of it and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache import FeatureCache
from pipeline.arrays import Bool, Float32, Ids, Int64
from pipeline.catalogue import Catalogue, Finding, LabelSchema, coded, groups_of, infer_schema, named_products
from pipeline.errors import CatalogueError, OptionError, counted
from pipeline.experiment.cached_rows import in_cache
from pipeline.features.cache_tools import features_of_model
from pipeline.features.selection import open_cache
from pipeline.features.vectors.joined import JoinedFeatures, join_features
from pipeline.labelling.asks import Ask, Reasons, candidates, write_asks
from pipeline.labelling.choice import Pool, best_photos, typical_photos
from pipeline.labelling.doubt import doubts, expected_f1
from pipeline.labelling.label_studio import write_tasks
from pipeline.labelling.pool import asked_attributes, read_pool
from pipeline.model.predictor import Predictor
from pipeline.model.training import record_of
from pipeline.options import CacheKeyOptions, DataOptions, NextOptions, PredictOptions

_CHUNK = 4096


@dataclass(frozen=True)
class NextReport:
    """What one `next` call chose.

    Attributes:
        out: The file.
        config: The labelling configuration beside it, for Label Studio.
        asks: The questions, photo by photo, the most useful photo first.
        photos: How many photos they are about.
        candidates: How many photos lacked a label.
        with_model: Whether a model chose.
        findings: The catalogue's, and what was left out.
    """

    out: Path
    config: Path | None
    asks: tuple[Ask, ...]
    photos: int
    candidates: int
    with_model: bool
    findings: tuple[Finding, ...]


def next_photos(data: DataOptions, cache_key: CacheKeyOptions, options: NextOptions) -> NextReport:
    """Choose photos to label and write them to `options.out`.

    Raises:
        CatalogueError, OptionError: There are no such data, photos or vectors, the model does not know an attribute
            that is asked for, or there is nothing left to label.
        ModelFileError: The model cannot be read.
    """
    if options.to == "label-studio" and "{photo}" not in options.image_url:
        raise OptionError(f"--image-url is {options.image_url!r}; expected {{photo}} where the photo's name belongs")
    predictor = None if options.model is None else Predictor(options.model, PredictOptions(sha256=options.sha256))
    known = () if predictor is None else asked_attributes(data, predictor.schema.attributes, f"{options.model}")
    pool = _cached(read_pool(data, options, known), cache_key, options, predictor)
    chosen = _by_looks(pool, data, options) if predictor is None else _by_model(pool, predictor, known, options)
    out = options.out or Path("next.json" if options.to == "label-studio" else "next.csv")
    config = None
    if options.to == "label-studio":
        config = write_tasks(out, chosen.asks, chosen.schema, options.image_url)
    else:
        write_asks(out, chosen.asks)
    photos = len({ask.photo for ask in chosen.asks})
    return NextReport(out, config, chosen.asks, photos, chosen.candidates, predictor is not None, pool.findings)


@dataclass(frozen=True, eq=False)
class _CachedPool:
    """Photos with vectors; n of them."""

    catalogue: Catalogue
    cache: FeatureCache
    features: JoinedFeatures
    ids: Ids
    groups: Int64
    findings: tuple[Finding, ...]

    def looks(self, at: Int64) -> Float32:
        """Pooled vectors, else all there are, of some rows: float32 (m, d)."""
        start, columns = 0, slice(0, self.features.dim)
        for name, width in self.features.blocks:
            if name == "pooled":
                columns = slice(start, start + width)
                break
            start += width
        reader = self.features.readers(self.cache)[0]
        chunks = [reader.read(self.ids[at[i : i + _CHUNK]])[:, columns] for i in range(0, len(at), _CHUNK)]
        return np.concatenate(chunks or [np.zeros((0, columns.stop - columns.start), np.float32)])

    def probabilities(self, predictor: Predictor, at: Int64) -> Float32:
        """Of some rows, (m, L)."""
        readers = self.features.readers(self.cache)
        P = np.zeros((len(at), predictor.schema.size), np.float32)
        for i in range(0, len(at), _CHUNK):
            X = np.stack([reader.read(self.ids[at[i : i + _CHUNK]]) for reader in readers])
            P[i : i + _CHUNK] = predictor.probabilities(X)
        return P

    def among(self, at: Int64) -> Pool:
        """Some rows as the pool of a choice."""
        return Pool(self.groups[at], lambda positions: self.looks(at[positions]))


def _cached(
    catalogue: Catalogue, cache_key: CacheKeyOptions, options: NextOptions, predictor: Predictor | None
) -> _CachedPool:
    """The pool joined with the cache; raises OptionError with the command that makes missing vectors."""
    cache = open_cache(options.cache)
    ids, problems = cache.files.ids([Path(path) for path in catalogue.paths])
    readable = np.ones(len(ids), bool)
    readable[list(problems)] = False
    if predictor is None:
        features = join_features(cache, cache_key, ids[readable], (options.use, ("identity",)))
    else:
        features = features_of_model(cache, predictor.model)
    try:
        there, dropped = in_cache(catalogue, cache, features, ids, problems)
    except OptionError as error:
        raise OptionError(f"{error}; with the --pool of this command too" if options.pool else str(error)) from None
    catalogue, ids = catalogue.take(there), ids[there]
    products = named_products(catalogue.filenames, options.group_regex, catalogue.groups)
    groups = groups_of(catalogue.filenames, None, products, ids)
    return _CachedPool(catalogue, cache, features, ids, groups, (*catalogue.findings, *dropped))


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The questions, out of how many photos, and which values there are."""

    asks: tuple[Ask, ...]
    candidates: int
    schema: LabelSchema | None


def _unlabelled(catalogue: Catalogue, attributes: Sequence[str]) -> Bool:
    """(n, K), where nothing is known yet; of an attribute that the data lack nothing is."""
    none = np.ones(len(catalogue), np.bool_)
    columns = [coded(catalogue.cells[a]).where(None) if a in catalogue.cells else none for a in attributes]
    return np.stack(columns, axis=1) if columns else none[:, None]


def _require_some(count: int, catalogue: Catalogue) -> None:
    if not count:
        raise OptionError(
            f"nothing is left to label: of {counted(len(catalogue), 'photo')} every attribute that applies is known. "
            "Name more photos with --pool"
        )


def _by_looks(pool: _CachedPool, data: DataOptions, options: NextOptions) -> _Chosen:
    """Without a model: the photos that stand for the most others, asked about all that they lack."""
    attributes = data.attributes or pool.catalogue.attributes
    is_open = _unlabelled(pool.catalogue, attributes)
    at = np.flatnonzero(is_open.any(axis=1))
    _require_some(len(at), pool.catalogue)
    chosen = at[typical_photos(pool.among(at), options.count, options.near, options.seed)]
    why = "stands for many photos that look like it"
    asks = tuple(
        Ask(pool.catalogue.filenames[row], attribute, why=why)
        for row in chosen.tolist()
        for attribute, asked in zip(attributes or ("",), is_open[row].tolist(), strict=True)
        if asked
    )
    return _Chosen(asks, len(at), _schema_of(pool.catalogue))


def _schema_of(catalogue: Catalogue) -> LabelSchema | None:
    try:
        return infer_schema(catalogue)
    except CatalogueError:
        return None


def _by_model(pool: _CachedPool, predictor: Predictor, attributes: Sequence[str], options: NextOptions) -> _Chosen:
    """With a model: photos that it doubts, and that differ."""
    schema = predictor.schema
    asked = [schema.attributes.index(name) for name in attributes]
    is_open = np.zeros((len(pool.catalogue), len(schema.attributes)), np.bool_)
    is_open[:, asked] = _unlabelled(pool.catalogue, attributes)
    at = np.flatnonzero(is_open.any(axis=1))
    P = pool.probabilities(predictor, at)
    is_open = is_open[at] & _applies(pool.catalogue.take(at), schema, P)
    _require_some(int(is_open.any(axis=1).sum()), pool.catalogue)
    doubt = np.where(is_open, doubts(P, schema), np.float32(0))
    record = record_of(predictor.model)
    reasons = Reasons(schema, expected_f1(P, schema), None if record is None else record.positives)
    batches = [asked] if options.per == "photo" else [[k] for k in asked]
    asks = []
    for batch in batches:
        score = doubt[:, batch].sum(axis=1, dtype=np.float64)
        for i in best_photos(pool.among(at), score, options.count, options.near, options.seed).tolist():
            photo = pool.catalogue.filenames[int(at[i])]
            for k in (k for k in batch if is_open[i, k]):
                name, values = schema.attributes[k], schema.values[k]
                likely = candidates(P[i, schema.slices[k]], values)
                asks.append(Ask(photo, name, likely, reasons.of(name, likely), float(doubt[i, k])))
    return _Chosen(tuple(asks), int(is_open.any(axis=1).sum()), schema)


def _applies(catalogue: Catalogue, schema: LabelSchema, P: Float32) -> Bool:
    """(n, K): whether an attribute applies to the category that a photo has, else to the likeliest one."""
    if schema.gate is None or schema.category_attribute is None:
        return schema.applies(None, len(P))
    k = schema.attributes.index(schema.category_attribute)
    likely = P[:, schema.slices[k]].argmax(axis=1)
    known = catalogue.categories or [None] * len(P)
    categories = [each or schema.values[k][int(j)] for each, j in zip(known, likely, strict=True)]
    return schema.applies(categories, len(P))
