"""What calibration does to new photos: off, always, and where it helps, on test photos of several splits.

    python run.py sample catalogue --images 200
    python run.py extract --data catalogue --cache features --backbone tf_efficientnet_lite0 --weights package
    python benchmarks/calibration.py --data catalogue --cache features [--seeds 10]

Per head: mean calibration error, and in how many of the splits it is higher than without calibration.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.catalogue_words import add_catalogue, catalogue_of
from pipeline.evaluation.metrics import evaluate
from pipeline.evaluation.thresholds import decide, default_thresholds
from pipeline.experiment.candidates import folds_of
from pipeline.experiment.rows import Experiment, load_experiment
from pipeline.heads import FittedHead, HeadConfig, SweepOptions, fit_many
from pipeline.heads.calibration import calibrated, fit_calibration
from pipeline.options import CacheKeyOptions, FitOptions, SplitOptions

HEADS = {
    "linear, BCE": HeadConfig(),
    "linear, softmax": HeadConfig(loss="ce"),
    "MLP": HeadConfig(head="mlp", dropout=0.3),
    "multinomial": HeadConfig(head="multinomial", C=0.01),
}
WAYS = ("off", "always", "where it helps")


def errors(experiment: Experiment) -> dict[str, list[float]]:
    """Calibration error on test photos under each of `WAYS`, per head."""
    parts = ("train", "validation", "test")
    train, validation, test = (np.asarray(experiment.source(part, limit=1 << 40, beside=0)) for part in parts)
    sides = [(X, experiment.targets_of(part)) for X, part in zip((train, validation), parts, strict=False)]
    fitted = fit_many(tuple(HEADS.values()), *sides, SweepOptions(device="cpu"))
    at, targets = experiment.split.rows("validation"), experiment.targets
    Y, known, folds = targets.Y[at], targets.known[at], folds_of(experiment.groups[at])
    found = {}
    for name, head in zip(HEADS, fitted, strict=True):
        always = calibrated(head, fit_calibration(head, validation, Y, known))
        helped = calibrated(head, fit_calibration(head, validation, Y, known, folds))
        found[name] = [error_of(each, test, experiment) for each in (head, always, helped)]
    return found


def error_of(head: FittedHead, X: np.ndarray, experiment: Experiment) -> float:
    """Calibration error on the test photos, whose features are X (n, d), mean over attributes."""
    at, truth = experiment.split.rows("test"), experiment.truth
    P = head.predict_proba(X)
    D = decide(P, truth.schema, default_thresholds(truth.schema))
    return evaluate(P, D, truth.Y[at], truth.known[at], truth.schema).overall.calibration_error or 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_catalogue(parser)
    parser.add_argument("--cache", type=Path, default=Path("features"))
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    data = catalogue_of(asked)
    key, fit = CacheKeyOptions(backbone=("tf_efficientnet_lite0",), weights=("package",)), FitOptions(cache=asked.cache)
    by_head: dict[str, list[list[float]]] = {name: [] for name in HEADS}
    for seed in range(asked.seeds):
        experiment = load_experiment(data, key, SplitOptions(split_seed=seed), fit)
        for name, of_ways in errors(experiment).items():
            by_head[name].append(of_ways)
    for name, rows in by_head.items():
        table = np.array(rows)
        means = " / ".join(f"{way} {mean:.4f}" for way, mean in zip(WAYS, table.mean(axis=0), strict=True))
        worse = " / ".join(str(int((table[:, i] > table[:, 0]).sum())) for i in (1, 2))
        print(f"{name:16} {means}; higher than off in {worse} of {len(table)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
