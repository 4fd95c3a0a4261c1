"""Flip single bits all over a cache, let `prune` and `verify --repair` at it, and count what was lost or wrong.

python benchmarks/damage_cache.py [--flips 4000] [--seed 0]

Each flip is done on a fresh copy. Sound rows are those of every file but the flipped one; the rows of a shard that is
found damaged are not lost either: it lies in quarantine, and the writer that follows computes them again.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HOME), str(HOME / "tests" / "cache")]

from cachekit import FLIPPED, KEY, OTHER_KEY, POOLED, make_ids, vectors  # noqa: E402

from cache import BaseKey, CacheError, Column, FeatureCache, WriterOptions, id_of  # noqa: E402
from cache.probe import Probe  # noqa: E402
from cache.repair import repair  # noqa: E402
from cache.verify import verify  # noqa: E402

IDS = make_ids(12)
COLUMNS = (POOLED, FLIPPED)
KEYS = (KEY, OTHER_KEY)
NOTES = {"weights_source": "package", "weights_sources": ["package"], "random_weights": False}
HEAD = (
    *(" flips", "noticed", "rewritten", "moved", "rows again"),
    *("sound rows lost", "wrong", "deleted", "not clean"),
)
KINDS = ("key.json", "shard", "ids", "files.sqlite", "runtime")


class LastingProbe(Probe):
    """One child for many checks; `end` stops it."""

    def __exit__(self, *args: object) -> None:
        pass

    def end(self) -> None:
        super().__exit__(None, None, None)


@dataclass
class Tally:
    """What all flips of one kind of file together cost; `wrong` counts rows, ids of photos, notes and sets of ids."""

    flips: int = 0
    noticed: int = 0
    rewritten: int = 0
    moved: int = 0
    rows_again: int = 0
    sound_lost: int = 0
    wrong: int = 0
    gone: int = 0
    unclean: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        return self.sound_lost + self.wrong + self.gone + self.unclean

    def cells(self) -> tuple[int, ...]:
        done = (self.flips, self.noticed, self.rewritten, self.moved, self.rows_again)
        return (*done, self.sound_lost, self.wrong, self.gone, self.unclean)


def build(folder: Path) -> list[Path]:
    """Two keys of two columns in shards, sets of ids, an index and a converted model; returns the photos."""
    photos = []
    for number in range(6):
        photos.append(folder / f"{number}.jpg")
        photos[-1].write_bytes(b"photo %d" % number)
    time.sleep(2.1)  # a file as young as the clock is coarse is not kept in the index
    cache = FeatureCache(folder / "features")
    for key in KEYS:
        with cache.writer(key, NOTES, options=WriterOptions(shard_rows=4)) as writer:
            writer.append(IDS, {column: vectors(IDS, column) for column in COLUMNS})
            writer.attach_ids("trained_on", IDS[:5])
    cache.files.ids(photos)
    cache.files.reject(photos[0], id_of(b"photo 0"), "not an image")
    model = cache.root / "runtimes" / "0123456789abcdef" / "model.bin"
    model.parent.mkdir(parents=True)
    model.write_bytes(random.Random(0).randbytes(4096))
    return photos


def files_of(root: Path) -> dict[str, list[Path]]:
    """Files of each kind, relative to the cache."""
    patterns = dict(zip(KINDS, ("*/key.json", "*/*.h5", "*/*.ids", "files.sqlite", "runtimes/*/*"), strict=True))
    return {kind: sorted(path.relative_to(root) for path in root.glob(p)) for kind, p in patterns.items()}


def flip(path: Path, dice: random.Random) -> str:
    """Flip one bit anywhere in a file; returns where."""
    data = bytearray(path.read_bytes())
    place, bit = dice.randrange(len(data)), dice.randrange(8)
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {place} of {path.name}"


def rows_in(root: Path, key: BaseKey, column: Column) -> tuple[int, int]:
    """Rows that can be read, and how many of them are wrong."""
    try:
        reader = FeatureCache(root).reader(key.digest)
        there = IDS[reader.contains(IDS, column)]
        read = reader.read(there, [column])
    except CacheError:
        return 0, 0
    return len(there), int((read != vectors(there, column)).any(axis=1).sum())


def try_one(root: Path, photos: list[Path], flipped: Path, probe: Probe, tally: Tally) -> str:
    """Prune, check and repair a cache with one flipped bit, then complete it; returns what should not have happened."""
    damaged = flipped.read_bytes()
    cache = FeatureCache(root)
    cache.prune(dry_run=False)
    report = verify(root, deep=True, probe=probe)
    wrong = _wrong_ids(cache, photos)
    done = repair(root, report, probe)
    tally.noticed += bool(report.problems)
    tally.rewritten += len(done.rewritten)
    tally.moved += len(done.moved)
    tally.rows_again += done.rows_lost
    own = done.rows_lost if any(item.source == flipped and flipped.suffix == ".h5" for item in done.moved) else 0
    counts = [rows_in(root, key, column) for key in KEYS for column in COLUMNS]
    lost = len(IDS) * len(counts) - own - sum(rows for rows, _ in counts)
    wrong += sum(count for _, count in counts) + _wrong_facts(cache)
    kept = [path for path in (flipped, *(root / "quarantine").rglob("*")) if path.is_file()]
    # The index is a convenience that any command may start again; nothing else may vanish.
    gone = flipped.name != "files.sqlite" and damaged not in [path.read_bytes() for path in kept]
    unclean = not _completes(cache, probe)
    tally.sound_lost += lost
    tally.wrong += wrong
    tally.gone += gone
    tally.unclean += unclean
    said = {"sound rows lost": lost, "wrong": wrong, "deleted": gone, "not clean afterwards": unclean}
    return ", ".join(name for name, count in said.items() if count)


def _wrong_ids(cache: FeatureCache, photos: list[Path]) -> int:
    ids, problems = cache.files.ids(photos)
    right = [id_of(photo.read_bytes()).rstrip(b"\0") for photo in photos]
    return len(problems) + sum(found != expected for found, expected in zip(ids.tolist(), right, strict=True))


def _wrong_facts(cache: FeatureCache) -> int:
    """Notes and sets of ids that are neither those that were written nor missing."""
    infos = cache.keys()
    wrong = sum(info.notes != NOTES for info in infos)
    for key in KEYS:
        ids = cache.attached_ids(key.digest, "trained_on")
        wrong += len(ids) > 0 and ids.tolist() != sorted(IDS[:5].tolist())
    return wrong


def _completes(cache: FeatureCache, probe: Probe) -> bool:
    """Whether a writer can compute what is missing, after which every row is there and verify finds nothing."""
    for key in KEYS:
        with cache.writer(key, NOTES) as writer:
            for column in COLUMNS:
                new = IDS[writer.missing(IDS, column)]
                writer.append(new, {column: vectors(new, column)})
    whole = all(rows_in(cache.root, key, column) == (len(IDS), 0) for key in KEYS for column in COLUMNS)
    return whole and verify(cache.root, deep=True, probe=probe).ok


def run(flips: int, seed: int, folder: Path) -> dict[str, Tally]:
    """Do so many flips, in turn over the kinds of files."""
    dice = random.Random(seed)
    photos = build(folder)
    kinds = files_of(folder / "features")
    tallies = {kind: Tally() for kind in KINDS}
    probe = LastingProbe()
    for number in range(flips):
        kind = KINDS[number % len(KINDS)]
        root = folder / "damaged" / "features"
        shutil.copytree(folder / "features", root)
        flipped = root / dice.choice(kinds[kind])
        where = flip(flipped, dice)
        tally = tallies[kind]
        tally.flips += 1
        violation = try_one(root, photos, flipped, probe, tally)
        if violation:
            tally.failures.append(f"flip {number}, {where}: {violation}")
        shutil.rmtree(root.parent)
    probe.end()
    return tallies


def table(tallies: dict[str, Tally]) -> list[str]:
    """The summary, one line a kind."""
    total = [sum(column) for column in zip(*(tally.cells() for tally in tallies.values()), strict=True)]
    rows = [("file", HEAD), *((kind, tally.cells()) for kind, tally in tallies.items()), ("all", total)]
    return [
        "  ".join([name.ljust(12), *(str(cell).rjust(len(text)) for cell, text in zip(cells, HEAD, strict=True))])
        for name, cells in rows
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        tallies = run(options.flips, options.seed, Path(name))
    print("\n".join(table(tallies)))
    failures = [text for tally in tallies.values() for text in tally.failures]
    print("\n".join(failures[:20]), end="\n" if failures else "")
    print(f"{options.flips} flips, seed {options.seed}, {time.perf_counter() - start:.0f} s")
    return int(any(tally.violations for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
