"""The commands that look after the embedding cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from pipeline.cli.output import say, say_all
from pipeline.cli.parameters import NO_NEGATIVE, FileOptions, Flat
from pipeline.cli.summaries.stages import cache_lines, repair_lines, verify_lines
from pipeline.errors import OptionError, counted
from pipeline.options import CacheKeyOptions, DataOptions, ExportOptions, PruneOptions

CACHE = Parameter(help="Folder of the embedding cache.")


cache_app = App(name="cache", help="Look after the embedding cache.", default_parameter=NO_NEGATIVE)


@cache_app.command(name="info")
def cache_info(*, cache: Annotated[Path, CACHE] = Path("features")) -> None:
    """Say which cache keys, rows, blocks and views the cache holds, how large they are and when they were made."""
    from pipeline.features.selection import open_cache

    say_all(cache_lines(open_cache(cache).keys(), cache))


@cache_app.command(name="verify")
def cache_verify(
    *,
    cache: Annotated[Path, CACHE] = Path("features"),
    deep: Annotated[bool, Parameter(help="Read every byte.")] = False,
    repair: Annotated[bool, Parameter(help="Move what is bad to quarantine; extract recomputes just that.")] = False,
) -> int:
    """Check that every shard is whole and belongs where it lies; exit code 1 when something is wrong."""
    from pipeline.features.converted_models import damaged_models
    from pipeline.features.selection import open_cache

    opened = open_cache(cache)
    report = opened.verify(deep)
    say_all(verify_lines(report))
    converted = damaged_models(cache / "runtimes")
    say_all(f"  converted model {path}: {detail}" for path, detail in converted)
    if not repair or (report.ok and not converted):
        return 0 if report.ok and not converted else 1
    done = opened.repair(report)
    say_all(repair_lines(done))
    moved = [(path, opened.quarantine(path)) for path, _ in converted]
    say_all(f"  {path} -> {place}; an extract that needs it makes it again" for path, place in moved)
    return 1 if done.left else 0


@cache_app.command(name="export")
def cache_export(
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    cache_key: Annotated[CacheKeyOptions, Flat] = CacheKeyOptions(),
    options: Annotated[ExportOptions, Flat] = ExportOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Write one plain HDF5 or .npz file: a row per photo of the catalogue, or per cached content without one."""
    from pipeline.features.cache_tools import export
    from pipeline.model.file import read_model

    model = None if options.model is None else read_model(options.model, options.sha256)
    report = export(data, cache_key, options, model)
    say(f"cache export: {counted(report.rows, 'row')} of {counted(report.dim, 'number')} -> {report.path}")
    if report.left_out and data.data is None:
        lack = f"{counted(report.left_out, 'cached content')} {'lacks' if report.left_out == 1 else 'lack'}"
        say(f"  {lack} a block or view that is written, and is left out; --use or --view writes another choice")
    elif report.left_out:
        say(f"  {counted(report.left_out, 'photo')} of the catalogue left out: rejected, so without vectors")
    say_all(f"  note: {note}" for note in report.notes)


@cache_app.command(name="prune")
def cache_prune(
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    options: Annotated[PruneOptions, Flat] = PruneOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Remove rows that the catalogue does not name, cache keys no longer wanted, and what lies in quarantine."""
    from pipeline.features.cache_tools import ids_of_catalogue
    from pipeline.features.selection import open_cache

    opened = open_cache(options.cache)
    if data.data is None and not (options.drop_cache_key or options.quarantine) and not opened.prune().old_layouts:
        raise OptionError(
            "nothing to remove was named: give --data (rows of photos that it does not name go), --drop-cache-key or"
            " --quarantine"
        )
    keep = None if data.data is None else ids_of_catalogue(opened, data)
    report = opened.prune(keep, options.drop_cache_key, dry_run=not options.yes, quarantine=options.quarantine)
    verb = "removed" if options.yes else "would remove (dry run; --yes removes)"
    count = f"{counted(report.rows, 'row')}, {counted(len(report.keys), 'cache key')}"
    say(f"cache prune: {verb} {count}, {report.bytes / 1e6:.1f} MB")
    say_all(f"  cache key {digest[:16]}" for digest in report.keys)
    say_all(f"  {path} of an older layout" for path in report.old_layouts)
    say_all(f"  {path}" for path in report.quarantined)


@cache_app.command(name="compact")
def cache_compact(*, cache: Annotated[Path, CACHE] = Path("features")) -> None:
    """Turn many small shards into few large ones; safe to interrupt."""
    from pipeline.features.selection import open_cache

    done = open_cache(cache).compact()
    say(
        f"cache compact: {counted(done.shards_before, 'shard')}, {done.bytes_before / 1e6:.1f} MB -> "
        f"{counted(done.shards_after, 'shard')}, {done.bytes_after / 1e6:.1f} MB; "
        f"{counted(done.duplicate_rows, 'repeated row')} joined"
    )
