"""A run folder: what one `fit-heads` call leaves for `compare` and for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import Bool, Float32, UInt8
from pipeline.errors import RunError
from pipeline.names import BEGUN
from pipeline.system import file_digest, write_json, write_records


@dataclass(frozen=True)
class RunFolder:
    """Writes the files of one run; `run.json` comes last, so a folder that has it is complete."""

    path: Path

    @classmethod
    def new(cls, path: Path) -> RunFolder:
        """A run folder to be.

        Raises:
            RunError: The folder already holds more than a reproduction's mark.
        """
        if path.exists() and (not path.is_dir() or any(each.name != BEGUN for each in path.iterdir())):
            raise RunError(f"{path} already exists and is not empty; name another folder with --out, or remove it")
        return cls(path)

    def create(self) -> None:
        """Make the folders."""
        for sub in ("predictions/uncalibrated", "models"):
            (self.path / sub).mkdir(parents=True, exist_ok=True)

    def digest(self, name: str) -> str:
        """SHA-256 (hex) of one of the folder's files."""
        return file_digest(self.path / name)

    def write_labels(self, photos: Sequence[str], columns: Sequence[str], targets: tuple[UInt8, Bool]) -> None:
        """Write labels.parquet: photo, then 1, 0 or null per `<attribute>=<value>`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        Y, mask = targets
        arrays = [pa.array(photos, pa.string())]
        arrays += [pa.array(Y[:, j].astype(np.int8), pa.int8(), mask=~mask[:, j]) for j in range(len(columns))]
        pq.write_table(pa.table(arrays, names=["photo", *columns]), self.path / "labels.parquet")

    def write_predictions(
        self, config_id: str, rows: tuple[Sequence[str], Sequence[str]], P: Float32, columns: Sequence[str]
    ) -> None:
        """Write predictions/<config_id>.parquet; rows are (photos, parts), P is (n, L)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        photos, parts = rows
        arrays = [pa.array(photos, pa.string()), pa.array(parts, pa.string())]
        arrays += [pa.array(np.ascontiguousarray(P[:, j]), pa.float32()) for j in range(P.shape[1])]
        names = ["photo", "part", *(f"p:{c}" for c in columns)]
        pq.write_table(pa.table(arrays, names=names), self.path / "predictions" / f"{config_id}.parquet")

    def write_csv(self, name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
        """Write one table of records as <name>."""
        write_records(self.path / name, rows, columns)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write <name> in one step."""
        write_json(self.path / name, content)

    def model_path(self, config_id: str) -> Path:
        """Where the model file of a configuration goes."""
        return self.path / "models" / f"{config_id}.joblib"
