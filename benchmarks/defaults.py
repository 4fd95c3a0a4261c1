"""What the defaults of `fit-heads` leave on the table: their best validation score beside that of sixteen rates.

    python run.py sample catalogue --images 600
    python run.py extract --data catalogue --cache features --backbone tf_efficientnet_lite0 --weights package
    python benchmarks/defaults.py --data catalogue --cache features --backbone tf_efficientnet_lite0 [--only VARIANTS]

Every row is a call of fit-heads that changes what it says; the score is the validation score of the best it finds
(`--choose balanced`), which is the more optimistic the more is tried. Nothing is computed on test photos.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.catalogue_words import add_catalogue, catalogue_of
from pipeline.experiment.fit_heads import fit_heads
from pipeline.options import CacheKeyOptions, FitOptions, SplitOptions

RATES = tuple(float(f"{rate:.2g}") for rate in np.geomspace(1e-4, 1.0, 16))
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "16 rates": {"lr": RATES},
    "softmax": {"loss": ("ce",)},
    "softmax, 16 rates": {"loss": ("ce",), "lr": RATES},
    "60 epochs, patience 10": {"epochs": 60, "patience": 10},
    "onecycle": {"schedule": ("onecycle",)},
    "onecycle, 16 rates": {"schedule": ("onecycle",), "lr": RATES},
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_catalogue(parser)
    parser.add_argument("--cache", type=Path, default=Path("features"))
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="package")
    parser.add_argument("--split-by", default="hash")
    parser.add_argument("--seeds", default="0,1", help="split seeds")
    parser.add_argument("--only", help="variants, separated by semicolons (default: all)")
    return parser.parse_args()


def main() -> None:
    args = parse()
    data = catalogue_of(args)
    key = CacheKeyOptions(backbone=(args.backbone,), weights=(args.weights,))
    asked = FitOptions(cache=args.cache, use=("pooled",), thumbnails=0)
    variants = [each.strip() for each in args.only.split(";")] if args.only else list(VARIANTS)
    print(f"$ python {shlex.join(sys.argv)}", flush=True)
    print(f"{'variant':24} {'seconds':>7}  per split seed: score of the best, which", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, variant in enumerate(variants):
            began, found = time.perf_counter(), []
            for seed in map(int, args.seeds.split(",")):
                options = replace(asked, **VARIANTS[variant], out=Path(folder) / f"{number}-{seed}")
                split = SplitOptions(split_by=args.split_by, split_seed=seed, near_duplicates=0)
                report = fit_heads(data, key, split, options)
                found.append(f"{report.score:.4f} {report.called}")
            print(f"{variant:24} {time.perf_counter() - began:7.1f}  {'; '.join(found)}", flush=True)


if __name__ == "__main__":
    main()
