"""What the split that stays costs: how even its parts are, and which values no part or only some can measure.

    python benchmarks/splits.py [--labels CSV] [--photos 200,2000,10000] [--seeds 200]

First the deviation of the parts' shares, and of those of values that 50, 25 and 12.5 % of the photos have, from
64/16/20, in points: what 95 and 99 of 100 seeds stay below. Every photo is a product of its own. Then, with a CSV of
labels, whose first column names the photo and whose others are attributes, samples of it are split by hash and by
labels: of the values that occur, how many lack a photo in train, in validation, in test, or in any of them, and how
many have fewer than 10 test photos.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.catalogue import PARTS, groups_of, identities_of, keyed_split, make_split

SHARES = (0.64, 0.16, 0.20)
Parts = npt.NDArray[np.str_]


def deviations(photos: int, seeds: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Largest deviation of a part's share per seed: of all photos (seeds,), and per value (seeds, 3)."""
    names = [f"{i}.jpg" for i in range(photos)]
    groups, identities = groups_of(names), identities_of(names)
    values = np.random.default_rng(0).geometric(0.5, photos)
    every, of_value = np.zeros(seeds), np.zeros((seeds, 3))
    for seed in range(seeds):
        parts = keyed_split(groups, identities, SHARES, seed)
        every[seed] = _deviation(parts)
        of_value[seed] = [_deviation(parts[values == value]) for value in (1, 2, 3)]
    return every, of_value


def _deviation(parts: Parts) -> float:
    return max(abs(float((parts == part).mean()) - share) for part, share in zip(PARTS, SHARES, strict=True))


def print_deviations(photos: int, seeds: int) -> None:
    """One line: points that 95 and 99 of 100 seeds stay below."""
    every, of_value = deviations(photos, seeds)
    columns = [every, *of_value.T]
    cells = "  ".join("{:5.2f} / {:5.2f}".format(*(100 * np.quantile(each, (0.95, 0.99)))) for each in columns)
    print(f"{photos:8,}  {cells}   ({seeds} seeds)")


def read_labels(path: Path) -> tuple[list[str], npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Names, and per value of every column Y (n, L) and mask (n, L); an empty cell is unknown."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    columns, known = [], []
    for j in range(1, len(header)):
        cells = np.array([row[j] for row in rows])
        for value in np.unique(cells[cells != ""]):
            columns.append(cells == value)
            known.append(cells != "")
    return [row[0] for row in rows], np.array(columns, np.uint8).T, np.array(known, bool).T


def lacking(parts: Parts, positive: npt.NDArray[np.bool_]) -> list[float]:
    """Values that occur, lack a photo in train, validation, test, in any, and have fewer than 10 in test."""
    counts = np.array([positive[parts == part].sum(0) for part in PARTS])
    counts = counts[:, counts.sum(0) > 0]
    return [counts.shape[1], *(counts == 0).sum(1).tolist(), (counts == 0).any(0).sum(), (counts[2] < 10).sum()]


def print_lacking(path: Path, photos: int, seeds: int) -> None:
    """Means over seeds, each with another sample of the labels, for both ways of splitting."""
    names, Y, mask = read_labels(path)
    by_hash, by_labels = [], []
    for seed in range(seeds):
        at = np.random.default_rng(seed).permutation(len(names))[:photos]
        some, positive = [names[i] for i in at], (Y[at] > 0) & mask[at]
        groups = groups_of(some)
        by_hash.append(lacking(keyed_split(groups, identities_of(some), SHARES, seed), positive))
        by_labels.append(lacking(make_split(groups, Y[at], mask[at], SHARES, seed).parts, positive))
    for way, found in (("hash", by_hash), ("labels", by_labels)):
        print(f"{len(at):8,}  {way:6s}  " + "  ".join(f"{each:10.1f}" for each in np.mean(found, axis=0)))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--photos", default="200,2000,10000")
    parser.add_argument("--seeds", type=int, default=200)
    asked = parser.parse_args()
    print("deviation from 64/16/20 in points, 95 / 99 of 100 seeds below")
    print("  photos    all photos     value of 50 %  value of 25 %  value of 12.5 %")
    for photos in (200, 2000, 200_000):
        print_deviations(photos, asked.seeds if photos < 100_000 else min(asked.seeds, 40))
    if asked.labels is None:
        return
    heads = ("values", "no train", "no valid.", "no test", "lack one", "< 10 test")
    print("\n  photos  by      " + "  ".join(f"{head:>10s}" for head in heads))
    for photos in map(int, asked.photos.split(",")):
        print_lacking(asked.labels, photos, max(3, min(asked.seeds, 20_000 // photos)))


if __name__ == "__main__":
    main()
