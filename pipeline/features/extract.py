"""The one pass over the photos: what the cache lacks is computed once per distinct content and committed in shards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
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
from pipeline.features.batch import Batch, Reject, Skipped
from pipeline.features.contents.fresh import FreshContents, lacking_in
from pipeline.features.contents.ids import content_ids, remember, unread
from pipeline.features.embed import Embedder, EmbedOptions
from pipeline.features.jobs import Job, job_of_new, jobs_of
from pipeline.features.key_notes import is_written_down, key_writer
from pipeline.features.report import ExtractReport, PhotoReject, Progress
from pipeline.options import BackboneOptions, ExtractOptions
from pipeline.remote import RemotePhoto

_PROBE_AFTER = 60.0  # seconds of computing from which knowing the forward pass alone is worth its rounds
_PROBE_ROUNDS, _ROUND_SECONDS = 3, 2.0

Paths = Sequence[str | Path | RemotePhoto]


@dataclass
class _Run:
    """One extraction under way.

    Attributes:
        partly: Whether a photo's content had some of what is asked for before, (n,).
        stored: Whether something of it was computed and stored, (n,).
    """

    cache: FeatureCache
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
    runtime: str = ""
    forward_per_second: float | None = None


def extract(
    paths: Paths,
    backbone: BackboneOptions,
    options: ExtractOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
    most: int | None = None,
) -> ExtractReport:
    """Compute and store what the cache lacks for these photos.

    An interrupt (Ctrl-C, SIGTERM) leaves every row computed so far in the cache and goes on as KeyboardInterrupt.

    Args:
        paths: Photo files, and photos on other machines; the same file or content may appear more than once.
        backbone: Which network, weights and transform.
        options: What to keep and how to run.
        progress: Called after each batch.
        most: Stop after this many contents, to learn how fast they go; what is computed is stored like any other.

    Raises:
        BackboneError: backbone, weights or runtime cannot be had.
        OptionError: a block, view, device or runtime that does not exist.
        CacheBusy: another extraction writes to the same key for longer than `options.wait`.
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
    run = _Run(cache, loaded, key, columns, paths, options, progress, seconds, partly, stored)
    if loaded.random:
        run.notes.append(f"weights are {loaded.weights_source}: untrained, for tests and speed only")
    with _timed(run.seconds, "hash"):
        ids, problems = content_ids(cache, paths, options.rehash, read=False)
    run.rejects.update(problems)
    unknown = unread(ids, problems, paths)
    new = unknown[:most]
    readable = ids != NO_ID
    first = readable & ~IdIndex(ids).duplicates()
    rows = _without_rejected(run, ids, np.flatnonzero(first))
    lacking = lacking_in(cache, key.digest, columns)(ids[rows])
    todo = lacking.any(axis=1)
    run.partly[rows] = ~lacking.all(axis=1)
    cache.files.retry(ids[rows[todo]], key.digest)
    now = rows[todo][: None if most is None else most - len(new)]
    run.left = int(todo.sum()) - len(now) + len(unknown) - len(new)
    reused = int((~todo).sum())
    if len(now) or len(new):
        with interruptible():
            reused += _compute(run, ids, now, new)
    elif not is_written_down(cache, key, loaded):
        with _writer(run):
            pass
    run.seconds["total"] = time.perf_counter() - began
    _spread_rejects(run, ids)
    readable = ids != NO_ID
    return _report(run, len(np.unique(ids[readable])), int(readable.sum()), reused)


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


def _compute(run: _Run, ids: Ids, rows: Int64, new: Int64) -> int:
    """Compute what these photos lack; how many contents of the new ones turned out to lack nothing."""
    with _writer(run) as writer:
        # Asked again under the lock: while this process waited, another may have written some of them.
        lacking = np.stack([writer.missing(ids[rows], column) for column in run.columns], axis=1)
        jobs = jobs_of(rows, lacking, run.columns)
        fresh = _fresh(run, ids) if len(new) else None
        if fresh is not None:
            jobs.append(job_of_new(new, run.columns, fresh))
        run.total, run.began = sum(len(job.rows) for job in jobs), time.perf_counter()
        embedder = None
        for job in jobs:
            embedder = _compute_job(run, writer, job, ids)
        with _timed(run.seconds, "write"):
            writer.flush()
        run.seconds["compute"] = time.perf_counter() - run.began - run.seconds["runtime"]
        # Several jobs run different forward passes, and the last one's rate says nothing about all of them.
        alone = embedder is not None and len(jobs) == 1 and embedder.runtime.blocks
        if embedder is not None and alone and run.seconds["compute"] > _PROBE_AFTER:
            with _timed(run.seconds, "probe"):
                run.forward_per_second = _forward_alone(embedder, run.done / run.seconds["compute"])
    return 0 if fresh is None else fresh.reused


