"""A tiny run folder, every file written by hand as the README describes it: 4 train, 2 validation and 6 test photos."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

ATTRIBUTES = {"neck": ["round", "v"], "style": ["plain", "casual", "sporty"]}
SINGLE = {"neck": True, "style": False}

# photo, group, part, then what is known: None is unknown.
ROWS: list[tuple[str, int, str, str | None, tuple[str, ...] | None]] = [
    ("a1.jpg", 0, "train", "round", ("plain",)),
    ("a2.jpg", 0, "train", "round", ("plain", "casual")),
    ("b1.jpg", 1, "train", "v", ("plain",)),
    ("c1.jpg", 2, "train", None, ("casual",)),
    ("d1.jpg", 3, "validation", "round", ("plain",)),
    ("e1.jpg", 4, "validation", "v", ("casual",)),
    ("f1.jpg", 5, "test", "round", ("plain",)),
    ("f2.jpg", 5, "test", "round", ("plain", "casual")),
    ("g1.jpg", 6, "test", "v", ("casual",)),
    ("h1.jpg", 7, "test", "v", ("plain",)),
    ("i1.jpg", 8, "test", "round", None),
    ("j1.jpg", 9, "test", None, ("sporty",)),
]

# Probabilities of the two validation and six test photos: round, v, plain, casual, sporty.
GOOD = [
    [0.9, 0.1, 0.8, 0.2, 0.1],
    [0.2, 0.8, 0.3, 0.7, 0.1],
    [0.9, 0.1, 0.9, 0.3, 0.1],
    [0.8, 0.2, 0.7, 0.6, 0.2],
    [0.3, 0.7, 0.2, 0.8, 0.1],
    [0.6, 0.4, 0.9, 0.2, 0.3],
    [0.7, 0.3, 0.5, 0.5, 0.5],
    [0.5, 0.5, 0.4, 0.1, 0.8],
]
POOR = [[1 - p for p in row] for row in GOOD]

CONFIGS: dict[str, dict[str, Any]] = {
    "linear-adam-00000001": {"head": "linear", "optimizer": "adam", "lr": "0.001", "P": GOOD, "score": 0.9},
    "mlp-sgd-00000002": {"head": "mlp", "optimizer": "sgd", "lr": "0.1", "P": POOR, "score": 0.4},
}
NAMES = ("linear", "mlp · lr 0.1")
"""What people call these, beside `UNKEPT`."""

CONTENTS: dict[str, str] = {}
"""What stands for a photo's bytes, where that is not its name."""

UNKEPT = {"config_id": "mlp-sgd-00000003", "head": "mlp", "optimizer": "sgd", "lr": "0.01", "validation_score": "0.6"}


def write_run(
    folder: Path,
    rows: Sequence[tuple[str, int, str, str | None, tuple[str, ...] | None]] = ROWS,
    configs: Mapping[str, Mapping[str, Any]] = CONFIGS,
    attributes: Sequence[str] = ("neck", "style"),
    unkept: bool = True,
    **info: Any,
) -> Path:
    """Write the folder and return it; `info` overrides fields of run.json.

    Args:
        unkept: With one more configuration, whose predictions were not kept.
    """
    (folder / "predictions").mkdir(parents=True)
    labels = [(attribute, value) for attribute in attributes for value in ATTRIBUTES[attribute]]
    _write_csv(
        folder / "split.csv",
        [{"photo": r[0], "content": _content(r[0]), "group": r[1], "part": r[2]} for r in rows],
    )
    _write_labels(folder / "labels.parquet", rows, [*labels, *map(tuple, info.get("unseen", ()))])
    judged = [row for row in rows if row[2] != "train"]
    at = [i for i, label in enumerate((k, v) for k in ATTRIBUTES for v in ATTRIBUTES[k]) if label in labels]
    for config_id, config in configs.items():
        P = [[config["P"][i][j] for j in at] for i in range(len(judged))]
        _write_predictions(folder / "predictions" / f"{config_id}.parquet", judged, P, labels)
    _write_csv(
        folder / "configs.csv", [_config_row(name, config) for name, config in configs.items()] + [UNKEPT] * unkept
    )
    _write_csv(
        folder / "history.csv",
        [
            {"config_id": name, "epoch": epoch, "split": split, "loss": round(loss / (epoch + 1), 3)}
            for name in configs
            for epoch in range(3)
            for split, loss in (("train", 0.6), ("validation", 0.7))
        ],
    )
    decisions = {name: _decisions(labels, config["score"]) for name, config in configs.items()}
    (folder / "decisions.json").write_text(json.dumps(decisions))
    (folder / "run.json").write_text(json.dumps(_info(folder.name, attributes) | info))
    return folder


def _content(photo: str) -> str:
    return sha256(CONTENTS.get(photo, photo).encode()).hexdigest()


def _info(name: str, attributes: Sequence[str]) -> dict[str, Any]:
    return {
        "name": name,
        "created": "2026-01-02T03:04:05",
        "options": {"data": {"data": "catalogue.csv"}},
        "cache_key": {"architecture": "resnet18", "size": 224},
        "blocks": [{"name": "pooled", "dim": 512, "digest": "aa"}],
        "weights_source": "hub",
        "random_weights": False,
        "schema": {
            "keys": list(attributes),
            "values": [ATTRIBUTES[attribute] for attribute in attributes],
            "single": [SINGLE[attribute] for attribute in attributes],
            "gate": None,
            "category_key": None,
        },
        "not_measurable": [["style", "sporty"]],
        "findings": {"missing-photo": 3},
    }


def _config_row(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {field: config[field] for field in ("head", "optimizer", "lr")}
    return {"config_id": name, **chosen, "validation_score": config["score"], "best_epoch": 1, "seconds": 2.5}


def _decisions(labels: Sequence[tuple[str, str]], score: float) -> dict[str, Any]:
    usual = [0.0 if SINGLE[attribute] else 0.5 for attribute, _ in labels]
    return {
        "links": ["sigmoid"] * len({attribute for attribute, _ in labels}),
        "policies": {
            "best": {"thresholds": usual, "validation_score": score},
            "fixed:0.8": {"thresholds": [0.8] * len(labels), "validation_score": score / 2},
        },
        "chosen": "best",
    }


def _write_labels(path: Path, rows: Sequence[Any], labels: Sequence[tuple[str, str]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"photo": pa.array([row[0] for row in rows])}
    for attribute, value in labels:
        cells = [row[3 + list(ATTRIBUTES).index(attribute)] for row in rows]
        known = [(cell,) if isinstance(cell, str) else cell for cell in cells]
        columns[f"{attribute}={value}"] = pa.array([None if c is None else int(value in c) for c in known], pa.int8())
    pq.write_table(pa.table(columns), path)


def _write_predictions(path: Path, rows: Sequence[Any], P: Any, labels: Sequence[tuple[str, str]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"photo": pa.array([r[0] for r in rows]), "part": pa.array([r[2] for r in rows])}
    for j, (attribute, value) in enumerate(labels):
        columns[f"p:{attribute}={value}"] = pa.array([row[j] for row in P], pa.float32())
    pq.write_table(pa.table(columns), path)


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
