"""Random operations and faults on a small catalogue, against a model of what must be true after each of them.

python benchmarks/soak.py --minutes 30 [--seed S]

Photos are changed, renamed, removed, replaced by folders, pipes and dangling links, dated back and forth; commands are
killed at any moment, run two at once, on a full disk, under a limit on the size of files; the cache moves. After each
step every row in the cache is compared with an undisturbed computation, `verify` must find nothing, no file may be left
over, no exit code be other than documented. The same seed chooses the same operations. Exit code 1 on a violation.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import h5py  # noqa: E402
import numpy as np  # noqa: E402
from soak_processes import Limits  # noqa: E402
from soak_world import (  # noqa: E402
    BAD,
    BLOCKS,
    GOOD,
    MIRRORED,
    NAMES,
    ODD,
    WEIGHTS,
    Violation,
    Wanted,
    World,
    check_ended,
    chosen_names,
    rows_of,
)

DISK_BYTES = 24 * 2**20
SIGNALS = (*[0] * 7, *[signal.SIGKILL] * 6, signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
Operation = Callable[[World, random.Random], None]


def run(world: World, dice: random.Random, words: list[str], codes: tuple[int, ...] = (0,), says: str = "") -> int:
    """Run one command, one in three with a signal at a random moment; its code, after the look at how it ended."""
    number, after, fork = dice.choice(SIGNALS), dice.uniform(0, 0.3), dice.random() > 0.02
    command = world.start(*words, fork=fork)
    if number:
        command.kill(number, after)
    ended = command.wait()
    world.kills += bool(ended.sent)
    check_ended(ended, codes, says)
    return ended.code


def change_photos(world: World, dice: random.Random) -> None:
    for name in chosen_names(dice)[:8]:
        what = dice.choice(["good", "good", "same", "bad", "odd", "gone", "rename", "swap", "date"])
        other = dice.choice(NAMES)
        if what in ("rename", "swap"):
            world.photos[name], world.photos[other] = world.photos[other], world.photos[name]
            world.put(other, world.photos[other] if what == "swap" or isinstance(world.photos[name], str) else None)
            world.put(name, world.photos[name])
        elif what == "date":
            with contextlib.suppress(OSError):
                moved = dice.choice([0, 1, 10**9, 4 * 10**9]) + dice.random()
                if isinstance(world.photos[name], int):
                    os.utime(world.images / name, (moved, moved))
        else:
            choices = {"good": range(GOOD), "same": [world.photos[name]], "bad": range(GOOD, GOOD + BAD), "odd": ODD}
            world.put(name, dice.choice(choices.get(what, [None])))


def restore_photos(world: World, dice: random.Random) -> None:
    for name in NAMES:
        if not isinstance(world.photos[name], int):
            world.put(name, dice.randrange(GOOD))


def wanted(dice: random.Random) -> Wanted:
    return Wanted(dice.choice(WEIGHTS), dice.choice(BLOCKS), dice.choice(MIRRORED))


def rows(world: World) -> set[tuple[str, bytes]]:
    return set(rows_of(world.cache))


def require_rows(world: World, before: set[tuple[str, bytes]], places: set[tuple[str, bytes]]) -> None:
    """Of the rows in the cache none went, none came that was not asked for, and those that were asked for are there."""
    now = world.check_rows()
    if not before <= now or not now <= before | places or not places <= now:
        raise Violation(f"{len(before - now)} rows lost, {len(now - before - places)} too many, "
                        f"{len(places - now)} not computed")  # fmt: skip


def extract(world: World, dice: random.Random) -> None:
    names, kind, before = chosen_names(dice), wanted(dice), rows(world)
    code = run(world, dice, ["extract", *world.data(names), *kind.words()], codes_for(world, names), "photo")
    places = world.places(names, kind)
    require_rows(world, before, places if code == 0 else places & rows(world))


def codes_for(world: World, names: list[str]) -> tuple[int, ...]:
    """What a command on these photos may end with: 1 where not one of them is there."""
    return (0,) if any(isinstance(world.photos[name], int) for name in names) else (0, 1)


def extract_twice_at_once(world: World, dice: random.Random) -> None:
    names, kind, before = chosen_names(dice), wanted(dice), rows(world)
    words = ["extract", *world.data(names), *kind.words()]
    commands = [world.start(*words), world.start(*words)]
    codes = codes_for(world, names)
    ends = [command.wait() for command in commands]
    for ended in ends:
        check_ended(ended, codes, "photo")
    if any(ended.code == 0 for ended in ends):
        require_rows(world, before, world.places(names, kind))
    elif 1 not in codes:
        raise Violation(f"neither of two wrote: {ends[0]}")


def extract_while_photos_change(world: World, dice: random.Random) -> None:
    names, kind, before = chosen_names(dice, 4), wanted(dice), rows(world)
    possible = world.places(names, kind)
    command = world.start("extract", *world.data(names), *kind.words())
    changed = dice.sample(names, 3)
    for name in changed:
        time.sleep(dice.uniform(0, 0.1))
        world.put(name, dice.choice([*range(GOOD), None, "folder"]))
    check_ended(command.wait(), (0, 1), "photo")
    possible |= world.places(names, kind)
    steady = world.places([name for name in names if name not in changed], kind)
    require_rows(world, before, possible & rows(world) | steady if steady <= rows(world) else possible & rows(world))


def verify_and_repair(world: World, dice: random.Random) -> None:
    if not world.cache.exists():
        return
    before = rows(world)
    words = ["cache", "verify", "--cache", str(world.cache), *(["--deep"] if dice.random() < 0.5 else [])]
    repair = dice.random() < 0.5
    number, after = dice.choice(SIGNALS), dice.uniform(0, 0.1)
    command = world.start(*words, *(["--repair"] if repair else []))
    if number:
        command.kill(number, after)
    ended = command.wait()
    world.kills += bool(ended.sent)
    found_leftovers = any("tmp-" in name or "converting-" in name for name in world.leftovers) and not repair
    if ended.code == 1 and found_leftovers and not ended.err:
        return
    check_ended(ended, (0,))
    require_rows(world, before, set())
    if ended.code == 0 and repair:
        world.leftovers = {name for name in world.leftovers if "sqlite" in name}


def compact(world: World, dice: random.Random) -> None:
    if world.cache.exists():
        before = rows(world)
        run(world, dice, ["cache", "compact", "--cache", str(world.cache)])
        require_rows(world, before, set())


def prune(world: World, dice: random.Random) -> None:
    if not world.cache.exists():
        return
    before, names, sure = rows(world), chosen_names(dice, 25), dice.random() < 0.7
    words = ["cache", "prune", *world.data(names), *(["--yes"] if sure else [])]
    code = run(world, dice, words, (0, 1), "cannot be read")
    named = set(world.good(names).values())
    kept = {where for where in before if where[1] in named}
    now = world.check_rows()
    if code == 0 and sure and all(not isinstance(world.photos[name], str) for name in names) and now != kept:
        raise Violation(f"prune left {len(now)} rows, the catalogue names {len(kept)}")
    if not kept <= now <= before or (now != before and (not sure or code == 1)):
        raise Violation(f"prune took {len(before - now)} rows, the catalogue does not name {len(before - kept)}")


def export(world: World, dice: random.Random) -> None:
    if not any(folder in {where[0].split("/")[0] for where in rows(world)} for folder in world.folders.values()):
        return
    out, kind = world.home / "out.h5", dice.choice(WEIGHTS)
    words = ["cache", "export", "--cache", str(world.cache), "--weights", kind, "--use", "pooled", "--out", str(out)]
    code = run(world, dice, words, (0, 1), "no cached vectors|were not extracted|was not extracted|is not in the cache")
    if code == 0:
        column = next(c for c, _ in world.reference if c.startswith(f"{world.folders[kind]}/pooled-identity"))
        with h5py.File(out) as file:
            for content, row in zip(file["content"].asstr()[:], file["features"][:], strict=True):
                expected = world.reference[column, bytes.fromhex(content)]
                if np.abs(row - expected).max() > 1e-5 * np.abs(expected).max():
                    raise Violation(f"a wrong row in {out.name}: {content}")
    clean(world, out, killed=code < 0)


def clean(world: World, out: Path, killed: bool) -> None:
    """Nothing but the file itself lies there, unless SIGKILL left the unfinished one; then make room."""
    strays = [path for path in out.parent.iterdir() if out.name in path.name and path != out]
    if strays and not killed:
        raise Violation(f"stray files: {strays}")
    for path in [*strays, out]:
        path.unlink(missing_ok=True)


def fit(world: World, dice: random.Random) -> None:
    names, kind = chosen_names(dice, 30), dice.choice(WEIGHTS)
    out = world.home / "runs" / "new"
    network = ["--weights", kind, "--use", "pooled", "--heads", "linear", "--optimizers", "adam", "--lr", "0.1"]
    words = ["fit-heads", *world.data(names), *network, "--epochs", "2", "--thumbnails", "8", "--out", str(out)]
    has_rows = world.places(names, Wanted(kind, ("pooled",), ("identity",))) <= rows(world)
    says = "no fair split|photos" if has_rows else "no fair split|photos|extract"
    code = run(world, dice, words, (0, 1), says)
    if code == 1 and out.exists() and any(out.iterdir()):
        raise Violation(f"a refused fit left {sorted(out.iterdir())}")
    if code == 0:
        same_as_before(world, out, json.dumps([kind, sorted((n, c.hex()) for n, c in world.good(names).items()),
                                               [n for n in names if n not in world.good(names)]]))  # fmt: skip
        shutil.rmtree(world.home / "runs" / "last", ignore_errors=True)
        world.run = out.rename(world.home / "runs" / "last")
    elif (out / "run.json").exists():
        check_ended(world.start("compare", str(out)).wait(), (0,))
    elif code in (-9, 130) and out.exists():
        check_ended(world.start("compare", str(out)).wait(), (1,), "is not a complete run folder")
    shutil.rmtree(out, ignore_errors=True)


def same_as_before(world: World, run_folder: Path, of: str) -> None:
    """The same photos give the same probabilities, whatever was done to the cache between."""
    import pyarrow.parquet as pq

    table = pq.read_table(next((run_folder / "predictions").glob("*.parquet"))).to_pydict()
    found = {name: np.round(cells, 5).tolist() if name.startswith("p:") else cells for name, cells in table.items()}
    text = json.dumps(found)
    if world.seen.setdefault(of, text) != text:
        raise Violation("a fit of the same photos gave other probabilities")


def compare(world: World, dice: random.Random) -> None:
    if world.run is None:
        return
    page, table = world.home / "report.html", world.home / "table.json"
    words = ["compare", str(world.run), "--bootstrap", "20", "--report", str(page), "--json", str(table)]
    if dice.random() < 0.3:
        for command in [world.start(*words), world.start(*words)]:
            check_ended(command.wait(), (0,))
        code = 0
    else:
        code = run(world, dice, words)
    for path, end in ((page, "</html>"), (table, "}")):
        if (code == 0 or path.exists()) and not path.read_text(encoding="utf-8").rstrip().endswith(end):
            raise Violation(f"{path} is torn")
        clean(world, path, killed=code < 0)


def predict(world: World, dice: random.Random) -> None:
    names = [name for name in chosen_names(dice) if isinstance(world.photos[name], int)]
    if world.run is None or not names:
        return
    out = world.home / "predictions.csv"
    paths = [str(world.images / name) for name in names]
    words = ["predict", *paths, "--model", str(world.run / "models" / "best.joblib"), "--out", str(out)]
    code = run(world, dice, [*words, "--runtime", "torch"])
    if (code == 0 or out.exists()) and out.read_text(encoding="utf-8").count("\n") != len(names) + 1:
        raise Violation(f"{out} is torn")
    clean(world, out, killed=code < 0)


def move_cache(world: World, dice: random.Random) -> None:
    if world.cache.exists():
        world.cache = world.cache.rename(world.home / f"cache{dice.randrange(10**6)}")
        if dice.random() < 0.3:
            for path in world.cache.glob("files.sqlite*"):
                path.unlink()


def on_full_disk(world: World, dice: random.Random) -> None:
    """A disk with little room, then again with enough."""
    names, kind, before, room = chosen_names(dice, 8), wanted(dice), rows(world), dice.randrange(0, 120_000, 4096)
    words = ["extract", *world.data(names), *kind.words()]
    filler = world.home / "filler"
    free = os.statvfs(world.home)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - room))
    ends = [world.start(*words).wait()]
    if world.run is not None:
        page = str(world.home / "full.html")
        ends.append(world.start("compare", str(world.run), "--bootstrap", "20", "--report", page).wait())
    ends.append(world.start("cache", "compact", "--cache", str(world.cache)).wait())
    filler.unlink()
    for ended in ends:
        check_ended(ended, (0, 1), "free some space|no cache|photo")
    clean(world, world.home / "full.html", killed=False)
    allow_journal(world)
    require_rows(world, before, world.places(names, kind) & rows(world))
    world.check_files(killed=False)
    check_ended(world.start(*words).wait(), codes_for(world, names), "photo")


def under_a_file_limit(world: World, dice: random.Random) -> None:
    names, kind, before = chosen_names(dice, 8), wanted(dice), rows(world)
    words = ["extract", *world.data(names), *kind.words()]
    ended = world.start(*words, limits=Limits(dice.choice([4096, 12288, 20480, 40960]))).wait()
    check_ended(ended, (0, 1), "File too large|ulimit -f|photo")
    allow_journal(world)
    require_rows(world, before, world.places(names, kind) & rows(world))


def allow_journal(world: World) -> None:
    """Where SQLite could not even take back what it had begun, its journal stays for whoever opens the index next."""
    world.leftovers.add("files.sqlite-journal")


OPERATIONS: dict[Operation, int] = {
    change_photos: 6,
    restore_photos: 2,
    extract: 10,
    extract_twice_at_once: 2,
    extract_while_photos_change: 2,
    verify_and_repair: 3,
    compact: 3,
    prune: 3,
    export: 2,
    fit: 4,
    compare: 2,
    predict: 2,
    move_cache: 1,
    on_full_disk: 2,
    under_a_file_limit: 2,
}


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small disk in memory on a folder, where that is allowed."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = os.name == "posix" and os.geteuid() == 0 and subprocess.run(words, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def soak(seed: int, more: Callable[[int], bool], folder: Path) -> tuple[Counter[str], World, str]:
    """Do steps as long as `more` of their number says; what a step does depends on the seed and its number alone.

    Returns:
        Operations by kind, the world after them, and what was violated in which step; "" if nothing was.
    """
    counts: Counter[str] = Counter()
    (folder / "disk").mkdir()
    with small_disk(folder / "disk") as mounted:
        world = World(folder / "disk", folder)
        world.build()
        if not mounted:
            print("no operation on a full disk: a small one cannot be mounted here (root can)")
        step = 0
        while more(step):
            dice = random.Random(f"{seed}/{step}")
            (operation,) = dice.choices(list(OPERATIONS), list(OPERATIONS.values()))
            counts[operation.__name__] += 1
            before = world.kills
            try:
                if mounted or operation is not on_full_disk:
                    operation(world, dice)
                world.check_rows()
                world.check_files(killed=world.kills > before)
            except Violation as violation:
                shutil.copytree(world.home, folder / "kept", symlinks=True, ignore=shutil.ignore_patterns("images"))
                return counts, world, f"step {step}, {operation.__name__}: {violation}"
            step += 1
    return counts, world, ""


def summary(seed: int, counts: Counter[str], world: World, violation: str) -> str:
    """One line: operations by kind, kills, rows compared, violations."""
    kinds = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    return (
        f"seed {seed}: {sum(counts.values())} operations ({kinds}), {world.commands} commands, {world.kills} signals, "
        f"{world.equal + world.near} rows compared ({world.near} not bit-equal), violations {int(bool(violation))}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None, help="chooses the operations (default: drawn, and said)")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int(hashlib.sha256(os.urandom(8)).hexdigest()[:8], 16)
    print(f"seed {seed}", flush=True)
    end = time.monotonic() + 60 * options.minutes
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    counts, world, violation = soak(seed, lambda _: time.monotonic() < end, folder)
    if violation:
        print(f"violation in {violation}\nreplay with --seed {seed}; what was there is in {folder}")
    else:
        shutil.rmtree(folder)
    print(summary(seed, counts, world, violation))
    return int(bool(violation))


if __name__ == "__main__":
    sys.exit(main())
