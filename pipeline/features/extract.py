"""The one pass over the photos: what the cache lacks is computed once per distinct content and committed in shards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cache import (
    NO_ID,
    BaseKey,
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
from pipeline.features.batch import Contents
from pipeline.features.contents.fresh import FreshContents, lacking_in
from pipeline.features.contents.ids import Photos, content_ids, remember, unread
from pipeline.features.engines.engine import Done, Engine, Work
from pipeline.features.engines.jobs import job_of_new, jobs_of
from pipeline.features.engines.local import LocalEngine
from pipeline.features.key_notes import is_written_down, key_writer
from pipeline.features.report import ExtractReport, PhotoReject, Progress
from pipeline.options import BackboneOptions, ExtractOptions
from pipeline.remote import RemotePhoto


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
    paths: Photos
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
    paths: Photos,
    backbone: BackboneOptions,
    options: ExtractOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
    most: int | None = None,
    engine: Engine | None = None,
) -> ExtractReport:
    """Compute and store what the cache lacks for these photos.

    An interrupt (Ctrl-C, SIGTERM) leaves every row computed so far in the cache and goes on as KeyboardInterrupt.

    Args:
        paths: Photo files, and photos on other machines; the same file or content may appear more than once.
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
        RemoteError: the bucket or host of photos cannot be used.
    """
    options = options or ExtractOptions()
    began = time.perf_counter()
    loaded = load_backbone(backbone, options.cache / "runtimes")
    key, columns = base_key(loaded, options.precision), _columns(loaded, options)
    cache = FeatureCache(options.cache)
    seconds = {"start": time.perf_counter() - began, "runtime": 0.0}
    partly, stored = (np.zeros(len(paths), np.bool_) for _ in range(2))
    engine = engine or LocalEngine()
    run = _Run(cache, engine, backbone, loaded, key, columns, paths, options, progress, seconds, partly, stored)
    if loaded.random:
        run.notes.append(f"weights are {loaded.weights_source}: untrained, for tests and speed only")
    hashing = time.perf_counter()
    ids, problems = content_ids(cache, paths, options.rehash, read=False)
    run.seconds["hash"] = time.perf_counter() - hashing
    run.rejects.update(problems)
    unknown = unread(ids, problems, paths)
    new = unknown[:most]
    first = (ids != NO_ID) & ~IdIndex(ids).duplicates()
    rows = _without_rejected(run, ids, np.flatnonzero(first))
    lacking = lacking_in(cache, key.digest, columns)(ids[rows])
    todo = lacking.any(axis=1)
    run.partly[rows] = ~lacking.all(axis=1)
    cache.files.retry(ids[rows[todo]], key.digest)
    now = rows[todo][: None if most is None else most - len(new)]
    run.left = int(todo.sum()) - len(now) + len(unknown) - len(new)
    known = ids[first]
    if len(now) or len(new):
        with interruptible():
            _compute(run, ids, now, new)
    elif not is_written_down(cache, key, loaded):
        with _writer(run):
            pass
    run.seconds["total"] = time.perf_counter() - began
    _spread_rejects(run, ids)
    return _report(run, ids, int((~todo).sum()) + _reused(run, ids, new, known))


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


def _fresh(run: _Run, ids: Ids) -> FreshContents:
    """What says of photos that are read for the first time which of them to compute."""
    before = () if run.options.rehash else run.cache.files.rejects()
    rejected = {each.content_id: each.reason for each in before if each.key is None and not _was_a_limit(each.reason)}
    fresh = FreshContents(lacking_in(run.cache, run.key.digest, run.columns), rejected)
    fresh.meet(ids[ids != NO_ID].tolist())
    return fresh


def _was_a_limit(reason: str) -> bool:
    """Whether a reject of the content was only a limit on pixels, which may have been raised since.

    Such rejects belong to a cache key, by a field of their own. Caches written before that was so hold them with those
    of the content, where the text is all there is to tell them by.
    """
    return reason.startswith(TOO_MANY_PIXELS)


def _compute(run: _Run, ids: Ids, rows: Int64, new: Int64) -> None:
    """Compute what these photos lack; which contents the new ones have is put into `ids`."""
    with _writer(run) as writer:
        # Asked again: while this process waited for a `compact`, or began, another may have written some of them.
        lacking = np.stack([writer.missing(ids[rows], column) for column in run.columns], axis=1)
        jobs = jobs_of(rows, lacking, run.columns)
        if len(new):
            jobs.append(job_of_new(new, run.columns, _fresh(run, ids)))
        work = Work(run.paths, ids, run.asked, run.backbone, run.key, run.columns, run.options, jobs)
        run.total, run.began = work.photos, time.perf_counter()
        with contextlib.closing(run.engine.compute(work, writer)) as parts:
            for done in parts:
                _take(run, done)
                if done.contents is not None:
                    _note(run, ids, done.contents, jobs[-1].fresh)
        facts = run.engine.facts
        run.seconds |= facts.seconds
        aside = sum(facts.seconds.get(name, 0.0) for name in ("runtime", "probe", "stop"))
        run.seconds["compute"] = time.perf_counter() - run.began - aside
        run.notes += facts.notes


def _writer(run: _Run) -> AbstractContextManager[Writer]:
    return key_writer(run.cache, run.key, run.backbone, run.options)


def _take(run: _Run, done: Done) -> None:
    for bad in done.refused:
        # What only this run cannot take belongs to its cache key, whose rejects the next extract tries again.
        run.rejects[bad.row] = bad.reason
        owner = None if bad.lasting else run.key.digest
        if not bad.passing:
            run.cache.files.reject(str(run.paths[bad.row]), bad.content_id, bad.reason, owner)
    run.stored[done.stored] = True
    run.done += done.count
    if run.progress is not None:
        began = run.began + run.engine.facts.seconds.get("runtime", 0.0)
        rate = run.done / max(time.perf_counter() - began, 1e-9)
        run.progress(Progress(run.done, run.total, rate, max(0.0, (run.total - run.done) / max(rate, 1e-9))))


def _note(run: _Run, ids: Ids, read: Contents, fresh: FreshContents | None) -> None:
    """Which contents photos turned out to have that nobody had read before: in `ids`, and in the index of files."""
    ids[read.rows] = read.ids
    remember(run.cache, [run.paths[row] for row in read.rows], read.ids)
    before = {} if fresh is None else fresh.rejected
    for row in read.rows[read.ids != NO_ID].tolist():
        if (content := bytes(ids[row]).ljust(32, b"\0")) in before:
            run.rejects[row] = before[content]


def _reused(run: _Run, ids: Ids, new: Int64, known: Ids) -> int:
    """Of how many contents, met in new photos alone, the cache turned out to have everything."""
    taken = ids[np.array([row for row in new.tolist() if row not in run.rejects], np.int64)]
    return len(np.setdiff1d(taken[taken != NO_ID], np.concatenate([known, ids[run.stored]])))


def _spread_rejects(run: _Run, ids: Ids) -> None:
    """A photo with the bytes of a rejected one is rejected for the same reason."""
    reasons = {ids[row]: why for row, why in run.rejects.items() if ids[row] != NO_ID.rstrip(b"\0")}
    if not reasons:
        return
    for row in np.flatnonzero(np.isin(ids, np.array(list(reasons), dtype=ids.dtype))):
        run.rejects.setdefault(int(row), reasons[ids[row]])


def _report(run: _Run, ids: Ids, reused: int) -> ExtractReport:
    compute = run.seconds.get("compute", 0.0)
    readable = ids[ids != NO_ID]
    unique = len(np.unique(readable))
    return ExtractReport(
        key=run.key.digest,
        columns=tuple((column.block.name, column.view, column.block.dim) for column in run.columns),
        photos=len(run.paths),
        unique=unique,
        duplicates=len(readable) - unique,
        reused=reused,
        written=len(np.unique(ids[run.stored])),
        extended=int((run.stored & run.partly).sum()),
        rejects=tuple(PhotoReject(_shown(run.paths[row]), why) for row, why in sorted(run.rejects.items())),
        seconds=run.seconds,
        images_per_second=run.done / compute if compute else 0.0,
        forward_per_second=run.engine.facts.forward_per_second,
        runtime=run.engine.facts.runtime,
        left=run.left,
        notes=tuple(run.notes),
    )


def _shown(photo: str | Path | RemotePhoto) -> Path | str:
    return photo.name if isinstance(photo, RemotePhoto) else Path(photo)
