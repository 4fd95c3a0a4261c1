"""The one pass over the photos: what the cache lacks is computed once per distinct content and committed in shards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

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
    interruptible,
)
from pipeline.arrays import Bool, Int64
from pipeline.features.backbone.network import Backbone, base_key, load_backbone
from pipeline.features.backbone.transform import TOO_MANY_PIXELS, require_view
from pipeline.features.engines.engine import Done, Engine, Paths, Work
from pipeline.features.engines.jobs import jobs_of
from pipeline.features.engines.local import LocalEngine
from pipeline.features.key_notes import is_written_down, key_writer
from pipeline.features.report import ExtractReport, PhotoReject, Progress
from pipeline.options import BackboneOptions, ExtractOptions


@dataclass
class _Run:
    """One extraction under way.

    Attributes:
        partly: Whether a photo's content had some of what is asked for before, (n,).
        stored: Whether something of it was computed and stored, (n,).
    """

    cache: FeatureCache
    engine: Engine
    asked: BackboneOptions
    backbone: Backbone
    key: BaseKey
    columns: tuple[Column, ...]
    paths: Paths
    options: ExtractOptions
    progress: Callable[[Progress], None] | None
    seconds: dict[str, float]
    partly: Bool
    stored: Bool
    rejects: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    total: int = 0
    done: int = 0
    left: int = 0
    began: float = 0.0


def extract(
    paths: Paths,
    backbone: BackboneOptions,
    options: ExtractOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
    most: int | None = None,
    engine: Engine | None = None,
) -> ExtractReport:
    """Compute and store what the cache lacks for these photos.

    An interrupt (Ctrl-C, SIGTERM) leaves every row computed so far in the cache and goes on as KeyboardInterrupt.

    Args:
        paths: Photo files; the same file or content may appear more than once.
        backbone: Which network, weights and transform.
        options: What to keep and how to run.
        progress: Called after each batch.
        most: Stop after this many contents, to learn how fast they go; what is computed is stored like any other.
        engine: What computes them (default: this process).

    Raises:
        BackboneError: backbone, weights or runtime cannot be had.
        OptionError: a block, view, device or runtime that does not exist.
        CacheBusy: the key is compacted, pruned or repaired for longer than `options.wait`.
        CacheWriteError: the disk refuses.
    """
    options = options or ExtractOptions()
    began = time.perf_counter()
    loaded = load_backbone(backbone)
    key, columns = base_key(loaded, options.precision), _columns(loaded, options)
    cache = FeatureCache(options.cache)
    seconds = {"start": time.perf_counter() - began, "runtime": 0.0}
    partly, stored = (np.zeros(len(paths), np.bool_) for _ in range(2))
    engine = engine or LocalEngine()
    run = _Run(cache, engine, backbone, loaded, key, columns, paths, options, progress, seconds, partly, stored)
    if loaded.random:
        run.notes.append(f"weights are {loaded.weights_source}: untrained, for tests and speed only")
    with _timed(run.seconds, "hash"):
        ids, problems = cache.files.ids([Path(path) for path in paths], rehash=options.rehash)
    run.rejects.update(problems)
    readable = ids != NO_ID
    first = readable & ~IdIndex(ids).duplicates()
    rows = _without_rejected(run, ids, np.flatnonzero(first))
    lacking = _lacking(run, ids[rows])
    todo = lacking.any(axis=1)
    run.partly[rows] = ~lacking.all(axis=1)
    cache.files.retry(ids[rows[todo]], key.digest)
    now = rows[todo][:most]
    run.left = int(todo.sum()) - len(now)
    if len(now):
        with interruptible():
            _compute(run, ids, now)
    elif not is_written_down(cache, key, loaded):
        with _writer(run):
            pass
    run.seconds["total"] = time.perf_counter() - began
    _spread_rejects(run, ids)
    return _report(run, int(first.sum()), int(readable.sum()), int((~todo).sum()))


def _columns(backbone: Backbone, options: ExtractOptions) -> tuple[Column, ...]:
    for name in options.views:
        require_view(name)
    blocks = backbone.blocks(options.features)
    return tuple(Column(block, view) for view in options.views for block in blocks.values())


def _without_rejected(run: _Run, ids: Ids, rows: Int64) -> Int64:
    """Leave out contents that were rejected before, whatever the network; what one network refused is tried again."""
    before = {at: why for at, why in run.cache.files.rejected(ids[rows]).items() if not _was_a_limit(why)}
    run.rejects.update({int(rows[at]): why for at, why in before.items()})
    return np.delete(rows, list(before)) if before else rows


def _was_a_limit(reason: str) -> bool:
    """Whether a reject of the content was only a limit on pixels, which may have been raised since.

    Such rejects belong to a cache key, by a field of their own. Caches written before that was so hold them with those
    of the content, where the text is all there is to tell them by.
    """
    return reason.startswith(TOO_MANY_PIXELS)


def _lacking(run: _Run, ids: Ids) -> Bool:
    """(n, columns): True where the committed cache has no such row. Takes no lock and makes no file."""
    try:
        reader = run.cache.reader(run.key.digest)
    except CacheError:
        return np.ones((len(ids), len(run.columns)), dtype=np.bool_)
    there = set(reader.columns)
    absent = np.zeros(len(ids), dtype=np.bool_)
    present = [reader.contains(ids, column) if column in there else absent for column in run.columns]
    return ~np.stack(present, axis=1)


def _compute(run: _Run, ids: Ids, rows: Int64) -> None:
    with _writer(run) as writer:
        # Asked again: while this process waited for a `compact`, or began, another may have written some of them.
        lacking = np.stack([writer.missing(ids[rows], column) for column in run.columns], axis=1)
        jobs = jobs_of(rows, lacking, run.columns)
        work = Work(run.paths, ids, run.asked, run.backbone, run.key, run.columns, run.options, jobs)
        run.total, run.began = work.photos, time.perf_counter()
        with contextlib.closing(run.engine.compute(work, writer)) as parts:
            for done in parts:
                _take(run, done)
        facts = run.engine.facts
        run.seconds |= facts.seconds
        aside = facts.seconds.get("runtime", 0.0) + facts.seconds.get("probe", 0.0)
        run.seconds["compute"] = time.perf_counter() - run.began - aside
        run.notes += facts.notes


def _writer(run: _Run) -> AbstractContextManager[Writer]:
    return key_writer(run.cache, run.key, run.backbone, run.options)


def _take(run: _Run, done: Done) -> None:
    for bad in done.refused:
        # What only this run cannot take belongs to its cache key, whose rejects the next extract tries again.
        run.rejects[bad.row] = bad.reason
        owner = None if bad.lasting else run.key.digest
        run.cache.files.reject(Path(run.paths[bad.row]), bad.content_id, bad.reason, owner)
    run.stored[done.stored] = True
    run.done += done.count
    if run.progress is not None:
        began = run.began + run.engine.facts.seconds.get("runtime", 0.0)
        rate = run.done / max(time.perf_counter() - began, 1e-9)
        run.progress(Progress(run.done, run.total, rate, max(0.0, (run.total - run.done) / max(rate, 1e-9))))


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
        written=int(run.stored.sum()),
        extended=int((run.stored & run.partly).sum()),
        rejects=tuple(PhotoReject(Path(run.paths[row]), why) for row, why in sorted(run.rejects.items())),
        seconds=run.seconds,
        images_per_second=run.done / compute if compute else 0.0,
        forward_per_second=run.engine.facts.forward_per_second,
        runtime=run.engine.facts.runtime,
        left=run.left,
        notes=tuple(run.notes),
    )


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
