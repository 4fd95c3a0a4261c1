"""Every measured promise once, small: ratios against peers in one run, each beside the range it should lie in.

    python benchmarks/all.py --quick

Exit code 1 if a ratio lies outside its range (`ranges.json`, beside this file) or a benchmark fails. The ranges are
wide: they hold on a machine that other work shares, and tell a change of the program from the weather. What the
promises are on a quiet machine at full size stands in RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
RANGES = HERE / "ranges.json"
_NUMBER = r"(-?[0-9.]+)"


@dataclass(frozen=True)
class Benchmark:
    """One call of a benchmark.

    Attributes:
        words: The script and its options; {images} is a folder of photos, {work} one to write to.
        ratios: What to call a figure of its output, and the text before that figure, as a regular expression.
    """

    words: str
    ratios: tuple[tuple[str, str], ...]


QUICK = (
    Benchmark(
        "start.py --repeats 1 --size 64 --folder {work}/start",
        (
            ("start: importing PyTorch and timm / extract of one photo", r"extract .*imports / this "),
            ("start: importing PyTorch and timm / predict of one photo", r"predict .*imports / this "),
        ),
    ),
    Benchmark(
        "extract.py --images {images} --photos 96 --size 128 --rounds 2",
        (("extract / plain loop", r"a/b = "), ("extract / forward pass alone", r"\(c\) forward, openvino .*a/c = ")),
    ),
    Benchmark(
        "finetune.py --images {images} --photos 96 --size 64 --batch-size 32 --rounds 1",
        (("finetune / plain loop", r"a/b "), ("finetune / its step alone", r"a/c ")),
    ),
    Benchmark(
        "cache.py --reads-only --repeats 7 --folder {work}",
        (
            ("cache: first reading / numpy", r"all rows, every checksum compared .*ratio +"),
            ("cache: same reader / numpy", r"all rows again, same reader .*ratio +"),
            ("cache: random order / numpy", r"random order, same reader .*ratio +"),
        ),
    ),
    Benchmark(
        "sweep.py sweep --rows 1000 --dim 320 --epochs 8 --rounds 1 --clock cpu --threads 1",
        (
            ("sweep / DataLoader + torch.optim", r'"times faster than DataLoader \+ torch.optim": '),
            ("sweep: matrix products / all of it", r'"products alone / ours": '),
            ("sweep with halving / DataLoader + torch.optim", r'"halving: times faster [^:]*: '),
        ),
    ),
    Benchmark(
        "sweep.py logreg --rows 1500 --dim 160 --keys 2 --threads 1",
        (("logistic regression: scikit-learn / ours, to equal loss", r'"times faster, to equal log-loss": '),),
    ),
    Benchmark(
        "sweep.py keys --rows 1024 --dim 320 --epochs 1 --threads 1",
        (("46 attributes: an epoch / its matrix products", r'"epoch / products alone": '),),
    ),
    Benchmark(
        "thresholds.py --values 400 --photos 10000 --keys 10",
        (("thresholds: a plain loop / per-label", r"without shrinkage\): "),),
    ),
)


def draw(folder: Path, count: int) -> Path:
    """Photos of 400 x 533."""
    folder.mkdir(parents=True)
    dice = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(dice.integers(0, 256, (24, 18, 3), np.uint8))
        coarse.resize((400, 533), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg", quality=88)
    return folder


def figures(benchmark: Benchmark, places: dict[str, Path]) -> dict[str, float | None]:
    """The figures of one benchmark by name; None for one that did not come."""
    script, *words = (word.format(**places) for word in benchmark.words.split())
    done = subprocess.run([sys.executable, HERE / script, *words], capture_output=True, text=True)
    found = {name: re.search(before + _NUMBER, done.stdout) for name, before in benchmark.ratios}
    if done.returncode or not all(found.values()):
        print(f"{script}: exit code {done.returncode}\n{done.stdout[-600:]}{done.stderr[-1200:]}", file=sys.stderr)
    # A benchmark that fails may have printed half of its figures, and none of them counts.
    sound = done.returncode == 0
    return {name: float(match[1]) if match and sound else None for name, match in found.items()}


def line(name: str, value: float | None, within: Sequence[float]) -> tuple[str, bool]:
    """How a figure is told, and whether it is as it should be."""
    low, high = within
    fine = value is not None and low <= value <= high
    said = "   none" if value is None else f"{value:7.2f}"
    return f"{said}  {low:g} to {high:g}  {'' if fine else 'OUT OF RANGE  '}{name}", fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", required=True, help="the one size there is")
    parser.add_argument("--only", default="", help="benchmarks whose words hold this text")
    args = parser.parse_args()
    ranges = json.loads(RANGES.read_text(encoding="utf-8"))
    wrong, start = 0, time.perf_counter()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        places = {"work": work, "images": draw(work / "images", 96)}
        for benchmark in (each for each in QUICK if args.only in each.words):
            began = time.perf_counter()
            for name, value in figures(benchmark, places).items():
                said, fine = line(name, value, ranges[name])
                wrong += not fine
                print(said, flush=True)
            print(f"         {time.perf_counter() - began:.0f} s: {benchmark.words}", flush=True)
    print(f"{wrong} out of range, {time.perf_counter() - start:.0f} s")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