def _forward_alone(embedder: Embedder, photos_per_second: float) -> float:
    """Photos per second of the forward pass alone, all views: the best of a few rounds of seconds each."""
    views = len(embedder.views)
    passes = _ROUND_SECONDS * photos_per_second * views / (embedder.batch_size * embedder.runtime.streams)
    return embedder.forward_rate(max(2, round(passes)), _PROBE_ROUNDS) / views


def _writer(run: _Run) -> AbstractContextManager[Writer]:
    return key_writer(run.cache, run.key, run.backbone, run.options)


def _compute_job(run: _Run, writer: Writer, job: Job, ids: Ids) -> Embedder:
    asked = run.options
    with _timed(run.seconds, "runtime"):
        embedder = Embedder(
            run.backbone,
            job.blocks,
            job.views,
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
    with contextlib.closing(embedder([run.paths[row] for row in job.rows], job.fresh)) as batches:
        for batch in batches:
            _store(run, writer, job, batch)
            if job.fresh is not None:
                _note(run, job, batch, ids)
    _account(run, embedder)
    return embedder


def _store(run: _Run, writer: Writer, job: Job, batch: Batch) -> None:
    for reject in batch.rejects:
        # What only this run cannot take belongs to its cache key, whose rejects the next extract tries again.
        owner = None if reject.lasting else run.key.digest
        if reject.passing:
            run.rejects[int(job.rows[reject.index])] = reject.reason
            continue
        _reject(run, int(job.rows[reject.index]), reject.content_id, reject.reason, owner)
    finite = np.ones(len(batch.ids), dtype=np.bool_)
    for values in batch.features.values():
        finite &= np.isfinite(values).all(axis=1)
    for at in np.flatnonzero(~finite):
        reason = "the network's output for it is not finite"
        _reject(run, int(job.rows[batch.indices[at]]), batch.ids[at], reason, run.key.digest)
    column_of = {(column.block.name, column.view): column for column in run.columns}
    with _timed(run.seconds, "write"):
        # The ids are those of the bytes decoded: a photo that changed since it was hashed is stored as what it is now.
        writer.append(batch.ids[finite], {column_of[key]: values[finite] for key, values in batch.features.items()})
    run.stored[job.rows[batch.indices[finite]]] = True
    run.done += len(batch.indices) + len(batch.rejects) + len(batch.skipped)
    if run.progress is not None:
        rate = run.done / max(time.perf_counter() - run.began - run.seconds["runtime"], 1e-9)
        run.progress(Progress(run.done, run.total, rate, max(0.0, (run.total - run.done) / rate)))


def _reject(run: _Run, row: int, content_id: bytes, reason: str, key: str | None = None) -> None:
    run.rejects[row] = reason
    run.cache.files.reject(str(run.paths[row]), content_id, reason, key)


def _note(run: _Run, job: Job, batch: Batch, ids: Ids) -> None:
    """Which contents photos turned out to have that nobody had read before: in `ids`, and in the index of files."""
    others: list[Skipped | Reject] = [*batch.skipped, *batch.rejects]
    at = job.rows[np.concatenate([batch.indices, np.array([each.index for each in others], np.int64)])]
    ids[at] = np.concatenate([batch.ids, np.array([each.content_id for each in others], ids.dtype)])
    remember(run.cache, [run.paths[row] for row in at], ids[at])
    before = job.fresh.rejected if job.fresh is not None else {}
    run.rejects |= {int(job.rows[s.index]): before[s.content_id] for s in batch.skipped if s.content_id in before}


def _account(run: _Run, embedder: Embedder) -> None:
    timings, runtime = embedder.timings, embedder.runtime
    colour = ("colour",) if timings.colour else ()
    for name in ("read", "decode", *colour, "forward"):
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
        written=int(run.stored.sum()),
        extended=int((run.stored & run.partly).sum()),
        rejects=tuple(PhotoReject(_shown(run.paths[row]), why) for row, why in sorted(run.rejects.items())),
        seconds=run.seconds,
        images_per_second=run.done / compute if compute else 0.0,
        forward_per_second=run.forward_per_second,
        runtime=run.runtime,
        left=run.left,
        notes=tuple(run.notes),
    )


def _shown(photo: str | Path | RemotePhoto) -> Path | str:
    return photo.name if isinstance(photo, RemotePhoto) else Path(photo)


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
