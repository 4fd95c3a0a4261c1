"""Wrong labels planted into a CSV of format A, so that an audit can be held to what it should find."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

UNKNOWN = "#N/A"


def plant_errors(source: Path, target: Path, rate: float, seed: int) -> set[tuple[str, str]]:
    """Copy a CSV with that share of each attribute's known cells flipped to another of its values, at random.

    Only the first row of a photo is touched, since later ones are dropped. Returns the flipped (photo, attribute)
    pairs.
    """
    with source.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        header, rows = list(reader.fieldnames or ()), list(reader)
    rng = np.random.default_rng(seed)
    first = {row["filename"]: row for row in reversed(rows)}
    planted = set()
    for attribute in header[1:]:
        values = sorted({row[attribute] for row in rows} - {UNKNOWN})
        photos = [name for name, row in first.items() if row[attribute] != UNKNOWN]
        for i in rng.choice(len(photos), round(rate * len(photos)), replace=False).tolist():
            row = first[photos[i]]
            row[attribute] = str(rng.choice([value for value in values if value != row[attribute]]))
            planted.add((photos[i], attribute))
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return planted
