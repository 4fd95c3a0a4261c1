"""A run folder: what one `fit-heads` call leaves for `compare` and for people."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import RunError
from pipeline.options.names import BEGUN
from pipeline.system import write_whole

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RunFolder:
    """Writes the files of one run; `run.json` comes last, so a folder that has it is complete."""

    path: Path

    @classmethod
    def new(cls, path: Path) -> RunFolder:
        """A run folder to be. Raises RunError when the folder already holds more than a reproduction's mark."""
        if path.exists() and (not path.is_dir() or any(each.name != BEGUN for each in path.iterdir())):
            raise RunError(f"{path} already exists and is not empty; name another folder with --out, or remove it")
        return cls(path)

    def create(self) -> None:
        """Make the folders."""
        for sub in ("predictions/uncalibrated", "models"):
            (self.path / sub).mkdir(parents=True, exist_ok=True)

    def digest(self, name: str) -> str:
        """SHA-256 (hex) of one of the folder's files."""
        with (self.path / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def write_labels(
        self, photos: Sequence[str], columns: Sequence[str], targets: tuple[npt.NDArray[np.uint8], Bool]
    ) -> None:
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
        import pandas as pd

        frame = pd.DataFrame(list(rows), columns=None if columns is None else list(columns))
        frame.to_csv(self.path / name, index=False, lineterminator="\n")

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write <name> in one step."""
        text = json.dumps(content, indent=1, ensure_ascii=False, default=_plain)
        write_whole(self.path / name, text + "\n")

    def model_path(self, config_id: str) -> Path:
        """Where the model file of a configuration goes."""
        return self.path / "models" / f"{config_id}.joblib"


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a fit's numbers."""
    names = ("torch", "timm", "numpy", "scikit-learn", "lightgbm", "pandas", "h5py", "joblib", "openvino")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def host_facts() -> dict[str, Any]:
    """Operating system, processor architecture and core count; no host name, so that a run can be shared."""
    return {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()}


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no place in a JSON file")
