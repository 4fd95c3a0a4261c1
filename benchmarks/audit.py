"""Precision of `audit` on the sample catalogue with planted label errors.

    python benchmarks/audit.py [--photos 600] [--seeds 0,1,2] [--rate 0.05] [--head mlp] [--work FOLDER]

Each seed draws another catalogue, extracts it once with the packaged weights (pooled and levels), flips the share of
its known cells, and asks the audit. Printed per seed: errors planted on photos that are judged, issues found, the share
of true errors among the first 50 and 100 and among all, and the share of the errors found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.audit.audit import audit
from pipeline.audit.report import AuditReport
from pipeline.catalogue import read_catalogue
from pipeline.catalogue.generated.sample import write_sample
from pipeline.features.extract import extract
from pipeline.options import AuditOptions, BackboneOptions, CacheKeyOptions, DataOptions, ExtractOptions
from tests.audit.planting import plant_errors

PACKAGED = BackboneOptions(backbone="tf_efficientnet_lite0", weights="package")


def one(work: Path, photos: int, seed: int, options: argparse.Namespace) -> tuple[AuditReport, list[bool], int]:
    """The audit of one catalogue, whether each issue is a planted error, and how many errors there were to find."""
    folder = work / f"{photos}-{seed}"
    sample = write_sample(folder / "catalogue", "A", photos, seed)
    data = folder / "planted.csv"
    planted = plant_errors(sample.data, data, options.rate, seed)
    catalogue = DataOptions(data=data, images=sample.images)
    cache = folder / "cache"
    extract(read_catalogue(catalogue).paths, PACKAGED, ExtractOptions(cache=cache, features=("pooled", "levels")))
    with tempfile.TemporaryDirectory() as out:
        report = audit(catalogue, CacheKeyOptions(), AuditOptions(cache=cache, head=options.head, out=Path(out)))
    hits = [(issue.photo, issue.attribute) in planted for issue in report.issues]
    return report, hits, len({pair for pair in planted if pair[0] in report.files})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--head", default="mlp")
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        firsts = []
        for seed in map(int, options.seeds.split(",")):
            report, hits, errors = one(options.work or Path(temporary), options.photos, seed, options)
            firsts.append(np.mean(hits[:50]))
            print(
                f"seed {seed}: {report.photos} photos, {errors} errors, {len(hits)} issues; precision first 50 "
                f"{np.mean(hits[:50]):.2f}, first 100 {np.mean(hits[:100]):.2f}, all {np.mean(hits):.2f}; "
                f"recall {sum(hits) / errors:.2f}; {report.seconds:.0f} s",
                flush=True,
            )
    print(f"precision in the first 50: lowest {min(firsts):.2f}, mean {np.mean(firsts):.2f}")


if __name__ == "__main__":
    main()
