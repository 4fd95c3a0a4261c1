"""Extraction beside the plain loop, the forward pass alone, and the machine's matrix peak: ratios of one run.

    python benchmarks/extract.py --backbone resnext50_32x4d --photos 200 --images FOLDER
    python benchmarks/extract.py --backbone tf_efficientnet_lite0 --images FOLDER --memory
    python benchmarks/extract.py --backbone resnext50_32x4d --device cuda --photos 20000 --images FOLDER

(a) `extract` from files to a fresh cache, start-up and conversion excluded; (b) the loop everyone writes: timm model in
eager fp32, torch DataLoader with as many workers as cores, timm's own transform, same batch size; (c) the forward pass
alone on ready pixels with the fastest runtime here; (d) the largest rate of a square matrix product. All four are
measured in every round, in turn, so that a busy machine slows all of them; the best round of each counts. Weights are
random: they do not change the speed. On a GPU (a), (c) and (d) are bf16, (b) stays eager fp32.
Without --images a set of 400x533 photos is drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.features.backbone.network import Backbone, load_backbone
from pipeline.features.embed import Embedder, EmbedOptions
from pipeline.features.extract import extract
from pipeline.features.runtimes import RUNTIMES
from pipeline.machine import choose_device, cores
from pipeline.options import BackboneOptions, ExtractOptions

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class Files(torch.utils.data.Dataset):
    """What the plain loop's DataLoader reads."""

    def __init__(self, paths, transform):
        self.paths, self.transform = paths, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of photos (default: drawn ones)")
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--features", default="pooled")
    parser.add_argument("--size", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="also compare peak memory at 1x and 10x the photos")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--peak-only", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def draw(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 18, 3), dtype=np.uint8))
        coarse.resize((400, 533), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg", quality=88)


def distinct_copies(paths: list[Path], folder: Path, count: int) -> None:
    """`count` JPEG files of distinct content and the same pixels: a comment is put in behind the start marker."""
    for number in range(count):
        data = paths[number % len(paths)].read_bytes()
        (folder / f"{number:06}.jpg").write_bytes(data[:2] + b"\xff\xfe\x00\x06" + number.to_bytes(4, "big") + data[2:])


def photos_of(folder: Path, count: int) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return found[:count]


def our_extract(args: argparse.Namespace, paths: list[Path], root: Path):
    options = ExtractOptions(
        cache=root,
        features=tuple(args.features.split(",")),
        device=args.device,
        precision=args.precision,
        batch_size=args.batch_size,
        workers=args.workers,
    )
    cpu = time.process_time()
    report = extract(paths, args.options, options)
    return report, time.process_time() - cpu


def plain_loop(args: argparse.Namespace, paths: list[Path]) -> float:
    net = timm.create_model(args.backbone, num_classes=0).eval().to(args.device)
    config = timm.data.resolve_model_data_config(net)
    if args.size:
        config["input_size"] = (3, args.size, args.size)
    files = Files(paths, timm.data.create_transform(**config, is_training=False))
    loader = torch.utils.data.DataLoader(files, batch_size=args.batch_size, num_workers=args.workers)
    start, kept = time.perf_counter(), []
    with torch.inference_mode():
        for batch in loader:
            kept.append(net(batch.to(args.device)).cpu())
    return len(paths) / (time.perf_counter() - start)


def matrix_peak(device: str, half: bool) -> float:
    """Best GFLOP/s of a square product."""
    size = 8192 if device == "cuda" else 2048
    left = torch.randn(size, size, device=device, dtype=torch.bfloat16 if half else torch.float32)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        product = left @ left
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - start) / 1e9)
    return best if product.numel() else 0.0


