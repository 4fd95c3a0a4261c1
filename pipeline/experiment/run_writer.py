"""A run folder: what one `fit-heads` call leaves for `compare` and for people."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import RunError
from pipeline.names import BEGUN
from pipeline.system import file_digest, only_writer, write_json, write_records

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]


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
        folder = cls(path)
        folder._require_empty()
        return folder

    def _require_empty(self) -> None:
        path = self.path
        if path.exists() and (not path.is_dir() or any(each.name != BEGUN for each in path.iterdir())):
            raise RunError(f"{path} already exists and is not empty; name another folder with --out, or remove it")

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder and hold it for this process alone; what a failed block has written into it goes.

        Raises:
            RunError: Another process writes there, or has.
        """
        is_new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        with only_writer(self.path, RunError):
            self._require_empty()
            try:
                yield
            except BaseException:
                self._remove(is_new)
                raise

    def _remove(self, is_new: bool) -> None:
        for entry in [entry for entry in self.path.iterdir() if entry.name != BEGUN]:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        if is_new:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def create(self) -> None:
        """Make the folders."""
        for sub in ("predictions/uncalibrated", "models"):
            (self.path / sub).mkdir(parents=True, exist_ok=True)

    def digest(self, name: str) -> str:
        """SHA-256 (hex) of one of the folder's files."""
        return file_digest(self.path / name)

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
        write_records(self.path / name, rows, columns)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write <name> in one step."""
        write_json(self.path / name, content)

    def model_path(self, config_id: str) -> Path:
        """Where the model file of a configuration goes."""
        return self.path / "models" / f"{config_id}.joblib"
