"""The Ray engine on this machine: what it costs beside the local one, and what it loses when processes are killed.

python benchmarks/cluster.py speed --data styles.csv --images images [--photos 2000]
python benchmarks/cluster.py kills --data styles.csv --images images [--photos 2000] [--seed 0]

Photos are named {id}.jpg. Backbone: the packaged tf_efficientnet_lite0; `--size 64` unless told otherwise.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HOME), str(HOME / "tests" / "cache")]

import numpy as np  # noqa: E402
from cachekit import unexpected_files  # noqa: E402

from cache import FeatureCache  # noqa: E402

RAY = ("--engine", "ray", "--workers-per-node")


@dataclass
class World:
    """A folder to work in, and the photos."""

    folder: Path
    images: Path
    rows: list[dict[str, str]]
    size: int

    def table(self, name: str, start: int, stop: int) -> Path:
        path = self.folder / f"{name}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["id", "gender"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows[start:stop])
        return path

    def command(self, table: Path, cache: str, *words: str) -> list[str]:
        given = ["--data", table, "--images", self.images, "--image-name", "{id}.jpg", "--attributes", "gender"]
        network = ["--backbone", "tf_efficientnet_lite0", "--weights", "package", "--size", self.size]
        place = ["--cache", self.folder / cache]
        return [sys.executable, str(HOME / "run.py"), "extract", *map(str, [*given, *network, *place]), *words]

    def extract(self, table: Path, cache: str, *words: str) -> str:
        done = subprocess.run(self.command(table, cache, *words), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def vectors(self, cache: str) -> dict[bytes, bytes]:
        store = FeatureCache(self.folder / cache)
        (info,) = store.keys()
        reader = store.reader(info.digest)
        ids = reader.ids(info.columns[0])
        return dict(zip(ids.tolist(), map(np.ndarray.tobytes, reader.read(ids, info.columns)), strict=True))

    def exported(self, table: Path, cache: str) -> np.ndarray:
        """What `cache export` gives of a table's photos, in its order."""
        out = self.folder / f"{cache}.npz"
        photos = ["--data", table, "--images", self.images, "--image-name", "{id}.jpg", "--attributes", "gender"]
        words = ["cache", "export", "--cache", self.folder / cache, *photos, "--out", out]
        subprocess.run([sys.executable, str(HOME / "run.py"), *map(str, words)], check=True, stdout=subprocess.DEVNULL)
        with np.load(out) as arrays:
            return np.asarray(arrays["features"])


def seconds_of(said: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(\w+) ([\d.]+) s", said.partition("images/s on")[2])}


def speed(world: World, photos: int) -> None:
    table = world.table("all", 0, photos)
    print(f"{photos} photos, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    exported = []
    workers = {f"ray, {count} worker{'s' * (count > 1)}": (*RAY, str(count)) for count in (1, 2, 4)}
    for name, words in {"local": (), **workers}.items():
        took = seconds_of(world.extract(table, f"speed-{name}", *words))
        print(f"{name:>15}: {photos / took['compute']:7.1f} photos/s while computing ({took['compute']:.1f} s), "
              f"{took['runtime']:.1f} s until the first, {took.get('stop', 0.0):.1f} s to end, "
              f"{took['total']:.1f} s in all; load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
        exported.append(world.exported(table, f"speed-{name}"))
    same = [one.shape == exported[0].shape and one.tobytes() == exported[0].tobytes() for one in exported]
    print(f"`cache export` {exported[0].shape}, as of local bit for bit: {same}")


def offspring(pid: int) -> list[int]:
    """Processes below one, by /proc."""
    parent = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, todo = [], [pid]
    while todo:
        todo = [child for child, above in parent.items() if above in todo]
        found += todo
    return found


def workers(pid: int) -> list[int]:
    """The actors of a driver that started its own cluster, those at work first."""
    named = {}
    for each in offspring(pid):
        try:
            named[each] = Path("/proc", str(each), "cmdline").read_bytes()
        except OSError:
            continue
    return [each for each, name in named.items() if name.startswith(b"ray::Worker.compute")]


def shards(world: World, cache: str) -> int:
    return len(list((world.folder / cache).rglob("*.h5")))


def at_work(world: World, table: Path, cache: str) -> subprocess.Popen[str]:
    """A driver with two workers that have committed something."""
    driver = subprocess.Popen(world.command(table, cache, *RAY, "2"), stdout=subprocess.PIPE, text=True)
    while driver.poll() is None and (shards(world, cache) < 2 or not workers(driver.pid)):
        time.sleep(0.05)
    return driver


def check(world: World, cache: str, expected: dict[bytes, bytes]) -> str:
    found, report = world.vectors(cache), FeatureCache(world.folder / cache).verify(deep=True)
    lost, wrong = len(expected.keys() - found.keys()), sum(found[id] != expected[id] for id in found)
    return (
        f"rows lost {lost}, wrong {wrong}, computed twice {report.duplicate_rows}, problems {len(report.problems)}, "
        f"odd files {len(unexpected_files(world.folder / cache))}"
    )


def kills(world: World, photos: int, seed: int) -> None:
    dice, table = random.Random(seed), world.table("all", 0, photos)
    world.extract(table, "local")
    right = world.vectors("local")
    world.extract(table, "clean", *RAY, "2")
    print(f"two workers, undisturbed: {check(world, 'clean', right)}", flush=True)

    driver = at_work(world, table, "worker")
    time.sleep(dice.uniform(0, 0.5))
    killed = dice.choice(workers(driver.pid) or [0])
    if killed:
        os.kill(killed, signal.SIGKILL)
    driver.communicate()
    print(f"a worker SIGKILLed (driver ended with {driver.returncode}): {check(world, 'worker', right)}", flush=True)

    driver = at_work(world, table, "driver")
    time.sleep(dice.uniform(0, 0.5))
    driver.kill()
    driver.communicate()
    time.sleep(2)
    there = len(world.vectors("driver"))
    said = world.extract(table, "driver", *RAY, "2")
    again = int(re.search(r"contents: (\d+) computed", said)[1])  # type: ignore[index]
    print(f"the driver SIGKILLed with {there} of {len(right)} rows, again: {again} computed; "
          f"{check(world, 'driver', right)}", flush=True)  # fmt: skip

    halves = [world.table("first", 0, 2 * photos // 3), world.table("second", photos // 3, photos)]
    drivers = [subprocess.Popen(world.command(each, "both", *RAY, "1"), stdout=subprocess.DEVNULL) for each in halves]
    codes = [each.wait() for each in drivers]
    print(f"two drivers at once, a third of the photos in common (exit codes {codes}): {check(world, 'both', right)}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["speed", "kills"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with asked.data.open(encoding="utf-8") as file, tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), asked.images.absolute(), list(csv.DictReader(file)), asked.size)
        if asked.what == "speed":
            speed(world, asked.photos)
        else:
            kills(world, asked.photos, asked.seed)


if __name__ == "__main__":
    main()