def gflop_per_photo(backbone: Backbone) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    size = backbone.transform.size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone.net.cpu()(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() / 1e9


def embedders(args: argparse.Namespace, store: Path) -> dict[str, Embedder]:
    """One per runtime of this device, conversion done."""
    names = [name for name in RUNTIMES if name == "torch" or (name == "cuda") == (args.device == "cuda")]
    options = EmbedOptions(args.device, "torch", args.precision, args.batch_size, args.workers, store=store)
    made = {}
    for name in names:
        backbone = load_backbone(args.options)
        made[name] = Embedder(backbone, args.features.split(","), ["identity"], replace(options, runtime=name))
    return {name: embedder for name, embedder in made.items() if embedder.runtime.name == name}


def rounds(args: argparse.Namespace, paths: list[Path], work: Path) -> dict[str, object]:
    alone = embedders(args, work / "features" / "runtimes")
    best: dict[str, float] = {}
    stages: dict[str, float] = {}
    for number in range(args.rounds):
        found = {"plain": plain_loop(args, paths), "peak": matrix_peak(args.device, args.precision == "half")}
        for name, embedder in alone.items():
            cpu = time.process_time()
            found[f"forward {name}"] = embedder.forward_rate(max(2, len(paths) // (4 * embedder.batch_size)))
            passes = max(2, len(paths) // (4 * embedder.batch_size)) + 1
            used = (time.process_time() - cpu) / (passes * embedder.runtime.streams * embedder.batch_size)
            stages[f"forward {name}"] = min(stages.get(f"forward {name}", 9e9), 1000 * used)
        # A fresh cache each time, with the converted model where the first round put it.
        root = work / f"round{number}"
        root.mkdir()
        (root / "runtimes").symlink_to(work / "features" / "runtimes", target_is_directory=True)
        report, _ = our_extract(args, paths, root)
        found["extract"] = report.images_per_second
        for stage in ("read", "decode", "write"):
            used = 1000 * report.seconds[stage] / len(paths)
            stages[stage] = min(stages.get(stage, 9e9), used)
        print("round", number + 1, {name: round(value, 1) for name, value in found.items()}, flush=True)
        best = {name: max(value, best.get(name, 0.0)) for name, value in found.items()}
    return {"rates": best, "core_ms": stages, "rejects": len(report.rejects), "runtime": report.runtime}


def peak_memory(args: argparse.Namespace, folder: Path) -> int:
    """Peak resident MiB of a process that extracts this folder."""
    command = [sys.executable, __file__, "--peak-only", str(folder), "--backbone", args.backbone]
    command += ["--features", args.features, "--device", args.device, "--batch-size", str(args.batch_size)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def high_water() -> int:
    """Largest resident size of this process so far, MiB.

    Read from /proc where there is one, because `ru_maxrss` of a child starts at its parent's size on Linux.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 * 1024 if sys.platform == "darwin" else 1024)


def main() -> None:
    args = parse()
    args.device = choose_device(args.device)
    args.precision = "half" if args.device == "cuda" else "fp32"
    args.batch_size = args.batch_size or (256 if args.device == "cuda" else 16)
    args.options = BackboneOptions(backbone=args.backbone, weights="random:0", size=args.size, resize="crop")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        if args.peak_only:
            our_extract(args, photos_of(args.peak_only, 10**9), work / "features")
            print(high_water())
            return
        (work / "drawn").mkdir()
        if args.images is None:
            draw(work / "drawn", args.photos)
        paths = photos_of(args.images or work / "drawn", args.photos)
        figures = rounds(args, paths, work)
        figures["memory"] = {}
        if args.memory:
            for times in (1, 10):
                folder = work / f"copies{times}"
                folder.mkdir()
                distinct_copies(paths, folder, times * len(paths))
                figures["memory"][f"{times}x"] = peak_memory(args, folder)
        show(args, len(paths), figures)


def show(args: argparse.Namespace, count: int, figures: dict) -> None:
    rates = figures["rates"]
    forward = {name.removeprefix("forward "): rate for name, rate in rates.items() if name.startswith("forward ")}
    fastest = max(forward, key=forward.__getitem__)
    gflop = gflop_per_photo(load_backbone(args.options))
    card = torch.cuda.get_device_name() if args.device == "cuda" else f"{cores()} CPU cores, {platform.machine()}"
    print(
        f"\n{args.backbone}, {args.features}, {count} photos, batch {args.batch_size}, {card}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    print(f"ran on: {figures['runtime']}; rejects: {figures['rejects']}")
    print(f"(a) extract            {rates['extract']:9.1f} images/s")
    print(f"(b) plain loop         {rates['plain']:9.1f} images/s   a/b = {rates['extract'] / rates['plain']:.2f}")
    for name, rate in forward.items():
        print(f"(c) forward, {name:9s} {rate:9.1f} images/s   a/c = {rates['extract'] / rate:.2f}")
    share = forward[fastest] * gflop / rates["peak"]
    print(f"(d) matrix peak        {rates['peak']:9.1f} GFLOP/s    c/d = {share:.2f} at {gflop:.2f} GFLOP per photo")
    print("core-ms per photo:", {name: round(value, 2) for name, value in figures["core_ms"].items()})
    if figures["memory"]:
        print("peak memory, MiB:", figures["memory"])
    if args.json:
        args.json.write_text(json.dumps({**figures, "gflop": gflop, "photos": count, "machine": card}, indent=1))


if __name__ == "__main__":
    main()
