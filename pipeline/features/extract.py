"""The one pass over the photos: what the cache lacks is computed once per distinct content and committed in shards."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache import (
    NO_ID,
    BaseKey,
    CacheError,
    Column,
    FeatureCache,
    IdIndex,
    Ids,
    Writer,
    WriterOptions,
    interruptible,
)
from pipeline.arrays import Bool, Int64
from pipeline.features.backbone.network import Backbone, base_key, load_backbone
from pipeline.features.backbone.provenance import CHOICE, TRAIN
from pipeline.features.backbone.transform import TOO_MANY_PIXELS, require_view
from pipeline.features.embed import Batch, Embedder, EmbedOptions
from pipeline.features.report import ExtractReport, PhotoReject, Progress
from pipeline.features.selection import weights_sources
from pipeline.options import BackboneOptions, ExtractOptions

_PROBE_AFTER = 60.0  # seconds of computing from which knowing the forward pass alone is worth its rounds
_PROBE_ROUNDS, _ROUND_SECONDS = 3, 2.0

Paths = Sequence[str | os.PathLike[str]]


@dataclass
class _Run:
    """One extraction under way."""

    cache: FeatureCache
    backbone: Backbone
    key: BaseKey
    columns: tuple[Column, ...]
    paths: Paths
    options: ExtractOptions
    progress: Callable[[Progress], None] | None
    seconds: dict[str, float]
    rejects: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    total: int = 0
    done: int = 0
    written: int = 0
    began: float = 0.0
    runtime: str = ""
    views: int = 0
    forward_per_second: float | None = None


def extract(
    paths: Paths,
    backbone: BackboneOptions,
    options: ExtractOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ExtractReport:
    """Compute and store what the cache lacks for these photos.

    An interrupt (Ctrl-C, SIGTERM) leaves every row computed so far in the cache and goes on as KeyboardInterrupt.

    Args:
        paths: Photo files; the same file or content may appear more than once.
        backbone: Which network, weights and transform.
        options: What to keep and how to run.
        progress: Called after each batch.

    Raises:
        BackboneError: backbone, weights or runtime cannot be had.
        OptionError: a block, view, device or runtime that does not exist.
        CacheBusy: another extraction writes to the same key for longer than `options.wait`.
        CacheWriteError: the disk refuses.
    """
    options = options or ExtractOptions()
    began = time.perf_counter()
    loaded = load_backbone(backbone)
    key, columns = base_key(loaded, options.precision), _columns(loaded, options)
    cache = FeatureCache(options.cache)
    seconds = {"start": time.perf_counter() - began, "runtime": 0.0}
    run = _Run(cache, loaded, key, columns, paths, options, progress, seconds)
    if loaded.random:
        run.notes.append(f"weights are {loaded.weights_source}: untrained, for tests and speed only")
    with _timed(run.seconds, "hash"):
        ids, problems = cache.files.ids([Path(path) for path in paths], rehash=options.rehash)
    run.rejects.update(problems)
    known = ids != NO_ID
    first = known & ~IdIndex(ids).duplicates()
    rows = _without_rejected(run, ids, np.flatnonzero(first))
    lacking = _lacking(run, ids[rows])
    todo = lacking.any(axis=1)
    cache.files.retry(ids[rows[todo]], key.digest)
    if todo.any():
        with interruptible():
            _compute(run, ids, rows[todo])
    elif not _is_written_down(run):
        with _writer(run):
            pass
    run.seconds["total"] = time.perf_counter() - began
    _spread_rejects(run, ids)
    return _report(run, int(first.sum()), int(known.sum()), int((~todo).sum()))


def _columns(backbone: Backbone, options: ExtractOptions) -> tuple[Column, ...]:
    for name in options.views:
        require_view(name)
    blocks = backbone.blocks(options.features)
    return tuple(Column(block, view) for view in options.views for block in blocks.values())


def _without_rejected(run: _Run, ids: Ids, rows: Int64) -> Int64:
    """Leave out contents that were rejected before, whatever the network; what one network refused is tried again.

    So is a limit on pixels, as it may have been raised: older caches hold those as rejects of the content.
    """
    before = {at: why for at, why in run.cache.files.rejected(ids[rows]).items() if not why.startswith(TOO_MANY_PIXELS)}
    run.rejects.update({int(rows[at]): why for at, why in before.items()})
    return np.delete(rows, list(before)) if before else rows


def _lacking(run: _Run, ids: Ids) -> Bool:
    """(n, columns): True where the committed cache has no such row. Takes no lock and makes no file."""
    try:
        reader = run.cache.reader(run.key.digest)
    except CacheError:
        return np.ones((len(ids), len(run.columns)), dtype=np.bool_)
    there = set(reader.columns)
    absent = np.zeros(len(ids), dtype=np.bool_)
    found = [reader.contains(ids, column) if column in there else absent for column in run.columns]
    return ~np.stack(found, axis=1)


def _compute(run: _Run, ids: Ids, rows: Int64) -> None:
    with _writer(run) as writer:
        # Asked again under the lock: while this process waited, another may have written some of them.
        lacking = np.stack([writer.missing(ids[rows], column) for column in run.columns], axis=1)
        jobs = list(_jobs(lacking, run.columns))
        run.total, run.began = sum(len(at) for at, _, _ in jobs), time.perf_counter()
        embedder = None
        for at, blocks, views in jobs:
            embedder = _compute_job(run, writer, (rows[at], blocks, views))
        with _timed(run.seconds, "write"):
            writer.flush()
        run.seconds["compute"] = time.perf_counter() - run.began - run.seconds["runtime"]
        # Several jobs run different forward passes, and the last one's rate says nothing about all of them.
        if embedder is not None and len(jobs) == 1 and run.seconds["compute"] > _PROBE_AFTER:
            with _timed(run.seconds, "probe"):
                run.forward_per_second = _forward_alone(embedder, run.done / run.seconds["compute"])


def _forward_alone(embedder: Embedder, photos_per_second: float) -> float:
    """Photos per second of the forward pass alone, all views: the best of a few rounds of seconds each."""
    views = len(embedder.views)
    passes = _ROUND_SECONDS * photos_per_second * views / (embedder.batch_size * embedder.runtime.streams)
    return embedder.forward_rate(max(2, round(passes)), _PROBE_ROUNDS) / views


def _is_written_down(run: _Run) -> bool:
    """Whether the cache knows where the weights came from this time, and what trained them.

    Vectors made from another copy of the same weights may come without either.
    """
    seen, digest = run.backbone.seen, run.key.digest
    notes = _notes_before(run)
    if notes and run.backbone.weights_source not in weights_sources(notes):
        return False
    if not seen:
        return True
    try:
        written = {name: IdIndex(run.cache.attached_ids(digest, name)) for name in (TRAIN, CHOICE)}
    except CacheError:  # damaged: the weights file still has it
        return False
    return all((written[name].find(ids) >= 0).all() for name, ids in ((TRAIN, seen.train), (CHOICE, seen.choice)))


def _notes_before(run: _Run) -> Mapping[str, Any]:
    try:
        return run.cache.reader(run.key.digest).notes
    except CacheError:
        return {}


@contextlib.contextmanager
def _writer(run: _Run) -> Iterator[Writer]:
    """The key's writer; which photos trained the weights is written down before any vector is."""
    backbone, storage = run.backbone, WriterOptions(dtype=run.options.dtype)
    source = backbone.weights_source
    sources = list(dict.fromkeys([*weights_sources(_notes_before(run)), source]))
    # Weights that were ever drawn at random are random, whatever file they are given as now.
    random = any(each.startswith("random:") for each in sources)
    notes = {"weights_source": source, "weights_sources": sources, "random_weights": random}
    if backbone.seen:
        notes |= backbone.seen.note()
    with run.cache.writer(run.key, notes=notes, wait=run.options.wait, options=storage) as writer:
        if backbone.seen:
            writer.attach_ids(TRAIN, backbone.seen.train)
            writer.attach_ids(CHOICE, backbone.seen.choice)
        yield writer


