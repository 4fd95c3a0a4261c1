"""Kill a writer everywhere and at random, finish its work, and count what was lost or wrong.

python benchmarks/kills.py                                   the torch-free writer: every boundary, 100 random kills
python benchmarks/kills.py --real "python run.py extract --data D --cache {cache}" [--boundaries 20] [--kills 10]
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HOME), str(HOME / "tests" / "cache")]

import h5py  # noqa: E402
import numpy as np  # noqa: E402
from cachekit import unexpected_files  # noqa: E402
from crashkit import Call, kill_at, python_writer, trace, why_no_strace  # noqa: E402

from cache import FeatureCache  # noqa: E402
from cache.shard import ShardName  # noqa: E402

Rows = dict[tuple[str, bytes], np.ndarray]
Command = Callable[[Path], list[str]]


@dataclass
class Tally:
    """What all kills together cost."""

    boundaries: int = 0
    random_kills: int = 0
    lost: int = 0
    wrong: int = 0
    leftovers: int = 0
    unclean: int = 0

    def line(self) -> str:
        return (
            f"boundaries tried {self.boundaries}, random kills {self.random_kills}, "
            f"rows lost beyond the shard in flight {self.lost}, wrong rows {self.wrong}, "
            f"leftover files {self.leftovers}, caches that verify did not find clean {self.unclean}"
        )


def rows_of(root: Path) -> Rows:
    """Every row by (folder and column, content id), read by h5py alone."""
    rows: Rows = {}
    for path in sorted(root.glob("*/*.h5")):  # no deeper: in quarantine lies what is no part of the cache
        if ShardName.parse(path.name) is not None:
            column = f"{path.parent.name}/{'-'.join(path.name.split('-')[:3])}"
            with h5py.File(path, "r") as file:
                for content, features in zip(file["ids"][:], file["features"][:], strict=True):
                    rows.setdefault((column, content.tobytes()), features)
    return rows


def wrong_rows(rows: Rows, reference: Rows, tolerance: float) -> int:
    """Rows that are absent, too many, or differ by more than `tolerance` of the reference's scale."""
    wrong = len(rows.keys() ^ reference.keys())
    for key in rows.keys() & reference.keys():
        expected = reference[key].astype(np.float64)
        allowed = tolerance * max(float(np.abs(expected).max()), 1e-30)
        wrong += bool(np.abs(rows[key] - expected).max() > allowed)
    return wrong


def committed(calls: list[Call], place: int) -> int:
    """Rows in shards that had their final name when a call began."""
    names = [ShardName.parse(Path(call.paths[-1]).name) for call in calls[:place] if call.name == "rename"]
    return sum(name.rows for name in names if name is not None)


def finish(root: Path, command: Command, reference: Rows, tolerance: float, tally: Tally) -> None:
    """Run to the end, then count what is not as it should be."""
    subprocess.run(command(root), check=True, capture_output=True)
    tally.wrong += wrong_rows(rows_of(root), reference, tolerance)
    tally.leftovers += len(unexpected_files(root))
    tally.unclean += not FeatureCache(root).verify(deep=True).ok
    shutil.rmtree(root)


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` places, evenly over `count`, first and last included."""
    if count <= limit:
        return list(range(count))
    return sorted({round(step * (count - 1) / (limit - 1)) for step in range(limit)})


def enumerate_boundaries(
    folder: Path, command: Command, reference: Rows, options: argparse.Namespace, tally: Tally
) -> None:
    traced = folder / "traced"
    calls = trace(command(traced), traced)
    shutil.rmtree(traced)
    places = spread(len(calls), options.boundaries)
    print(f"{len(calls)} boundaries, {len(places)} of them tried", flush=True)

    def killed(place: int) -> tuple[Path, int]:
        root = folder / f"at-{place}"
        kill_at(command(root), calls[place])
        return root, place

    with ThreadPoolExecutor(1 if options.real else 2) as pool:
        for root, place in pool.map(killed, places):
            tally.boundaries += 1
            tally.lost += max(0, committed(calls, place) - len(rows_of(root)))
            finish(root, command, reference, options.tolerance, tally)


def kill_at_random(folder: Path, command: Command, reference: Rows, options: argparse.Namespace, tally: Tally) -> None:
    """One cache, killed again and again until complete, then from the start; rows may only grow."""
    dice = random.Random(options.seed)
    root = folder / "random"
    whole = options.seconds
    before: Rows = {}
    while tally.random_kills < options.kills:
        child = subprocess.Popen(
            command(root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            child.wait(dice.uniform(0.2, 1.0) * whole)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            tally.random_kills += 1
        now = rows_of(root)
        tally.lost += len(before.keys() - now.keys())
        before = now
        if len(now) == len(reference):
            finish(root, command, reference, options.tolerance, tally)
            before = {}
    if root.exists():
        finish(root, command, reference, options.tolerance, tally)


def commands(options: argparse.Namespace) -> Iterator[tuple[str, Command]]:
    if options.real:
        yield "real", lambda root: [part.replace("{cache}", str(root)) for part in shlex.split(options.real)]
        return
    yield "writer", lambda root: python_writer(root, "write", "--rows", "24", "--shard-rows", "4", "--batch", "3")


def slow_writer(root: Path) -> list[str]:
    return python_writer(root, "write", "--rows", "120", "--shard-rows", "4", "--batch", "2", "--delay", "0.02")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", default="", help="a command with {cache} where the cache folder goes")
    parser.add_argument("--boundaries", type=int, default=10_000, help="at most so many, evenly spread")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--tolerance", type=float, default=None, help="0 without --real, 1e-5 of a row's scale with it")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.tolerance is None:
        options.tolerance = 1e-5 if options.real else 0.0
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _, command in commands(options):
            reference = undisturbed(folder, command, options)
            if why_no_strace():
                print(f"no boundaries tried: {why_no_strace()}")
            else:
                enumerate_boundaries(folder, command, reference, options, tally)
            at_random = command if options.real else slow_writer
            if at_random is not command:
                reference = undisturbed(folder, at_random, options)
            kill_at_random(folder, at_random, reference, options, tally)
    print(tally.line())
    return int(bool(tally.lost or tally.wrong or tally.leftovers or tally.unclean))


def undisturbed(folder: Path, command: Command, options: argparse.Namespace) -> Rows:
    """Rows of a run that nobody kills; remembers how long it took."""
    root = folder / "reference"
    start = time.perf_counter()
    subprocess.run(command(root), check=True, capture_output=True)
    options.seconds = time.perf_counter() - start
    reference = rows_of(root)
    shutil.rmtree(root)
    print(f"an undisturbed run writes {len(reference)} rows in {options.seconds:.1f} s", flush=True)
    return reference


if __name__ == "__main__":
    sys.exit(main())
