"""Do the photos that `next` chooses teach more than photos at random? Labelling simulated on labelled catalogues.

    python benchmarks/active.py --data styles.csv --image-name "{id}.jpg" --cache features --weights package
    python benchmarks/active.py --generated 2000 --budgets 50,100,200,400,800

Each seed holds a fifth of the products back for the test and treats all other photos as not labelled. A strategy labels
photos (all their attributes) up to each budget in turn; after each a linear discriminant of every attribute is fit in
closed form on what is labelled (256 principal components of the pooled vectors of all photos, one covariance within the
values, shrunk) and judged on the test photos; it is a tenth of the work of a linear head trained with Adam, and no
worse than one with up to 1,600 labels (a trial in RESULTS.md). Attributes have one value per photo. Strategies: random;
doubt (the photos that the head doubts most, the first batch at random); spread (centres of clusters of what is not
labelled); next (what the command does: centres first, then the most doubtful photo of each cluster); weighted (the
same, doubt times how poor the values in question are). Printed: the mean of the seeds, for the first strategy with its
range over them, for the others the mean difference from it with its 95 % interval (Student's t over the paired seeds).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA

from pipeline.arrays import Float32, Float64, Int64
from pipeline.catalogue import LabelSchema, infer_schema, read_catalogue
from pipeline.catalogue.generated.sample import write_sample
from pipeline.evaluation.metrics import evaluate
from pipeline.evaluation.thresholds import decide, default_thresholds
from pipeline.experiment.cached_rows import CachedRows, cached_rows
from pipeline.features.extract import extract
from pipeline.heads import Targets
from pipeline.labelling.choice import Pool, best_photos, typical_photos
from pipeline.labelling.doubt import doubts, expected_f1
from pipeline.options import BackboneOptions, CacheKeyOptions, DataOptions, ExtractOptions, FitOptions, SplitOptions

NEAR = 0.98
COMPONENTS, SHRINK = 256, 0.2
FIGURES = ("accuracy", "macro F1")


@dataclass(frozen=True, eq=False)
class World:
    """A catalogue whose labels are known, so that labelling can be simulated; X is what heads are fit on, (n, c)."""

    pooled: Float32
    X: Float32
    targets: Targets
    schema: LabelSchema
    groups: Int64

    @classmethod
    def of(cls, rows: CachedRows) -> World:
        """The photos of a catalogue with cached vectors."""
        schema = infer_schema(rows.catalogue)
        Y, mask = schema.encode(rows.catalogue.cells, rows.catalogue.categories)
        pooled = rows.read()
        pca = PCA(min(COMPONENTS, *pooled.shape), svd_solver="randomized", random_state=0)
        components = np.asarray(pca.fit_transform(pooled), np.float32)
        return cls(pooled, components, Targets(Y, mask, schema.slices, schema.single), schema, rows.groups)


Head = Callable[[Float32], Float32]
"""Probabilities (n, L) of vectors (n, d)."""


def fit(world: World, labelled: Int64) -> Head:
    """Linear discriminants on the labelled photos, one per attribute; a value that none of them has is never likely."""
    layers = [_discriminant(world, labelled, at) for at in world.schema.slices]
    W, b = (np.concatenate(each, axis=-1) for each in zip(*layers, strict=True))

    def probabilities(X: Float32) -> Float32:
        logits = X @ W + b
        for at in world.schema.slices:
            of_values = np.exp(logits[:, at] - logits[:, at].max(axis=1, keepdims=True))
            logits[:, at] = of_values / of_values.sum(axis=1, keepdims=True)
        return logits.astype(np.float32)

    return probabilities


def _discriminant(world: World, labelled: Int64, at: slice) -> tuple[Float64, Float64]:
    """Weights (d, v) and biases (v,) of one attribute."""
    rows = labelled[world.targets.Y[labelled, at].any(axis=1) & world.targets.mask[labelled, at.start]]
    value, X = world.targets.Y[rows, at].argmax(axis=1), world.X[rows].astype(np.float64)
    counts = np.bincount(value, minlength=at.stop - at.start)
    means = np.eye(len(counts))[value].T @ X / np.maximum(counts, 1)[:, None]
    within = X - means[value]
    covariance, share = within.T @ within / len(X), max(SHRINK, ledoit_wolf_shrinkage(within, assume_centered=True))
    spherical = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    W = np.linalg.solve((1 - share) * covariance + share * spherical, means.T)
    return W, np.log(np.where(counts > 0, counts, 1e-300) / counts.sum()) - (means.T * W).sum(axis=0) / 2


def choose(strategy: str, world: World, left: Int64, head: Head | None, count: int, seed: int) -> Int64:
    """Rows that a strategy labels next, out of those that are left."""
    pool = Pool(world.groups[left], lambda at: world.pooled[left[at]])
    if strategy == "random" or (strategy == "doubt" and head is None):
        return left[np.random.default_rng(seed).permutation(len(left))[:count]]
    if strategy == "spread" or head is None:
        return filled(left, typical_photos(pool, count, NEAR, seed), count)
    P = head(world.X[left])
    doubt = doubts(P, world.schema).sum(axis=1, dtype=np.float64)
    if strategy == "doubt":
        return left[np.argsort(-doubt, kind="stable")[:count]]
    score = weighted(P, world.schema) if strategy == "weighted" else doubt
    return filled(left, best_photos(pool, score, count, NEAR, seed), count)


def weighted(P: Float32, schema: LabelSchema) -> Float64:
    """Doubt, each attribute's times the mean lack of expected F1 of the values that the photo may have: (n,)."""
    doubt, lack = doubts(P, schema), 1 - expected_f1(P, schema)
    shares = [P[:, at] / np.maximum(P[:, at].sum(axis=1, keepdims=True), 1e-9) for at in schema.slices]
    worth = np.stack([share @ lack[at] for share, at in zip(shares, schema.slices, strict=True)], axis=1)
    total: Float64 = (doubt * worth).sum(axis=1)
    return total


