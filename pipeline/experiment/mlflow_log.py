"""Optional: a run folder's configurations as runs of a local MLflow store, for those who browse their fits there.

One MLflow run per configuration: what was asked for as parameters, validation figures and every epoch as metrics,
config_id and run folder as tags. The store is MLflow's folder of plain files, which `mlflow-skinny` alone can write;
its SQLite store would need SQLAlchemy and Alembic besides. Nothing is sent anywhere: MLflow's telemetry is turned off.
"""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import OptionError
from pipeline.experiment.run_tables import read_rows

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "selvedge"
TAGS = ("config_id", "policy", "note")
FIGURES = ("best_epoch", "seconds", "not_learnable")
"""Columns of configs.csv that are outcomes, beside validation_...; the other columns are parameters."""

_MOST = 1000  # metrics that MLflow takes in one call

_SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}


@dataclass(frozen=True)
class MlflowStore:
    """An open store; `folder` is where `mlflow ui --backend-store-uri` finds it."""

    folder: Path
    client: MlflowClient
    experiment: str

    @classmethod
    def open(cls, folder: Path) -> MlflowStore:
        """The store in `folder`, made when it is not there.

        Raises:
            OptionError: MLflow is not installed, or cannot use the folder.
        """
        # MLflow 3 refuses its file store unless told to; telemetry starts with the import.
        os.environ.update(_SETTINGS)
        try:
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise OptionError(
                f"--mlflow needs a package that is not installed ({error}): pip install mlflow-skinny, or leave it out"
            ) from error
        try:
            client = MlflowClient(tracking_uri=folder.absolute().as_uri())
            earlier = client.get_experiment_by_name(EXPERIMENT)
            experiment = client.create_experiment(EXPERIMENT) if earlier is None else earlier.experiment_id
        except MlflowException as error:
            raise OptionError(f"--mlflow {folder} cannot be used as an MLflow store: {error}") from error
        return cls(folder, client, experiment)

    def log(self, run: Path) -> int:
        """Log every configuration of a run folder; returns how many there were."""
        configs, epochs = read_rows(run / "configs.csv"), defaultdict(list)
        for row in read_rows(run / "history.csv"):
            epochs[row["config_id"]].append(row)
        for row in configs:
            self._log_one(run, row, epochs[row["config_id"]])
        return len(configs)

    def _log_one(self, run: Path, row: Mapping[str, str], epochs: list[dict[str, str]]) -> None:
        from mlflow.entities import Metric, Param

        now = int(1000 * time.time())
        tags = {"run_folder": str(run), **{name: row[name] for name in TAGS if row.get(name)}}
        made = self.client.create_run(self.experiment, tags=tags, run_name=row["config_id"]).info.run_id
        figures = {name: value for name, value in row.items() if name in FIGURES or name.startswith("validation_")}
        asked = [Param(n, v) for n, v in row.items() if v and n not in figures and n not in TAGS]
        steps = [(name, value, 0) for name, value in figures.items()]
        steps += [
            (f"{epoch['split']}_{name}_per_epoch", value, int(epoch["epoch"]))
            for epoch in epochs
            for name, value in epoch.items()
            if name not in ("config_id", "epoch", "split")
        ]
        metrics = [Metric(n, float(v), now, step) for n, v, step in steps if v and math.isfinite(float(v))]
        self.client.log_batch(made, params=asked)
        for start in range(0, len(metrics), _MOST):
            self.client.log_batch(made, metrics=metrics[start : start + _MOST])
        self.client.set_terminated(made)
