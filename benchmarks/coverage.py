"""How often the intervals of `compare` cover the truth: test sets drawn from a large labelled population.

    python benchmarks/coverage.py [--sets 300] [--resamples 500] [--photos 2000] [--seed 0]

The population is drawn: 200,000 photos of products of one to three photos, one attribute of 130 values and one of 12,
whose shares fall off as 1 / rank ** 1.3 and 1 / rank, and two models, the second a little better, that know a value the
better the more training photos it would have, and err together on photos of one product. Test sets of whole products
are drawn from it; for each, every 95 % interval is held against

- same values: the population's figure over the values that this test set scores;
- other sets: the mean figure of all test sets drawn, which is what one more test set of this size would give.

The first asks more of macro F1: F1 of a value with few photos tends to lie below its F1 on many. "percentile" is the
central 95 % of the resamples, "moved" the same moved by the figure minus their median, "reported" what `compare` says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.catalogue.labels import LabelSchema
from pipeline.evaluation.bootstrap import Bootstrap, interval, interval_of
from pipeline.evaluation.metrics import PhotoSums, macro_f1, photo_sums

Ints = npt.NDArray[np.int64]
Span = tuple[float, float]

POPULATION = 200_000
TRAINED, HALF = 6_400, 20
"""Photos the models would have learnt from, and those of one value with which it is half known."""
ATTRIBUTES = ((130, 1.3), (12, 1.0))
"""Values of each attribute, and the power of their rank by which their shares fall off."""

MODELS = ("first", "second", "majority")
SCHEMA = LabelSchema(
    tuple(f"a{i}" for i in range(len(ATTRIBUTES))),
    tuple(tuple(f"v{j:03}" for j in range(values)) for values, _ in ATTRIBUTES),
    (True,) * len(ATTRIBUTES),
)


@dataclass(frozen=True)
class Population:
    """Photos n: groups (n,) ascending, truth (K, n), and what each model says, name -> (K, n)."""

    groups: Ints
    truth: Ints
    said: dict[str, Ints]

    def sums(self, model: str, rows: Ints) -> PhotoSums:
        """Per-photo sums of one model's decisions on some photos."""
        Y, D = (_hot(values[:, rows]) for values in (self.truth, self.said[model]))
        return photo_sums(None, D, Y, np.ones_like(Y), SCHEMA)


def draw_population(seed: int, photos: int = POPULATION) -> Population:
    """A population in which rare values are many and hard."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([1, 2, 3], size=photos, p=[0.5, 0.3, 0.2])
    groups = np.repeat(np.arange(photos), sizes)[:photos]
    truth, said = [], {name: [] for name in MODELS}
    for values, power in ATTRIBUTES:
        share = 1.0 / np.arange(1, values + 1) ** power
        share /= share.sum()
        true = rng.choice(values, size=photos, p=share)[groups]
        seen = TRAINED * share
        skill = rng.beta(3.0, 1.2, values) * seen / (seen + HALF)
        # Half of a photo's luck is its product's, so that groups matter.
        luck = np.where(rng.random(photos) < 0.5, rng.random(photos)[groups], rng.random(photos))
        other = rng.choice(values, size=photos, p=share)
        truth.append(true)
        said["first"].append(np.where(luck < skill[true], true, other))
        said["second"].append(np.where(luck < np.minimum(skill[true] + 0.02, 1.0), true, other))
        said["majority"].append(np.zeros(photos, np.int64))
    return Population(groups, np.stack(truth), {name: np.stack(columns) for name, columns in said.items()})


def draw_sets(population: Population, photos: int, sets: int, seed: int) -> Iterator[Ints]:
    """Rows of test sets of whole products, of about so many photos."""
    rng = np.random.default_rng(seed)
    starts = np.flatnonzero(np.r_[True, np.diff(population.groups) > 0])
    ends = np.r_[starts[1:], len(population.groups)]
    for _ in range(sets):
        chosen = rng.choice(len(starts), size=round(photos * len(starts) / len(population.groups)), replace=False)
        yield np.concatenate([np.arange(starts[g], ends[g]) for g in np.sort(chosen)])


@dataclass(frozen=True)
class Seen:
    """One figure on one test set: its estimate, the population's over the same values, and its intervals by name."""

    estimate: float
    truth: float
    spans: dict[str, Span]