def filled(left: Int64, chosen: Int64, count: int) -> Int64:
    """The chosen rows, and where a strategy ran out of different photos, others, so that all have as many labels."""
    rest = np.setdiff1d(np.arange(len(left)), chosen)
    return left[np.concatenate([chosen, rest[: count - len(chosen)]])]


def judge(world: World, head: Head, test: Int64) -> tuple[Float64, Float64]:
    """Both FIGURES, and the accuracy per attribute, on the test photos."""
    P = head(world.X[test])
    D = decide(P, world.schema, default_thresholds(world.schema))
    metrics = evaluate(P, D, world.targets.Y[test], world.targets.mask[test], world.schema)
    per = [each.accuracy for each in metrics.attributes]
    return np.array([metrics.overall.accuracy, metrics.overall.macro_f1], float), np.array(per, float)


def simulate(world: World, strategy: str, budgets: Sequence[int], seed: int) -> tuple[Float64, Float64]:
    """Figures at each budget, (B, 2), and accuracies per attribute, (B, K)."""
    products = np.random.default_rng(seed).permutation(int(world.groups.max()) + 1)
    held = np.isin(world.groups, products[: len(products) // 5])
    test, left = np.flatnonzero(held), np.flatnonzero(~held)
    labelled, head = np.zeros(0, np.int64), None
    figures, per_attribute = [], []
    for step, budget in enumerate(budgets):
        chosen = choose(strategy, world, left, head, budget - len(labelled), 1000 * seed + step)
        labelled, left = np.concatenate([labelled, chosen]), np.setdiff1d(left, chosen)
        head = fit(world, labelled)
        overall, per = judge(world, head, test)
        figures.append(overall)
        per_attribute.append(per)
    return np.array(figures), np.array(per_attribute)


def interval(differences: Float64) -> float:
    """Half the width of the 95 % interval of a mean over few seeds."""
    from scipy.stats import t

    n = len(differences)
    return float(t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")


def table(results: Mapping[str, Float64], budgets: Sequence[int]) -> None:
    """Print one table per figure; results are (seeds, B, 2)."""
    base = next(iter(results))
    for f, figure in enumerate(FIGURES):
        print(f"\n| {figure} | " + " | ".join(f"{b:,}" for b in budgets) + " |\n|---" + "|---" * len(budgets) + "|")
        first = results[base][:, :, f]
        ranges = zip(first.mean(axis=0), first.min(axis=0), first.max(axis=0), strict=True)
        print(f"| {base} | " + " | ".join(f"{m:.3f} [{low:.3f} {high:.3f}]" for m, low, high in ranges) + " |")
        for name in list(results)[1:]:
            D = results[name][:, :, f] - first
            print(f"| {name} | " + " | ".join(f"{d.mean():+.3f} ± {interval(d):.3f}" for d in D.T) + " |")


def by_attribute(results: Mapping[str, Float64], names: Sequence[str], against: str) -> None:
    """Print the gain in accuracy per attribute of one strategy over the first, mean over budgets; (seeds, B, K)."""
    D = (results[against] - next(iter(results.values()))).mean(axis=1)
    print(f"\n| accuracy, {against} less {next(iter(results))}, mean of the budgets | |\n|---|---|")
    for k, name in enumerate(names):
        print(f"| {name} | {D[:, k].mean():+.3f} ± {interval(D[:, k]):.3f} |")


def world_of(asked: argparse.Namespace, work: Path) -> World:
    """The catalogue asked for, its pooled vectors in a cache."""
    if not asked.generated:
        data = DataOptions(
            data=asked.data, images=asked.images, image_name=asked.image_name, attributes=asked.attributes
        )
        cache = asked.cache
    else:
        sample = write_sample(work / "catalogue", "A", asked.generated, 0)
        data, cache = DataOptions(data=sample.data, images=sample.images), work / "features"
        packaged = BackboneOptions("tf_efficientnet_lite0", "package", 96)
        extract(read_catalogue(data).paths, packaged, ExtractOptions(cache=cache))
    key = CacheKeyOptions(weights=(asked.weights,) if asked.weights and not asked.generated else ())
    return World.of(cached_rows(data, key, SplitOptions(), FitOptions(cache=cache, use=("pooled",))))


def main() -> None:
    """Parse, simulate every strategy with every seed, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--image-name")
    parser.add_argument("--attributes", type=lambda text: tuple(text.split(",")), default=())
    parser.add_argument("--cache", type=Path, default=Path("features"))
    parser.add_argument("--weights")
    parser.add_argument("--generated", type=int, default=0, help="photos of a generated catalogue, instead of --data")
    parser.add_argument("--strategies", default="random,next,doubt,spread,weighted")
    parser.add_argument("--budgets", default="200,400,800,1600,4000")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    budgets = [int(each) for each in asked.budgets.split(",")]
    overall: dict[str, Float64] = {}
    per: dict[str, Float64] = {}
    with tempfile.TemporaryDirectory() as temporary:
        world = world_of(asked, Path(temporary))
    print(
        f"{len(world.pooled):,} photos, {world.schema.size} values of {len(world.schema.attributes)} attributes",
        flush=True,
    )
    for strategy in asked.strategies.split(","):
        began = time.process_time()
        runs = [simulate(world, strategy, budgets, seed) for seed in range(asked.seeds)]
        overall[strategy], per[strategy] = (np.array(each) for each in zip(*runs, strict=True))
        print(f"{strategy}: {time.process_time() - began:.0f} s of CPU time", flush=True)
        table({name: overall[name] for name in dict.fromkeys((next(iter(overall)), strategy))}, budgets)
        if len(overall) > 1:
            by_attribute(per, world.schema.attributes, strategy)


if __name__ == "__main__":
    main()
