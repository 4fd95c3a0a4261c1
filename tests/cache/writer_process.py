"""A writer without a network, run as a process by the tests and the benchmarks so that it can be killed.

python writer_process.py ROOT write|compact|hold [--rows 12] [--shard-rows 4] [--batch 2] ...
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from cachekit import FLIPPED, KEY, POOLED, make_ids, vectors  # noqa: E402

from cache import CacheError, FeatureCache, WriterOptions, interruptible  # noqa: E402

COLUMNS = (POOLED, FLIPPED)


def write(root: Path, rows: int = 12, shard_rows: int = 4, batch: int = 2, delay: float = 0.0) -> int:
    """Compute what is missing, batch by batch; returns how many rows had to be computed, counted once per column."""
    ids = make_ids(rows)
    computed = 0
    with FeatureCache(root).writer(KEY, options=WriterOptions(shard_rows=shard_rows), wait=None) as writer:
        missing = {column: writer.missing(ids, column) for column in COLUMNS}
        for start in range(0, rows, batch):
            part = slice(start, start + batch)
            for column in COLUMNS:
                new = ids[part][missing[column][part]]
                computed += len(new)
                if len(new):
                    writer.append(new, {column: vectors(new, column)})
            time.sleep(delay)
    return computed


def hold(root: Path, rows: int) -> None:
    """Append rows that fill no shard, say so, and wait to be stopped."""
    with interruptible(), FeatureCache(root).writer(KEY) as writer:
        ids = make_ids(rows)
        writer.append(ids, {column: vectors(ids, column) for column in COLUMNS})
        sys.stdout.write("holding\n")
        sys.stdout.flush()
        time.sleep(60)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("mode", choices=["write", "compact", "hold"])
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--shard-rows", type=int, default=4)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--file-limit", type=int, default=0)
    options = parser.parse_args()
    if options.file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_limit, options.file_limit))
    try:
        if options.mode == "write":
            write(options.root, options.rows, options.shard_rows, options.batch, options.delay)
        elif options.mode == "compact":
            FeatureCache(options.root).compact()
        else:
            hold(options.root, options.rows)
    except CacheError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
