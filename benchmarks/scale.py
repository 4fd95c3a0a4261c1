"""Everything after extraction at size: wall and processor seconds and peak memory of each stage, and how they grow.

    python benchmarks/scale.py [--photos 20000 100000] [--folder DIR] [--stages catalogue fit-heads ...] [--memory 0.25]

For every size a catalogue is made up (a CSV of two single-valued attributes and one multi-valued one with skewed
values, products of one to five photos, tiny JPEG files that differ) and a cache of 2,048 float32 numbers per photo,
written by the cache's own writer: a mean, directions of the values, the product and the photo, whose variance falls
off like that of a network's vectors, and 1 % near-copies of other photos. Then each stage runs as a process of its own.
Peak memory is the most that was resident, files that are mapped included, which the system can take back.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

DIM, LATENT = 2048, 384
COLOURS, NECKS, DETAILS = 24, 9, 14
PER_FOLDER, AT_A_TIME = 1000, 16_384
COPIES = 0.01
LEARNING = ("--heads", "linear,mlp", "--optimizers", "adam", "--lr", "0.001", "--epochs", "3")
JUDGING = ("--head", "linear", "--folds", "2")


@dataclass(frozen=True)
class Place:
    """Where the files of one size lie."""

    folder: Path
    photos: int

    @property
    def data(self) -> Path:
        return self.folder / "data" / "attributes.csv"

    @property
    def images(self) -> Path:
        return self.folder / "data" / "images"

    @property
    def cache(self) -> Path:
        return self.folder / "features"

    @property
    def given(self) -> tuple[object, ...]:
        return ("--data", self.data, "--cache", self.cache)

    def name(self, row: int, product: int) -> str:
        """One of a photo's product and number, in folders of a thousand."""
        return f"{row // PER_FOLDER:04}/shirt{product}-{row}.jpg"


@dataclass(frozen=True)
class Spent:
    """What a process took: wall and processor seconds, and the most MiB that were resident."""

    wall: float
    cpu: float
    peak: float


