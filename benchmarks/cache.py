"""The cache beside plain NumPy: reads, a run with nothing to do, and memory as rows grow; prints ratios of one run.

python benchmarks/cache.py [--rows 20000] [--dim 2048] [--photos 100000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import cache.stored as stored
from cache import BaseKey, Block, Column, FeatureCache, WriterOptions, id_array

KEY = BaseKey("0" * 64, "none", 224, "squash", "bicubic", (0.5,) * 3, (0.5,) * 3, 1, "none", "fp32")


def make_ids(count: int) -> np.ndarray:
    return id_array(hashlib.sha256(b"%d" % number).digest() for number in range(count))


def fill(root: Path, rows: int, dim: int, dtype: str = "float32") -> Column:
    """A cache of random rows, written in steps so that the writer's own memory stays small."""
    column = Column(Block("pooled", dim))
    ids, dice = make_ids(rows), np.random.default_rng(0)
    with FeatureCache(root).writer(KEY, options=WriterOptions(dtype=dtype)) as writer:
        for start in range(0, rows, 1024):
            part = ids[start : start + 1024]
            writer.append(part, {column: dice.standard_normal((len(part), dim), dtype=np.float32)})
    return column


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def beside(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> tuple[float, float, float]:
    """Median seconds of both, taken in turns, and the median of their ratios (theirs / ours: above 1 is faster)."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)][1:]
    mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    return mine, other, statistics.median(b / a for a, b in pairs)


def reads(folder: Path, rows: int, dim: int, repeats: int) -> None:
    root, plain = folder / "reads", folder / "plain.npy"
    column = fill(root, rows, dim)
    cache, ids = FeatureCache(root), make_ids(rows)
    np.save(plain, cache.reader(KEY.digest).read(ids, [column]))
    order = np.random.default_rng(1).permutation(rows)

    def report(name: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
        mine, other, ratio = beside(ours, theirs, repeats)
        gigabytes = rows * dim * 4 / 1e9
        print(f"{name:<52} {gigabytes / mine:6.2f} GB/s  numpy {gigabytes / other:6.2f} GB/s  ratio {ratio:5.2f}")

    def all_rows() -> np.ndarray:
        return cache.reader(KEY.digest).read(ids, [column])

    def first_read() -> np.ndarray:
        stored._VERIFIED.clear()  # as in a fresh process
        return all_rows()

    def all_plain() -> np.ndarray:
        return np.array(np.load(plain, mmap_mode="r"))

    np.testing.assert_array_equal(all_rows(), all_plain())
    time.sleep(2.5)  # shards as young as the clock is coarse are verified at every read
    report("all rows, every checksum compared", first_read, all_plain)
    report("all rows, new reader, verified before", all_rows, all_plain)
    kept = cache.reader(KEY.digest)
    kept.read(ids, [column])
    report("all rows again, same reader", lambda: kept.read(ids, [column]), all_plain)
    report(
        "all rows in random order, same reader",
        lambda: kept.read(ids[order], [column]),
        lambda: np.load(plain, mmap_mode="r")[order],
    )
    cache.compact()
    time.sleep(2.5)
    report("after compact: every checksum compared", first_read, all_plain)
    report("after compact: verified before", all_rows, all_plain)
    plain.unlink()


CHILD = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np, os
import cache as package
from cache import Block, Column, FeatureCache
def peak():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))) / 1024
sys.path.insert(0, sys.argv[1] + "/benchmarks")
mode, root, dim = sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
store, column = FeatureCache(root), Column(Block("pooled", dim))
key = store.keys()[0].key
before, start, cpu = peak(), time.perf_counter(), time.process_time()
if mode == "nothing":
    paths = [Path(entry.path) for folder in os.scandir(sys.argv[5]) for entry in os.scandir(folder.path)]
    ids, problems = store.files.ids(paths)
    with store.writer(key) as writer:
        missing = int(writer.missing(ids, column).sum())
    assert not problems and not missing, (len(problems), missing)
else:
    reader = store.reader(key.digest)
    total = 0.0
    for batch in reader.batches(reader.ids(column), [column], 256):
        total += float(batch[0, 0])
print(json.dumps([time.perf_counter() - start, time.process_time() - cpu, peak() - before]))
"""


def child(*arguments: object) -> tuple[float, float, float]:
    """Seconds, seconds of processor time and megabytes beyond the imports of a fresh process."""
    home = str(Path(__file__).resolve().parent.parent)
    command = [sys.executable, "-c", CHILD, home, *map(str, arguments)]
    took, cpu, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return took, cpu, peak


def nothing_to_do(folder: Path, photos: int) -> None:
    root, images = folder / "nothing", folder / "images"
    contents = []
    for number in range(photos):
        path = images / f"{number // 1000}" / f"{number}.jpg"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"%d" % number)
        contents.append(path)
    time.sleep(2.5)  # files as young as their hash are hashed again
    store = FeatureCache(root)
    first = seconds(lambda: store.files.ids(contents))
    print(f"first look at {photos:,} files: {first:.2f} s")
    column = fill(root, photos, 4)
    took, cpu, peak = min(child("nothing", root, column.block.dim, images) for _ in range(3))
    print(f"nothing to do over {photos:,} known files: {took:.2f} s (at most 3; {cpu:.2f} s of processor time)")
    print(f"its memory beyond the imports: {peak:.0f} MB (at most 300)")


def streaming(folder: Path, rows: int, dim: int) -> None:
    peaks = []
    for times in (1, 10):
        root = folder / f"stream-{times}"
        fill(root, rows * times, dim)
        took, _, peak = child("stream", root, dim)
        peaks.append(peak)
        print(f"streaming {rows * times:,} x {dim} in batches of 256: {took:.2f} s, {peak:.0f} MB beyond the imports")
    print(f"memory for 10 times the rows: {peaks[1] / max(peaks[0], 1):.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--reads-only", action="store_true")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; a temporary folder if not given")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the run")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        reads(folder, options.rows, options.dim, options.repeats)
        if not options.reads_only:
            nothing_to_do(folder, options.photos)
            streaming(folder, 4000, 512)


if __name__ == "__main__":
    main()
