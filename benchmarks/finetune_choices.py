"""Choices of `finetune`, one at a time, on validation photos: what the defaults of its options rest on.

    python benchmarks/finetune_choices.py --data products.csv --images photos --image-name "{id}.jpg" --photos 2500
    python benchmarks/finetune_choices.py --data FOLDER --only "default;crop 1"

Every variant changes one option of the defaults and is trained on the same photos, from the same start, for each of the
split seeds. Printed are means over the seeds of the validation loss and of the mean accuracy over the attributes, and
the difference to the default's, per seed. Nothing is computed on test photos. Photos are drawn with --seed.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.catalogue_words import add_catalogue, catalogue_of
from pipeline.catalogue import read_catalogue
from pipeline.finetuning.finetune import finetune
from pipeline.options import BackboneOptions, DataOptions, FinetuneOptions, SplitOptions

VARIANTS = (
    "default", "ema 0", "label-smoothing 0", "class-weights rarity", "head mlp", "layer-decay 0.8", "lr 0.0003",
    "lr 0.003", "head-lr 0.01", "crop 1", "crop 0.4", "hflip 0", "mixup 0.2", "randaugment 5", "norm trained",
    "train last:2", "interpolate auto", "schedule cosine", "batch-size 128", "logit-adjust 0.2", "epochs 16",
)  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_catalogue(parser)
    parser.add_argument("--photos", type=int, help="draw this many (default: all)")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="package")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", default="0,1", help="split seeds")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--only", help="variants, separated by semicolons (default: all)")
    return parser.parse_args()


def varied(variant: str) -> FinetuneOptions:
    """The defaults with one option changed."""
    if variant == "default":
        return FinetuneOptions()
    name, value = variant.replace("-", "_").split()
    kinds = {field.name: field.default for field in fields(FinetuneOptions)}
    default = kinds[name]
    given: Any = value if isinstance(default, str) else int(value) if isinstance(default, int) else float(value)
    return replace(FinetuneOptions(), **{name: given})


def drawn(data: DataOptions, photos: int | None, seed: int, folder: Path) -> DataOptions:
    """The catalogue, or as many photos of it as asked, as a table of its own."""
    if photos is None:
        return data
    catalogue = read_catalogue(data)
    rows = np.sort(np.random.default_rng(seed).permutation(len(catalogue))[:photos])
    path = folder / "drawn.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", *catalogue.attributes])
        for row in rows.tolist():
            cells = (catalogue.cells[attribute][row] for attribute in catalogue.attributes)
            writer.writerow([catalogue.paths[row].name, *("|".join(cell) if cell else "#N/A" for cell in cells)])
    return DataOptions(data=path, images=catalogue.paths[0].parent, format="A", attributes=tuple(catalogue.attributes))


def main() -> None:
    args = parse()
    data = catalogue_of(args)
    backbone = BackboneOptions(backbone=args.backbone, weights=args.weights, size=args.size)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    variants = [each.strip() for each in args.only.split(";")] if args.only else list(VARIANTS)
    print(f"$ python {shlex.join(sys.argv)}", flush=True)
    base: list[tuple[float, float]] = []
    print(f"{'variant':22} {'loss':>7} {'score':>7}   against the default, per seed: loss, score", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = drawn(data, args.photos, args.seed, folder)
        for number, variant in enumerate(variants):
            found = []
            for seed in seeds:
                options = replace(varied(variant), out=folder / f"{number}-{seed}")
                report = finetune(few, backbone, SplitOptions(split_seed=seed), options)
                score = float(np.mean(list(report.scores.values())))
                found.append((report.best["validation_loss"], score))
            base = base or found
            against = "  ".join(f"{a - c:+.4f} {b - d:+.4f}" for (a, b), (c, d) in zip(found, base, strict=True))
            loss, score = np.mean(found, axis=0)
            print(f"{variant:22} {loss:7.4f} {score:7.4f}   {against}", flush=True)


if __name__ == "__main__":
    main()