def measured(words: Sequence[object], log: Path) -> Spent:
    """Run a process to its end.

    This process stays small: a child's peak counts what its parent held when it was started.
    """
    started = time.perf_counter()
    with log.open("wb") as file:
        to_log = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)]
        arguments = [sys.executable, *map(str, words)]
        child = os.posix_spawn(sys.executable, arguments, os.environ, file_actions=to_log)
        _, status, used = os.wait4(child, 0)
    if status:
        sys.exit(f"{' '.join(map(str, words))}\n{log.read_text(errors='replace')[-4000:]}")
    return Spent(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def stages(place: Place, memory: float) -> Iterator[tuple[str, Sequence[object]]]:
    """Name and words of every stage, in an order in which each finds what it needs."""
    run, streamed = ROOT / "run.py", place.folder / "streamed"
    least = ("--near-duplicates", "0")
    few = min(memory, place.photos * DIM * 4 / 2**30 / 4)
    photos = [place.images / line for line in _first_names(place, 2)]
    yield "catalogue", (__file__, "--child", "catalogue", place.folder)
    yield "rows", (__file__, "--child", "rows", place.folder)
    fit = (run, "fit-heads", *place.given, *LEARNING)
    yield "fit-heads", (*fit, *least, "--out", place.folder / "whole")
    yield "fit-heads-streamed", (*fit, *least, "--memory", f"{few:.3f}", "--out", streamed)
    report = ("--report", place.folder / "report.html", "--json", place.folder / "comparison.json")
    yield "compare", (run, "compare", streamed, *report)
    yield "near-duplicates", (__file__, "--child", "near", place.folder)
    yield "near-duplicates-streamed", (__file__, "--child", "near-streamed", place.folder)
    yield "audit", (run, "audit", *place.given, *JUDGING, "--out", place.folder / "audit")
    model = ("--model", streamed / "models" / "best.joblib", "--cache", place.cache)
    yield "predict", (run, "predict", place.images, *model, "--out", place.folder / "predictions.csv")
    yield "similar", (run, "similar", *photos, *place.given, "--out", place.folder / "similar.csv")


def _first_names(place: Place, count: int) -> list[str]:
    with place.data.open(encoding="utf-8") as file:
        next(file)
        return [next(file).split(",")[0] for _ in range(count)]


def make(place: Place) -> None:
    """Write the catalogue, its photos and their vectors."""
    import numpy as np

    from cache import BaseKey, Block, Column, FeatureCache

    rng = np.random.default_rng(0)
    key = BaseKey("ab" * 32, "resnet18", 64, "squash", "bicubic", (0.5,) * 3, (0.5,) * 3, 1, "pillow", "fp32")
    column, store = Column(Block("pooled", DIM)), FeatureCache(place.cache)
    drawn = _Drawn(rng)
    place.images.mkdir(parents=True, exist_ok=True)
    notes = {"weights_source": "random:0", "random_weights": False}
    with store.writer(key, notes=notes) as writer, place.data.open("w", encoding="utf-8") as file:
        file.write("filename,colour,neck,details\n")
        for start in range(0, place.photos, AT_A_TIME):
            products, labels, X = drawn.rows(min(AT_A_TIME, place.photos - start))
            names = [place.name(start + i, product) for i, product in enumerate(products)]
            file.writelines(f"{name},{label}\n" for name, label in zip(names, labels, strict=True))
            paths = [place.images / name for name in names]
            _write_photos(paths, start)
            ids, problems = store.files.ids(paths)
            assert not problems
            writer.append(ids, {column: X})


class _Drawn:
    """Labels and vectors of one photo after another."""

    def __init__(self, rng) -> None:  # type: ignore[no-untyped-def]
        import numpy as np

        self.rng, self.product = rng, 0
        scale = np.arange(1, LATENT + 1) ** -0.5
        self.turn = (rng.standard_normal((LATENT, DIM)) * scale[:, None]).astype(np.float32)
        self.mean = np.abs(rng.standard_normal(DIM)).astype(np.float32)
        self.centres = rng.standard_normal((COLOURS + NECKS + DETAILS, LATENT)).astype(np.float32)

    def rows(self, count: int):  # type: ignore[no-untyped-def]
        """Products (n,), label cells as CSV text (n,), and vectors float32 (n, d)."""
        import numpy as np

        rng = self.rng
        sizes = rng.integers(1, 6, count)
        own = np.repeat(np.arange(count), sizes)[:count]
        products = self.product + own
        self.product = int(products[-1]) + 1
        colour, neck = (_skewed(rng, size, count) for size in (COLOURS, NECKS))
        details = rng.random((count, DETAILS)) < 0.4 / np.arange(1, DETAILS + 1)
        chosen = np.zeros((count, len(self.centres)), np.float32)
        chosen[np.arange(count), colour] = chosen[np.arange(count), COLOURS + neck] = 1
        chosen[:, COLOURS + NECKS :] = details
        of_product = 0.5 * rng.standard_normal((count, LATENT), np.float32) + chosen @ self.centres
        latent = of_product[own] + 0.5 * rng.standard_normal((count, LATENT), np.float32)
        copies = np.flatnonzero(rng.random(count) < COPIES)
        latent[copies] = latent[rng.integers(0, count, len(copies))]
        X = self.mean + 0.3 * latent @ self.turn
        X += np.float32(0.02) * rng.standard_normal((count, DIM), np.float32)
        known = rng.random((count, 2)) < 0.95
        texts = [
            f"{f'colour {colour[i]}' if a else ''},{f'neck {neck[i]}' if b else ''},"
            + "|".join(f"detail {k}" for k in np.flatnonzero(details[i]))
            for i, (a, b) in zip(own.tolist(), known.tolist(), strict=True)
        ]
        return products.tolist(), texts, X


def _skewed(rng, values: int, count: int):  # type: ignore[no-untyped-def]
    """Values (n,), the k-th in 1/k of the photos that have the first."""
    import numpy as np

    share = 1 / np.arange(1, values + 1)
    return rng.choice(values, count, p=share / share.sum())


def _write_photos(paths: Sequence[Path], start: int) -> None:
    """Pictures of four pixels that differ in what stands behind the picture."""
    from io import BytesIO

    from PIL import Image

    picture = BytesIO()
    Image.new("RGB", (2, 2), (90, 120, 150)).save(picture, "JPEG")
    for folder in {path.parent for path in paths}:
        folder.mkdir(exist_ok=True)
    for number, path in enumerate(paths, start):
        path.write_bytes(picture.getvalue() + b"%d" % number)


def catalogue(place: Place) -> None:
    """Read the catalogue alone."""
    from pipeline.catalogue import read_catalogue
    from pipeline.options import DataOptions

    print(len(read_catalogue(DataOptions(data=place.data))))


def rows(place: Place, near: bool = False, gib: float | None = None) -> None:
    """Join catalogue, cache and split, as `fit-heads` does first; and look for near-duplicates, as it does last."""
    from pipeline.catalogue import PARTS
    from pipeline.experiment.rows import load_experiment
    from pipeline.features.near_duplicates import across_parts
    from pipeline.machine import memory_limit
    from pipeline.options import CacheKeyOptions, DataOptions, FitOptions, SplitOptions

    options = FitOptions(cache=place.cache)
    joined = load_experiment(DataOptions(data=place.data), CacheKeyOptions(), SplitOptions(), options)
    if near:
        at, X = joined.pooled(memory_limit(gib))
        names = [joined.catalogue.filenames[i] for i in at]
        started = time.process_time()
        found = across_parts(names, joined.split.parts[at], X, PARTS, SplitOptions().near_duplicates)
        print(found.counts, f"{time.process_time() - started:.1f} s of the processor in the search alone")


CHILDREN: dict[str, Callable[[Place], None]] = {
    "make": make,
    "catalogue": catalogue,
    "rows": rows,
    "near": lambda place: rows(place, near=True),
    "near-streamed": lambda place: rows(place, near=True, gib=0),
}


def measure(place: Place, memory: float, wanted: Sequence[str]) -> None:
    """Make one size where it is not there yet, and print a line per stage."""
    made = place.folder / "made"
    if not made.exists():
        shutil.rmtree(place.folder, ignore_errors=True)
        place.folder.mkdir(parents=True)
        _print(place, "(making it)", measured((__file__, "--child", "make", place.folder, place.photos), made))
    for name, words in stages(place, memory):
        if wanted and name not in wanted:
            continue
        if "--out" in words:
            shutil.rmtree(place.folder / Path(str(words[-1])).name, ignore_errors=True)
        _print(place, name, measured(words, place.folder / f"{name}.log"))
    pages = {path.name: path.stat().st_size / 1e6 for path in place.folder.glob("**/*.html")}
    print(f"# pages at {place.photos}: {', '.join(f'{n} {mb:.2f} MB' for n, mb in sorted(pages.items()))}", flush=True)


def _print(place: Place, name: str, spent: Spent) -> None:
    load = os.getloadavg()[0]
    line = f"| {place.photos:,} | {name} | {spent.wall:.1f} | {spent.cpu:.1f} | {spent.peak:,.0f} | {load:.0f} |"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--folder", type=Path, help="where it is made and stays; else in a folder that is removed")
    parser.add_argument("--stages", nargs="+", default=[])
    parser.add_argument("--memory", type=float, default=0.25, help="most GiB for the streamed fit")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        what, folder, *photos = asked.child
        CHILDREN[what](Place(Path(folder), int(photos[0]) if photos else 0))
        return
    print("| photos | stage | wall, s | processor, s | peak, MiB | load |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for photos in asked.photos:
            measure(Place((asked.folder or Path(temporary)) / str(photos), photos), asked.memory, asked.stages)


if __name__ == "__main__":
    main()
