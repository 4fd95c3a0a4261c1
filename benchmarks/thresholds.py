"""Seconds to tune thresholds: 2,520 values on 50,000 photos, beside a plain loop over NumPy's argsort.

python benchmarks/thresholds.py [--values 2520] [--photos 50000] [--keys 40]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.catalogue.labels import LabelSchema
from pipeline.evaluation.thresholds import tune


def simulated(photos: int, values: int, attributes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, LabelSchema]:
    """(P, Y, mask, schema): multi-valued attributes, values on 0.1 to 10 % of the photos, one cell in ten unknown."""
    rng = np.random.default_rng(0)
    share = np.exp(rng.uniform(np.log(0.001), np.log(0.1), values)).astype(np.float32)
    Y = rng.random((photos, values), np.float32) < share
    z = rng.standard_normal((photos, values), np.float32) + 2 * Y + np.log(share)
    P = 1 / (1 + np.exp(-z, dtype=np.float32))
    widths = np.diff(np.linspace(0, values, attributes + 1).astype(int))
    mask = np.repeat(rng.random((photos, attributes), np.float32) < 0.9, widths, axis=1)
    names = tuple(f"attribute{i}" for i in range(attributes))
    schema = LabelSchema(names, tuple(tuple(f"v{j}" for j in range(w)) for w in widths), (False,) * attributes)
    return P.astype(np.float32), Y.astype(np.uint8), mask, schema


def plain(P: np.ndarray, Y: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The best F1 cut of each value, a value at a time."""
    out = np.full(P.shape[1], 0.5)
    for j in range(P.shape[1]):
        known = mask[:, j]
        scores, truth = P[known, j], Y[known, j]
        order = np.argsort(-scores, kind="stable")
        hits = np.cumsum(truth[order])
        f1 = 2 * hits / (np.arange(1, len(order) + 1) + max(1, int(truth.sum())))
        best = int(f1.argmax())
        out[j] = scores[order][min(best, len(order) - 1)]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=int, default=2520)
    parser.add_argument("--photos", type=int, default=50_000)
    parser.add_argument("--keys", type=int, default=40, dest="attributes")
    asked = parser.parse_args()
    P, Y, mask, schema = simulated(asked.photos, asked.values, asked.attributes)
    print(f"{asked.values} values x {asked.photos} photos, {asked.attributes} attributes, {Y.mean():.2%} of cells true")
    seconds = {}
    for policy in ("global", "per-key", "per-label", "precision:0.9", "count"):
        start = time.perf_counter()
        tune(P, Y, mask, schema, policy)
        seconds[policy] = time.perf_counter() - start
        print(f"  {policy:14s} {seconds[policy]:6.2f} s")
    start = time.perf_counter()
    plain(P, Y, mask)
    took = time.perf_counter() - start
    ratio = took / seconds["per-label"]
    print(f"  plain argsort  {took:6.2f} s (per value alone, without shrinkage): {ratio:.2f} x per-label")


if __name__ == "__main__":
    main()
