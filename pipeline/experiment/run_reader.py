"""Reading run folders: the rows and their parts, the truth, every configuration's settings and probabilities."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import Bool, Float32, Float64, Int64, Positions, Texts, UInt8
from pipeline.catalogue.labels import LabelSchema
from pipeline.catalogue.split_file import read_split
from pipeline.errors import CatalogueError, RunError
from pipeline.evaluation import goals
from pipeline.evaluation.metrics import known_cells
from pipeline.evaluation.unseen import Unseen
from pipeline.experiment.run_schema import check_config_id, read_decisions, read_run_info
from pipeline.experiment.run_tables import Row, Rows, read_probabilities, read_rows, read_truth
from pipeline.features.vectors.origin import Origin, origins_of

__all__ = ["Row", "Run", "number", "read_run", "runs_in"]

FILES = ("run.json", "split.csv", "labels.parquet", "configs.csv", "decisions.json")
READ = (*FILES, "history.csv", "dropped.csv", "neighbours.csv")
FINDING = ("kind", "photo", "detail")


@dataclass(frozen=True)
class Run:
    """One run folder. Rows are those of split.csv, in its order.

    Attributes:
        photos, parts, groups: (n,).
        Y (n, L) uint8 and mask (n, L) bool: the truth.
        configs: config_id -> its row of configs.csv.
        history: Rows of history.csv.
        decisions: config_id -> links, policies, chosen.
        contents: (n,), hex digests of the photos' bytes, "" where they could not be read.
    """

    path: Path
    info: Mapping[str, Any]
    schema: LabelSchema
    photos: tuple[str, ...]
    parts: Texts
    groups: Int64
    Y: UInt8
    mask: Bool
    unseen: Unseen
    configs: Mapping[str, Row]
    history: Sequence[Row]
    decisions: Mapping[str, Mapping[str, Any]]
    contents: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def random_weights(self) -> bool:
        """Whether the backbone was never trained, which makes every figure meaningless."""
        return bool(self.info.get("random_weights")) or any(origin.random for origin in self.origins)

    @cached_property
    def origins(self) -> tuple[Origin, ...]:
        """The backbones whose vectors it was fit on."""
        return origins_of(self.info)

    def rows(self, part: str) -> Positions:
        """Positions of the rows of one part."""
        return self._rows.of(part)

    @cached_property
    def _rows(self) -> Rows:
        return Rows(self.photos, self.parts)

    @property
    def evaluated(self) -> Mapping[str, Any] | None:
        """What `evaluate` says of the model it tried; None for a run of `fit-heads`."""
        return self.info.get("evaluated")

    @cached_property
    def training_counts(self) -> tuple[Int64, Int64] | None:
        """Training photos that have each value, and on which it is known, both (L,); None where nobody says."""
        if self.evaluated is None:
            train = self.rows("train")
            true, known = known_cells(self.Y[train], self.mask[train], self.schema)
            return true.sum(axis=0), known.sum(axis=0)
        counts = self.evaluated.get("training")
        return None if counts is None else (np.array(counts["positives"]), np.array(counts["known"]))

    def settings(self, config_id: str) -> Row:
        """What a configuration is made of: its row of configs.csv, and what the whole run was made with.

        One that takes some of several kinds of vectors alone has the backbone of those.
        """
        row = self.configs.get(config_id, {})
        return {**self.facts, **_of_backbones(self._taken(row.get("vectors", ""))), **row}

    def _taken(self, vectors: str) -> Sequence[Origin]:
        """The backbones that a cell `vectors` of configs.csv names: `2`, `1+2`, or all, as `joined` says."""
        numbers = vectors.split("+")
        at = [int(n) - 1 for n in numbers if n.isdecimal() and n.isascii() and len(n) < 4]
        known = len(at) == len(numbers) and all(0 <= i < len(self.origins) for i in at)
        return [self.origins[i] for i in at] if known else self.origins

    @cached_property
    def facts(self) -> Row:
        """What every configuration of the run shares and another run may have otherwise."""
        fit = (self.info.get("options") or {}).get("fit") or {}
        return {
            "run": self.name,
            **_of_backbones(self.origins),
            "views": "+".join(str(view) for view in self.info.get("views") or ()),
            "na": str(fit.get("na", "")),
            "calibrate": str(fit.get("calibrate", "")),
        }

    @cached_property
    def predicted(self) -> tuple[str, ...]:
        """Configurations whose probabilities and thresholds are both there, in the order of decisions.json."""
        return tuple(config for config in self.decisions if self._predictions(config).is_file())

    def probabilities(self, config_id: str, part: str) -> Float32:
        """P (rows of the part, L) of one configuration; RunError unless every photo of the part has its row."""
        return self._read(self._predictions(config_id), part)

    def uncalibrated(self, config_id: str) -> Float32 | None:
        """P (test rows, L) before calibration; None when the run did not keep it (it does for its best)."""
        path = self.path / "predictions" / "uncalibrated" / f"{config_id}.parquet"
        return self._read(path, "test") if path.is_file() else None

    def _read(self, path: Path, part: str) -> Float32:
        return read_probabilities(path, self.schema, self._rows, part)

    def thresholds(self, config_id: str, policy: str | None = None) -> Float64:
        """Stored thresholds (L,) of a configuration under a policy (default: the one chosen on validation)."""
        entry = self.decisions[config_id]
        return np.asarray(entry["policies"][policy or entry["chosen"]]["thresholds"], np.float64)

    @property
    def choose(self) -> str:
        """What the run chose by, of `goals.MEANINGS`; runs from before there was a choice say nothing of it.

        Raises:
            RunError: run.json says something else.
        """
        fit = (self.info.get("options") or {}).get("fit") or {}
        choose = str((fit.get("choose") if isinstance(fit, Mapping) else None) or goals.BALANCED)
        if choose not in goals.MEANINGS:
            known = ", ".join(goals.MEANINGS)
            raise RunError(f"{self.path / FILES[0]}: options.fit.choose is {choose[:80]!r}; expected one of {known}")
        return choose

    def score(self, config_id: str, choose: str | None = None) -> float | None:
        """Validation score of a configuration under its chosen policy; None when the run does not say.

        Args:
            config_id: Of the run.
            choose: What the score is, of `goals.MEANINGS` (default: what the run chose by).
        """
        if choose not in (None, self.choose):
            return number(self.configs.get(config_id, {}).get(f"validation_{goals.FIGURES.get(choose, choose)}"))
        entry = self.decisions.get(config_id)
        if entry is not None:
            score = float(entry["policies"][entry["chosen"]]["validation_score"])
            return None if self.evaluated is not None and math.isnan(score) else score
        return number(self.configs.get(config_id, {}).get("validation_score"))

    def _predictions(self, config_id: str) -> Path:
        return self.path / "predictions" / f"{config_id}.parquet"


def _of_backbones(origins: Sequence[Origin]) -> Row:
    """The facts of one backbone; of several, these joined, what all agree in and every block once."""
    keys = [origin.cache_key for origin in origins]
    return {
        "backbone": " + ".join(str(key.get("architecture", "")) for key in keys),
        "weights": " + ".join(origin.weights_source for origin in origins),
        "size": " + ".join(str(key.get("size", "")) for key in keys),
        "resize": " + ".join(dict.fromkeys(str(key.get("fit", "")) for key in keys)),
        "precision": " + ".join(dict.fromkeys(str(key.get("precision", "")) for key in keys)),
        "use": "+".join(dict.fromkeys(str(block["name"]) for origin in origins for block in origin.blocks)),
    }


def runs_in(paths: Sequence[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """The run folders that these name: themselves, or those that lie in a folder of runs.

    Args:
        paths: Run folders, and folders of run folders.

    Returns:
        The run folders, each once, and a sentence per folder of runs that says which were taken of it.

    Raises:
        RunError: A folder holds no run.
    """
    found: dict[Path, None] = {}
    sentences = []
    for path in paths:
        inside = [] if _is_run(path) or not path.is_dir() else sorted(each for each in path.iterdir() if each.is_dir())
        runs = [each for each in inside if (each / FILES[0]).is_file()]
        if inside and runs:
            others = [each.name for each in inside if each not in runs]
            without = f"; no finished run: {', '.join(others)}" if others else ""
            sentences.append(f"{path} is a folder of runs; in it: {', '.join(run.name for run in runs)}{without}")
        elif path.is_dir() and not _is_run(path):
            raise RunError(
                f"{path} is no run folder, and holds none: it has no {FILES[0]}; name folders that fit-heads wrote, or"
                " one that they lie in"
            )
        found |= dict.fromkeys(runs or [path])
    return list(found), tuple(sentences)


def _is_run(path: Path) -> bool:
    """Whether it is a run folder, whole or not."""
    return any((path / name).is_file() for name in FILES)


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
    _require_inside(path)
    info, schema = read_run_info(path / "run.json")
    try:
        split = read_split(path)
    except CatalogueError as error:
        raise RunError(str(error)) from error
    only_in_test = tuple((attribute, value) for attribute, value in info.get("unseen") or ())
    Y, mask = read_truth(path / "labels.parquet", (*schema.labels, *only_in_test), split.photos)
    for name, columns in (("dropped.csv", FINDING), ("neighbours.csv", ())):
        read_rows(path / name, columns)
    return Run(
        path,
        info,
        schema,
        tuple(split.photos),
        np.array(split.parts, str),
        np.array(split.groups, np.int64),
        Y[:, : schema.size],
        mask[:, : schema.size],
        Unseen(only_in_test, (mask & (Y > 0))[:, schema.size :]),
        _configs(path / "configs.csv"),
        read_rows(path / "history.csv"),
        read_decisions(path / "decisions.json", schema),
        tuple(split.contents),
    )


def _require_inside(path: Path) -> None:
    """RunError when a link in the folder leads out of it: what is read may end on a page that is passed on.

    Models alone may lie elsewhere; they are not read.
    """
    home = path.resolve()
    places = [path / name for name in (*READ, "predictions", "thumbnails")]
    for entry in (entry for place in places for entry in (place, *place.rglob("*"))):
        if not entry.is_symlink():
            continue
        # Not `resolve`, which knows no answer for a link that leads to itself.
        target = Path(os.path.realpath(entry))
        if target.is_symlink():
            raise RunError(f"{entry} is a link that leads in a circle; put the file itself there")
        if not target.is_relative_to(home):
            raise RunError(
                f"{entry} is a link that leads out of the run folder, to {target}; put the file itself there"
            )


def _configs(path: Path) -> dict[str, Row]:
    """configs.csv by configuration."""
    configs: dict[str, Row] = {}
    for row in read_rows(path, ("config_id",)):
        check_config_id(path, row["config_id"])
        if row["config_id"] in configs:
            raise RunError(f"{path} has two rows of {row['config_id']}")
        configs[row["config_id"]] = row
    return configs


def number(text: str | None) -> float | None:
    """The number a CSV cell holds; None for an empty cell, a word, or what is not finite."""
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return None if value is None or not math.isfinite(value) else value
