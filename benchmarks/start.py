"""The first photo: whole processes of `extract`, `predict` and `--help`, with a converted model that is kept.

    python benchmarks/start.py [--repeats 5] [--backbone tf_efficientnet_lite0 --weights package] [--folder DIR]

A drawn catalogue is extracted and fit once; then each repeat runs the three commands as processes of their own, on a
photo that the cache does not have, beside a process that only imports PyTorch and timm. Wall and processor seconds, the
fastest and the median: a busy machine adds to the first more than to the second. Ratios are of processor seconds.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


IMPORTS = "import torch, timm"


def run(*words: object) -> tuple[float, float]:
    """Wall and processor seconds of one command."""
    return process(ROOT / "run.py", *words)


def process(*words: object) -> tuple[float, float]:
    """Wall and processor seconds of a Python process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def new_photo(path: Path, seed: int) -> Path:
    """A photo that no cache has seen, 400 x 533."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (8, 6, 3), np.uint8)
    Image.fromarray(small).resize((400, 533), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def prepared(folder: Path, backbone: Sequence[str]) -> tuple[Path, Path]:
    """A cache with its converted model, and a model file."""
    catalogue, cache, out = folder / "catalogue", folder / "cache", folder / "run"
    if not (out / "run.json").exists():
        run("sample", catalogue, "--images", 80)
        run("extract", "--data", catalogue, "--cache", cache, *backbone)
        quick = ("--heads", "linear", "--optimizers", "adam", "--epochs", 2)
        run("fit-heads", "--data", catalogue, "--cache", cache, *quick, "--out", out)
    return cache, out / "models" / "best.joblib"


def measured(folder: Path, backbone: Sequence[str], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds per command and repeat."""
    cache, model = prepared(folder, backbone)
    seconds: dict[str, list[tuple[float, float]]] = {IMPORTS: [], "--help": [], "extract": [], "predict": []}
    for repeat in range(-1, repeats):
        photo = new_photo(folder / f"new{repeat}" / "class" / "photo.jpg", time.time_ns() % 2**32)
        of = {
            IMPORTS: process("-c", IMPORTS),
            "--help": run("--help"),
            "predict": run("predict", photo, "--model", model, "--cache", cache, "--out", folder / "predictions.csv"),
            "extract": run("extract", "--data", photo.parents[1], "--cache", cache, *backbone),
        }
        shutil.rmtree(photo.parents[1])
        if repeat >= 0:
            for name, pair in of.items():
                seconds[name].append(pair)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="package")
    parser.add_argument("--size", type=int)
    parser.add_argument("--folder", type=Path, help="keeps what is prepared for the next call")
    args = parser.parse_args()
    backbone = ["--backbone", args.backbone, "--weights", args.weights]
    backbone += ["--size", str(args.size)] if args.size else []
    with tempfile.TemporaryDirectory() as temporary:
        seconds = measured(args.folder or Path(temporary), backbone, args.repeats)
    imports = statistics.median(cpu for _, cpu in seconds[IMPORTS])
    for name, pairs in seconds.items():
        wall, cpu = zip(*pairs, strict=True)
        median = statistics.median(cpu)
        print(
            f"{name:18} wall {min(wall):.2f} s (median {statistics.median(wall):.2f}), "
            f"processor {min(cpu):.2f} s (median {median:.2f}), imports / this {imports / median:.2f}"
        )


if __name__ == "__main__":
    main()