def _jobs(lacking: Bool, columns: Sequence[Column]) -> Iterator[tuple[Int64, tuple[str, ...], tuple[str, ...]]]:
    """Rows that lack the same columns go together; views that lack the same blocks share one decoding."""
    patterns, group = np.unique(lacking, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        blocks_of: dict[str, list[str]] = {}
        for column in (column for column, is_lacking in zip(columns, pattern, strict=True) if is_lacking):
            blocks_of.setdefault(column.view, []).append(column.block.name)
        views_of: dict[tuple[str, ...], list[str]] = {}
        for view, blocks in blocks_of.items():
            views_of.setdefault(tuple(blocks), []).append(view)
        for blocks_together, views in views_of.items():
            yield np.flatnonzero(group.reshape(-1) == number), blocks_together, tuple(views)


def _compute_job(run: _Run, writer: Writer, job: tuple[Int64, tuple[str, ...], tuple[str, ...]]) -> Embedder:
    rows, blocks, views = job
    asked = run.options
    with _timed(run.seconds, "runtime"):
        embedder = Embedder(
            run.backbone,
            blocks,
            views,
            EmbedOptions(
                device=asked.device,
                runtime=asked.runtime,
                precision=asked.precision,
                batch_size=asked.batch_size,
                workers=asked.workers,
                max_pixels=asked.max_pixels,
                store=asked.cache / "runtimes",
            ),
        )
    column_of = {(column.block.name, column.view): column for column in run.columns}
    with contextlib.closing(embedder([run.paths[row] for row in rows])) as batches:
        for batch in batches:
            _store(run, writer, batch, (rows, column_of))
    _account(run, embedder)
    return embedder


def _store(
    run: _Run,
    writer: Writer,
    batch: Batch,
    where: tuple[Int64, dict[tuple[str, str], Column]],
) -> None:
    rows, column_of = where
    for reject in batch.rejects:
        # What only this run cannot take belongs to its cache key, whose rejects the next extract tries again.
        owner = None if reject.lasting else run.key.digest
        _reject(run, int(rows[reject.index]), reject.content_id, reject.reason, owner)
    finite = np.ones(len(batch.ids), dtype=np.bool_)
    for values in batch.features.values():
        finite &= np.isfinite(values).all(axis=1)
    for at in np.flatnonzero(~finite):
        reason = "the network's output for it is not finite"
        _reject(run, int(rows[batch.indices[at]]), batch.ids[at], reason, run.key.digest)
    with _timed(run.seconds, "write"):
        # The ids are those of the bytes decoded: a photo that changed since it was hashed is stored as what it is now.
        writer.append(batch.ids[finite], {column_of[key]: rows[finite] for key, rows in batch.features.items()})
    run.written += int(finite.sum())
    run.done += len(batch.indices) + len(batch.rejects)
    if run.progress is not None:
        rate = run.done / max(time.perf_counter() - run.began - run.seconds["runtime"], 1e-9)
        run.progress(Progress(run.done, run.total, rate, max(0.0, (run.total - run.done) / rate)))


def _reject(run: _Run, row: int, content_id: bytes, reason: str, key: str | None = None) -> None:
    run.rejects[row] = reason
    run.cache.files.reject(Path(run.paths[row]), content_id, reason, key)


def _account(run: _Run, embedder: Embedder) -> None:
    timings, runtime = embedder.timings, embedder.runtime
    for name in ("read", "decode", "forward"):
        run.seconds[name] = run.seconds.get(name, 0.0) + getattr(timings, name)
    streams, workers = runtime.streams, embedder.workers
    run.runtime = f"{runtime.name}, batches of {runtime.batch_size}, {streams} at once, {workers} decoding threads"
    if runtime.note and runtime.note not in run.notes:
        run.notes.append(runtime.note)


def _spread_rejects(run: _Run, ids: Ids) -> None:
    """A photo with the bytes of a rejected one is rejected for the same reason."""
    reasons = {ids[row]: why for row, why in run.rejects.items() if ids[row] != NO_ID.rstrip(b"\0")}
    if not reasons:
        return
    for row in np.flatnonzero(np.isin(ids, np.array(list(reasons), dtype=ids.dtype))):
        run.rejects.setdefault(int(row), reasons[ids[row]])


def _report(run: _Run, unique: int, readable: int, reused: int) -> ExtractReport:
    compute = run.seconds.get("compute", 0.0)
    return ExtractReport(
        key=run.key.digest,
        columns=tuple((column.block.name, column.view, column.block.dim) for column in run.columns),
        photos=len(run.paths),
        unique=unique,
        duplicates=readable - unique,
        reused=reused,
        written=run.written,
        rejects=tuple(PhotoReject(Path(run.paths[row]), why) for row, why in sorted(run.rejects.items())),
        seconds=run.seconds,
        images_per_second=run.done / compute if compute else 0.0,
        forward_per_second=run.forward_per_second,
        runtime=run.runtime,
        notes=tuple(run.notes),
    )


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
