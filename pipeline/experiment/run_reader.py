"""Reading run folders: the rows and their parts, the truth, every configuration's settings and probabilities."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.catalogue.labels import LabelSchema
from pipeline.errors import RunError
from pipeline.evaluation.unseen import Unseen

FILES = ("run.json", "split.csv", "labels.parquet", "configs.csv", "decisions.json")
PARTS = ("train", "validation", "test")

Row = dict[str, str]


@dataclass(frozen=True)
class Run:
    """One run folder. Rows are those of split.csv, in its order.

    photos, parts, groups : (n,). Y (n, L) uint8 and mask (n, L) bool: the truth. configs : config_id -> its row of
    configs.csv. history : rows of history.csv. decisions : config_id -> links, policies, chosen.
    """

    path: Path
    info: Mapping[str, Any]
    schema: LabelSchema
    photos: tuple[str, ...]
    parts: npt.NDArray[np.str_]
    groups: npt.NDArray[np.int64]
    Y: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    configs: Mapping[str, Row]
    history: Sequence[Row]
    decisions: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def random_weights(self) -> bool:
        """Whether the backbone was never trained, which makes every figure meaningless."""
        source = str(self.info.get("weights_source") or "")
        return bool(self.info.get("random_weights")) or source.startswith("random:")

    def rows(self, part: str) -> npt.NDArray[np.intp]:
        """Positions of the rows of one part."""
        return np.flatnonzero(self.parts == part)

    @cached_property
    def unseen(self) -> Unseen:
        """The values that only test photos have, on every row; none for a run of a version that did not count them."""
        labels = tuple((str(attribute), str(value)) for attribute, value in self.info.get("unseen") or ())
        if not labels:
            return Unseen.none(len(self.photos))
        Y, known = _cells(self.path / "labels.parquet", [f"{name}={value}" for name, value in labels], self.photos)
        return Unseen(labels, known & (Y > 0))

    def settings(self, config_id: str) -> Row:
        """What a configuration is made of: its row of configs.csv, and what the whole run was made with."""
        return {**self.facts, **self.configs.get(config_id, {})}

    @cached_property
    def facts(self) -> Row:
        """What every configuration of the run shares and another run may have otherwise."""
        cache_key, options = self.info.get("cache_key") or {}, self.info.get("options") or {}
        fit = options.get("fit") or {}
        return {
            "run": self.name,
            "backbone": str(cache_key.get("architecture", "")),
            "weights": str(self.info.get("weights_source") or ""),
            "size": str(cache_key.get("size", "")),
            "resize": str(cache_key.get("fit", "")),
            "precision": str(cache_key.get("precision", "")),
            "use": "+".join(str(block["name"]) for block in self.info.get("blocks") or ()),
            "views": "+".join(str(view) for view in self.info.get("views") or ()),
            "na": str(fit.get("na", "")),
            "calibrate": str(fit.get("calibrate", "")),
        }

    @cached_property
    def predicted(self) -> tuple[str, ...]:
        """Configurations whose probabilities and thresholds are both there, in the order of decisions.json."""
        return tuple(config for config in self.decisions if self._predictions(config).is_file())

    def probabilities(self, config_id: str, part: str) -> npt.NDArray[np.float32]:
        """P (rows of the part, L) of one configuration; RunError unless every photo of the part has its row."""
        return self._read(self._predictions(config_id), config_id, part)

    def uncalibrated(self, config_id: str) -> npt.NDArray[np.float32] | None:
        """P (test rows, L) before calibration; None when the run did not keep it (it does for its best)."""
        path = self.path / "predictions" / "uncalibrated" / f"{config_id}.parquet"
        return self._read(path, config_id, "test") if path.is_file() else None

    def _read(self, path: Path, config_id: str, part: str) -> npt.NDArray[np.float32]:
        names = [f"p:{column}" for column in self.schema.column_names]
        table = _parquet(path, ["photo", *names])
        at = _positions(table.column("photo").to_pylist(), [self.photos[i] for i in self.rows(part)], path, part)
        P = np.empty((len(at), len(names)), np.float32)
        for j, name in enumerate(names):
            P[:, j] = table.column(name).to_numpy()[at]
        if not np.isfinite(P).all():
            raise RunError(f"{path} holds probabilities that are not numbers; the fit diverged: fit {config_id} again")
        return P

    def thresholds(self, config_id: str, policy: str | None = None) -> npt.NDArray[np.float64]:
        """Stored thresholds (L,) of a configuration under a policy (default: the one chosen on validation)."""
        entry = self.decisions[config_id]
        limits = np.asarray(entry["policies"][policy or entry["chosen"]]["thresholds"], np.float64)
        if limits.shape != (self.schema.size,):
            raise RunError(f"{self.path / 'decisions.json'}: {config_id} needs {self.schema.size} thresholds")
        return limits

    def score(self, config_id: str) -> float | None:
        """Validation score of a configuration under its chosen policy; None when the run does not say."""
        entry = self.decisions.get(config_id)
        if entry is not None:
            return float(entry["policies"][entry["chosen"]]["validation_score"])
        return number(self.configs.get(config_id, {}).get("validation_score"))

    def _predictions(self, config_id: str) -> Path:
        return self.path / "predictions" / f"{config_id}.parquet"


def read_run(path: Path) -> Run:
    """Read a run folder; raises RunError naming what is missing or does not fit together."""
    if not path.is_dir():
        raise RunError(f"no run folder {path}")
    missing = [name for name in FILES if not (path / name).is_file()]
    if missing:
        raise RunError(
            f"{path} is not a complete run folder: it has no {', '.join(missing)}; "
            "was fit-heads interrupted? Run it again with another --out"
        )
    info = _json(path / "run.json")
    split = _csv(path / "split.csv")
    try:
        schema = LabelSchema.from_json(info["schema"])
        photos = tuple(row["photo"] for row in split)
        parts = np.array([row["part"] for row in split], str)
        groups = np.array([int(row["group"]) for row in split], np.int64)
        configs = {row["config_id"]: row for row in _csv(path / "configs.csv")}
    except (KeyError, ValueError, TypeError) as error:
        raise RunError(f"{path}: run.json, split.csv or configs.csv lacks or garbles {error}") from error
    strange = sorted(set(parts.tolist()) - set(PARTS))
    if strange:
        raise RunError(f"{path / 'split.csv'}: unknown part {strange[0]!r}; there are {', '.join(PARTS)}")
    history = path / "history.csv"
    Y, mask = _cells(path / "labels.parquet", schema.column_names, photos)
    decisions = _json(path / "decisions.json")
    _check_decisions(path / "decisions.json", decisions)
    return Run(
        path,
        info,
        schema,
        photos,
        parts,
        groups,
        Y,
        mask,
        configs,
        _csv(history) if history.is_file() else (),
        decisions,
    )


def number(text: str | None) -> float | None:
    """The number a CSV cell holds; None for an empty cell or a word."""
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return None if value is None or value != value else value


def _cells(
    path: Path, columns: Sequence[str], photos: Sequence[str]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """(Y, known) of these columns of labels.parquet, both (n, columns), in the order of the photos."""
    table = _parquet(path, ["photo", *columns])
    at = _positions(table.column("photo").to_pylist(), photos, path, "split.csv")
    Y = np.zeros((len(photos), len(columns)), np.uint8)
    mask = np.zeros((len(photos), len(columns)), np.bool_)
    for j, name in enumerate(columns):
        column = table.column(name).combine_chunks()
        mask[:, j] = column.is_valid().to_numpy(zero_copy_only=False)[at]
        Y[:, j] = column.fill_null(0).to_numpy(zero_copy_only=False)[at]
    return Y, mask


def _positions(have: Sequence[str], want: Sequence[str], path: Path, part: str) -> npt.NDArray[np.intp]:
    where = {photo: i for i, photo in enumerate(have)}
    lost = [photo for photo in want if photo not in where]
    if lost:
        raise RunError(f"{path} has no row for {len(lost)} of the {len(want)} photos of {part} (first: {lost[0]})")
    return np.fromiter((where[photo] for photo in want), np.intp, len(want))


def _check_decisions(path: Path, decisions: Mapping[str, Any]) -> None:
    for config_id, entry in decisions.items():
        try:
            chosen = entry["policies"][entry["chosen"]]
            float(chosen["validation_score"]), chosen["thresholds"]
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path}: {config_id} lacks its chosen policy, thresholds or score ({error})") from error


def _parquet(path: Path, columns: list[str]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            there = frozenset(file.schema_arrow.names)
            absent = [name for name in columns if name not in there]
            if absent:
                raise RunError(
                    f"{path} has no column {absent[0]!r} ({len(absent)} of {len(columns)} are missing);"
                    " it does not belong to this run.json"
                )
            return file.read(columns)
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{path} cannot be read as Parquet: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} holds a {type(content).__name__}, not an object")
    return content


def _csv(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
