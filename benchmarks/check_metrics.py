"""Every figure that `compare` reports of a run, computed again by scikit-learn from the run's files alone.

    python benchmarks/check_metrics.py RUN [--json comparison.json]

Reads predictions/, labels.parquet, split.csv, decisions.json and the schema in run.json with pandas, applies the
decision rule photo by photo, asks scikit-learn for the figures, and prints and exits 1 where the comparison (of the
JSON file, or made now) says another number. Values that only test photos have are columns like all others, with a
probability of 0 and never decided; loss, element accuracy and calibration are without them. RUN may be a folder of
`evaluate` too: then the majority is that of the counts which run.json takes from the model file, and what can be filled
in at a precision is looked up on scikit-learn's precision-recall curve. Nothing of this project is used but `compare`
itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics as sk

UNKNOWN = "#N/A"
CLOSE, FEW = 1e-6, 10

Figures = dict[str, Any]


class Files:
    """What a run folder says of its test photos: per attribute the values, the truth with NaN where unknown."""

    def __init__(self, run: Path) -> None:
        self.run = run
        info = json.loads((run / "run.json").read_text(encoding="utf-8"))
        self.schema, self.unseen, self.evaluated = info["schema"], info.get("unseen", []), info.get("evaluated")
        self.decisions = json.loads((run / "decisions.json").read_text(encoding="utf-8"))
        split = pd.read_csv(run / "split.csv", dtype=str, keep_default_na=False).set_index("photo")["part"]
        labels = pd.read_parquet(run / "labels.parquet").set_index("photo")
        self.test, self.train = (labels.loc[split.index[split == part]] for part in ("test", "train"))
        self.attributes: list[str] = self.schema["keys"]
        self.known = {
            attribute: [value for value in values if value != UNKNOWN]
            for attribute, values in zip(self.attributes, self.schema["values"], strict=True)
        }
        self.values = {
            attribute: values + [value for name, value in self.unseen if name == attribute]
            for attribute, values in self.known.items()
        }
        self.single = dict(zip(self.attributes, self.schema["single"], strict=True))

    def truth(self, attribute: str, rows: pd.DataFrame | None = None) -> pd.DataFrame:
        """1, 0 or NaN per value of an attribute."""
        frame = (self.test if rows is None else rows)[[f"{attribute}={value}" for value in self.values[attribute]]]
        return frame.set_axis(self.values[attribute], axis=1).astype(float)

    def training(self, attribute: str) -> tuple[pd.Series, pd.Series]:
        """Per value of an attribute: training photos that have it, and on which it is known."""
        counts = None if self.evaluated is None else self.evaluated["training"]
        if counts is None:
            truth = self.truth(attribute, self.test if self.evaluated else self.train)
            return truth.sum(), truth.notna().sum()
        labels = [
            (name, v) for name, values in zip(self.attributes, self.schema["values"], strict=True) for v in values
        ]
        found = [
            pd.Series({v: n for (name, v), n in zip(labels, counts[what], strict=True) if name == attribute})
            for what in ("positives", "known")
        ]
        every = self.values[attribute]
        return found[0].reindex(every, fill_value=0), found[1].reindex(every, fill_value=1)

    def probabilities(self, config_id: str, folder: str = "predictions") -> pd.DataFrame:
        frame = pd.read_parquet(self.run / folder / f"{config_id}.parquet")
        found = frame[frame["part"] == "test"].set_index("photo").drop(columns="part").loc[self.test.index]
        return found.assign(**{f"p:{attribute}={value}": 0.0 for attribute, value in self.unseen})

    def decided(self, config_id: str, P: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Per attribute 1 where a value is decided, by the stored thresholds of the chosen policy and the gate."""
        entry = self.decisions[config_id]
        limits = iter(entry["policies"][entry["chosen"]]["thresholds"])
        out = {}
        for attribute, values in zip(self.attributes, self.schema["values"], strict=True):
            limit = [next(limits) for _ in values]
            rows: list[set[str]] = []
            for scores in P[[f"p:{attribute}={value}" for value in values]].itertuples(index=False):
                best = int(np.argmax(scores))
                allowed = [best] if self.single[attribute] else range(len(values))
                chosen = {values[j] for j in allowed if float(scores[j]) >= limit[j]}
                rows.append(set() if values[best] == UNKNOWN else chosen - {UNKNOWN})
            out[attribute] = pd.DataFrame(
                [[int(v in row) for v in self.values[attribute]] for row in rows], P.index, self.values[attribute]
            )
        return self._gated(out)

    def _gated(self, decided: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        gate, category = self.schema.get("gate"), self.schema.get("category_key")
        if gate is None or category not in decided:
            return decided
        for photo, row in decided[category].iterrows():
            said = [value for value in row.index if row[value]]
            for attribute in self.attributes:
                if (
                    said
                    and attribute != category
                    and not any(attribute in gate.get(value, self.attributes) for value in said)
                ):
                    decided[attribute].loc[photo] = 0
        return decided

    def majority(self) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
        """The training shares as probabilities, and the most common decision, the same for every test photo."""
        P, D = {}, {}
        for attribute in self.attributes:
            has, known = self.training(attribute)
            share = (has / known.clip(lower=1)).astype(np.float32)
            for value in self.values[attribute]:
                P[f"p:{attribute}={value}"] = share[value]
            said = share >= 0.5
            if self.single[attribute]:
                said = pd.Series(False, share.index)
                said[share.idxmax()] = share.max() > 0
            D[attribute] = pd.DataFrame([said.astype(int)] * len(self.test), self.test.index)
        return pd.DataFrame([P] * len(self.test), self.test.index), D


def figures(files: Files, P: pd.DataFrame, D: dict[str, pd.DataFrame]) -> tuple[Figures, list[Figures], list[Figures]]:
    """(overall, per attribute, per value) by scikit-learn."""
    attributes, values, known, blocks = [], [], {}, []
    for attribute in files.attributes:
        truth = files.truth(attribute)
        rows = truth.notna().all(axis=1)
        known[attribute] = rows
        y, d = truth[rows].to_numpy(int), D[attribute][rows].to_numpy()
        p = P.loc[rows, [f"p:{attribute}={value}" for value in files.values[attribute]]].to_numpy(float)
        cells = (
            y[:, : len(files.known[attribute])],
            d[:, : len(files.known[attribute])],
            p[:, : len(files.known[attribute])],
        )
        found = {**of_attribute(y, d, p, files.single[attribute]), **of_cells(*cells, files.single[attribute])}
        attributes.append({"key": attribute, **found})
        values += [
            {"key": attribute, "value": v, **of_value(y[:, j], d[:, j], p[:, j])}
            for j, v in enumerate(files.values[attribute])
        ]
        blocks.append((y, d, rows.to_numpy(), cells))
    return overall(blocks, attributes, values), attributes, values


def of_attribute(y: np.ndarray, d: np.ndarray, p: np.ndarray, single: bool) -> Figures:
    if not len(y):
        return {"photos": 0, "accuracy": None, "macro_f1": None}
    scored = y.any(axis=0)
    pairs = (y | d).any(axis=1)
    return {
        "photos": len(y),
        "values": y.shape[1],
        "scored_values": int(scored.sum()),
        "rare_values": int((scored & (y.sum(axis=0) < FEW)).sum()),
        "micro_f1": optional(sk.f1_score, y, d, average="micro") if (y.any() or d.any()) else None,
        "macro_f1": sk.f1_score(y, d, average="macro", labels=np.flatnonzero(scored), zero_division=0)
        if scored.any()
        else None,
        "samples_f1": sk.f1_score(y[pairs], d[pairs], average="samples", zero_division=0) if pairs.any() else None,
        "mean_average_precision": mean([sk.average_precision_score(y[:, j], p[:, j]) for j in np.flatnonzero(scored)]),
        "accuracy": sk.accuracy_score(y, d),
        "balanced_accuracy": balanced(y, d, single),
        "iou": sk.jaccard_score(y[pairs], d[pairs], average="samples", zero_division=0) if pairs.any() else None,
        "predicted_per_photo": float(d.sum(axis=1).mean()),
        "true_per_photo": float(y.sum(axis=1).mean()),
    }


def of_cells(y: np.ndarray, d: np.ndarray, p: np.ndarray, single: bool) -> Figures:
    """Figures over the cells of the values that can be decided."""
    if not len(y):
        return {}
    return {
        "log_loss": log_loss(y, p),
        "element_accuracy": sk.accuracy_score(y.ravel(), d.ravel()),
        "calibration_error": calibration_error(y, p, single),
    }


def of_value(y: np.ndarray, d: np.ndarray, p: np.ndarray) -> Figures:
    has, says = int(y.sum()), int(d.sum())
    return {
        "support": has,
        "decided": says,
        "precision": sk.precision_score(y, d) if says else None,
        "recall": sk.recall_score(y, d) if has else None,
        "f1": sk.f1_score(y, d) if has else None,
        "average_precision": sk.average_precision_score(y, p) if has else None,
    }


def overall(blocks: list[Any], attributes: list[Figures], values: list[Figures]) -> Figures:
    """All attributes side by side: cells are pooled, photos are joined."""
    n = len(blocks[0][2])
    truth, decided, right, some, all_known = (
        np.zeros(n),
        np.zeros(n),
        np.ones(n, bool),
        np.zeros(n, bool),
        np.ones(n, bool),
    )
    both, ious = np.zeros(n), []
    for y, d, rows, _ in blocks:
        truth[rows] += y.sum(axis=1)
        decided[rows] += d.sum(axis=1)
        both[rows] += (y & d).sum(axis=1)
        right[rows] &= (y == d).all(axis=1)
        some |= rows
        all_known &= rows
        pairs = (y | d).any(axis=1)
        if pairs.any():
            ious.append((sk.jaccard_score(y[pairs], d[pairs], average="samples", zero_division=0), int(pairs.sum())))
    y, d = (np.concatenate([block[i].ravel() for block in blocks]) for i in range(2))
    own, said, p = (np.concatenate([block[3][i].ravel() for block in blocks]) for i in range(3))
    filled = truth + decided > 0
    return {
        "photos": int(some.sum()),
        "photos_all_known": int(all_known.sum()),
        "scored_values": sum(v["support"] > 0 for v in values),
        "rare_values": sum(0 < v["support"] < FEW for v in values),
        "log_loss": log_loss(own, p),
        "element_accuracy": sk.accuracy_score(own, said),
        "micro_f1": sk.f1_score(y, d),
        "macro_f1": mean([v["f1"] for v in values]),
        "key_macro_f1": mean([k["macro_f1"] for k in attributes]),
        "samples_f1": float((2 * both[filled] / (truth + decided)[filled]).mean()),
        "mean_average_precision": mean([v["average_precision"] for v in values]),
        "accuracy": mean([k["accuracy"] for k in attributes]),
        "balanced_accuracy": mean([k.get("balanced_accuracy") for k in attributes]),
        "iou": sum(iou * n for iou, n in ious) / sum(n for _, n in ious) if ious else None,
        "all_keys_right": float(right[some].mean()),
        "predicted_per_photo": float(decided[some].mean()),
        "true_per_photo": float(truth[some].mean()),
        "calibration_error": mean([k.get("calibration_error") for k in attributes]),
    }


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    return float(sk.log_loss(y.ravel(), np.clip(p.ravel(), 1e-7, 1 - 1e-7), labels=[0, 1]))


def balanced(y: np.ndarray, d: np.ndarray, single: bool) -> float | None:
    if single:
        return mean([sk.recall_score(y[:, j], d[:, j]) for j in np.flatnonzero(y.any(axis=0))])
    both = np.flatnonzero(y.any(axis=0) & ~y.all(axis=0))
    return mean([sk.balanced_accuracy_score(y[:, j], d[:, j]) for j in both])


def calibration_error(y: np.ndarray, p: np.ndarray, single: bool) -> float:
    """Fifteen bins of equal width, weighted by count; the best value of a single-valued attribute, else every cell."""
    at = p.argmax(axis=1)
    sure = p[np.arange(len(p)), at] if single else p.ravel()
    right = y[np.arange(len(y)), at] if single else y.ravel()
    frame = pd.DataFrame({"sure": sure, "right": right, "bin": np.minimum((sure * 15).astype(int), 14)})
    bins = frame.groupby("bin").agg(sure=("sure", "mean"), right=("right", "mean"), n=("sure", "size"))
    return float(((bins["sure"] - bins["right"]).abs() * bins["n"]).sum() / len(frame))


def optional(score: Any, *arrays: np.ndarray, **options: Any) -> float | None:
    return float(score(*arrays, zero_division=0, **options))


def mean(found: list[float | None]) -> float | None:
    kept = [figure for figure in found if figure is not None]
    return float(np.mean(kept)) if kept else None


def differing(place: str, own: Figures, said: Figures) -> list[str]:
    """A line per figure of `own` that the comparison gives otherwise."""
    lines = []
    for name, figure in own.items():
        other = said.get(name)
        numbers = isinstance(figure, int | float) and isinstance(other, int | float)
        if not (abs(figure - other) <= CLOSE if numbers else figure == other):
            lines.append(f"{place} {name}: compare says {other}, scikit-learn {figure}")
    return lines


def check(run: Path, comparison: Figures) -> tuple[int, list[str]]:
    """(figures checked, lines of differences) of a comparison of this one run."""
    files = Files(run)
    lines, count = [], 0
    for said in [*comparison["candidates"], comparison["majority"]]:
        name = said["config_id"]
        P = None if name == "majority" else files.probabilities(name)
        P, D = files.majority() if P is None else (P, files.decided(name, P))
        total, attributes, values = figures(files, P, D)
        lines += differing(f"{name} overall", total, said["metrics"]["overall"])
        for own, theirs in zip(attributes, said["metrics"]["keys"], strict=True):
            lines += differing(f"{name} {own['key']}", own, theirs)
        count += len(total) + sum(map(len, attributes))
        if said["best"]:
            listed = {(row["key"], row["value"]): row for row in comparison["values"]}
            for own in values:
                found = listed.get((own["key"], own["value"]), {})
                told = files.evaluated is None or files.evaluated["training"] is not None
                seen = int(files.training(own["key"])[0][own["value"]]) if told else 0
                lines += differing(f"{name} {own['key']}={own['value']}", {**own, "train": seen}, found)
            count += sum(map(len, values))
            lines += calibration(files, name, D, comparison["calibration"])
        rows = [row for row in comparison.get("coverage", []) if row["candidate"] == said["name"]]
        if rows and files.schema.get("gate") is None:
            lines += filled(files, P, rows)
            count += 3 * len(rows)
    return count, lines


def calibration(files: Files, name: str, D: dict[str, pd.DataFrame], rows: list[Figures]) -> list[str]:
    lines = []
    for part, folder in (("after", "predictions"), ("before", "predictions/uncalibrated")):
        if rows and (files.run / folder / f"{name}.parquet").is_file():
            _, attributes, _ = figures(files, files.probabilities(name, folder), D)
            for own, said in zip(attributes, rows, strict=True):
                found = {f"error_{part}": own.get("calibration_error"), f"loss_{part}": own.get("log_loss")}
                lines += differing(f"{name} {own['key']} calibration", found, said)
    return lines


def filled(files: Files, P: pd.DataFrame, rows: list[Figures]) -> list[str]:
    """How much can be filled in, held against the precision-recall curve of all that could be decided."""
    lines = []
    for row in rows:
        attribute, values = row["key"], files.known[row["key"]]
        truth = files.truth(attribute)[values]
        at = truth.notna().all(axis=1)
        y = truth[at].to_numpy(int)
        every = files.schema["values"][files.attributes.index(attribute)]
        p = P.loc[at, [f"p:{attribute}={value}" for value in every]].to_numpy(np.float32)
        best = p.argmax(axis=1)
        possible = np.ones(y.shape, bool)
        if files.single[attribute]:
            possible = best[:, None] == np.arange(len(values))
        possible[best >= len(values)] = False
        p = p[:, : len(values)]
        own = {"photos": len(y), "coverage": 0.0, "precision": None}
        curve = sk.precision_recall_curve(y[possible], p[possible]) if y[possible].any() else ([], [], [])
        # The most that can be right; of several cuts that give it, the one that decides nothing wrong on top.
        enough = [(r, at) for share, r, at in zip(*curve, strict=False) if share >= row["target"] - 1e-12 and r > 0]
        if enough:
            decided = possible & (p >= max(enough)[1])
            own["coverage"] = float(decided.any(axis=1).mean())
            own["precision"] = float(sk.precision_score(y[decided], np.ones(decided.sum(), int)))
        lines += differing(f"{row['candidate']} {attribute} at {row['target']:g}", own, row)
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", type=Path, help="what `compare RUN --json` wrote (default: compare now)")
    asked = parser.parse_args()
    if asked.json is None:
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
        from pipeline.comparison.compare import compare
        from pipeline.options import CompareOptions

        comparison = compare([asked.run], CompareOptions(bootstrap=10)).to_json()
    else:
        comparison = json.loads(asked.json.read_text(encoding="utf-8"))
    warnings.filterwarnings("ignore", category=UserWarning)
    count, lines = check(asked.run, comparison)
    print(*lines[:40], sep="\n", end="\n" if lines else "")
    verdict = f"{len(lines)} DIFFER" if lines else f"all agree with scikit-learn to {CLOSE:g}"
    print(f"{count} figures of {len(comparison['candidates'])} candidates and the majority baseline: {verdict}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