def measure(population: Population, photos: int, sets: int, resamples: int, seed: int) -> dict[str, list[Seen]]:
    """Every figure on every test set, by name."""
    every = np.arange(len(population.groups))
    whole = {model: _totals(population.sums(model, every)) for model in MODELS}
    found: dict[str, list[Seen]] = {}
    for number, rows in enumerate(draw_sets(population, photos, sets, seed)):
        bootstrap = Bootstrap(population.groups[rows], resamples, number)
        sums = {model: population.sums(model, rows) for model in MODELS}
        scored = (sums["first"].tp | sums["first"].fn).any(axis=0)
        drawn = {model: bootstrap.figures(sums[model]).overall for model in MODELS}
        mine = {model: _figures(_totals(sums[model]), scored) for model in MODELS}
        true = {model: _figures(whole[model], scored) for model in MODELS}
        for name in mine["first"]:
            for model in MODELS:
                spans = _spans(name, drawn[model][name], mine[model][name])
                found.setdefault(f"{name}, {model}", []).append(Seen(mine[model][name], true[model][name], spans))
            span = interval(drawn["second"][name] - drawn["first"][name])
            gap, gaps = (figures["second"][name] - figures["first"][name] for figures in (mine, true))
            if span is not None:
                found.setdefault(f"{name}, second - first", []).append(Seen(gap, gaps, {"reported": span}))
    return found


def _spans(name: str, figures: npt.NDArray[np.floating], estimate: float) -> dict[str, Span]:
    plain, reported = interval(figures), interval_of(name, figures, estimate)
    if plain is None or reported is None:
        return {}
    if plain == reported:
        return {"reported": reported}
    shift = estimate - float(np.nanmedian(figures))
    return {"percentile": plain, "moved": (plain[0] + shift, plain[1] + shift), "reported": reported}


def coverage(seen: list[Seen], method: str) -> tuple[float, float, float]:
    """Shares of the intervals that hold (the truth over the same values, the mean of all sets, their own estimate)."""
    mean = float(np.mean([one.estimate for one in seen]))
    held = [
        [low <= target <= high for target in (one.truth, mean, one.estimate)]
        for one in seen
        for low, high in (one.spans[method],)
    ]
    same, other, own = np.mean(held, axis=0)
    return float(same), float(other), float(own)


def _totals(sums: PhotoSums) -> tuple[npt.NDArray[np.float64], ...]:
    """(right (K,), tp, fp, fn (L,)) as shares of the photos."""
    return tuple(part.mean(axis=0) for part in (sums.right, sums.tp, sums.fp, sums.fn))


def _figures(totals: tuple[npt.NDArray[np.float64], ...], scored: npt.NDArray[np.bool_]) -> dict[str, float]:
    right, *counts = totals
    mine = [macro_f1(*(part[columns][scored[columns]] for part in counts)) for columns in SCHEMA.slices]
    overall = macro_f1(*(part[scored] for part in counts))
    return {
        "accuracy": float(right.mean()),
        "macro_f1": overall or 0.0,
        "key_macro_f1": float(np.mean([figure or 0.0 for figure in mine])),
    }


def _hot(values: Ints) -> npt.NDArray[np.bool_]:
    """(n, L) from (K, n)."""
    columns = [row[:, None] == np.arange(width) for row, (width, _) in zip(values, ATTRIBUTES, strict=True)]
    return np.concatenate(columns, axis=1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    population = draw_population(asked.seed)
    found = measure(population, asked.photos, asked.sets, asked.resamples, asked.seed + 1)
    print(f"{asked.sets} test sets of about {asked.photos} photos, {asked.resamples} resamples, 95 % intervals")
    print(f"{'figure':32} {'interval':12} {'mean':>7} {'truth':>7} {'same values':>12} {'other sets':>11} {'own':>6}")
    for name, seen in found.items():
        for method in ("percentile", "moved", "reported"):
            if method not in seen[0].spans:
                continue
            same, other, own = coverage(seen, method)
            mean, truth = (np.mean([getattr(one, field) for one in seen]) for field in ("estimate", "truth"))
            print(f"{name:32} {method:12} {mean:7.4f} {truth:7.4f} {same:12.1%} {other:11.1%} {own:6.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
