"""Models as folders: one file of it changed, as damage would or, its digests made to fit, as somebody would."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path

import numpy as np

from benchmarks.fuzzing.mutations import put, reshaped
from benchmarks.fuzzing.reader import Reader
from pipeline.errors import ModelFileError

_PLACES = {"model": "model.json", "weights": "weights.safetensors", "trees": "trees/0-0.txt"}


class FolderReader(Reader):
    """What is accepted of a changed file decides as what was written does, unless its digests were made to fit."""

    name = "folder"
    errors = (ModelFileError,)
    seconds = 10.0

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        from pipeline.model.file import read_model
        from pipeline.model.folder.write import write_parts
        from tests.exchange.models import model_of

        self._sound, self._model = home / "sound", model_of("lightgbm")
        self._sound.mkdir()
        write_parts(self._model, self._sound)
        for kind, place in _PLACES.items():
            data = (self._sound / place).read_bytes()
            self.samples |= {f"{kind}{Path(place).suffix}": data, f"sealed@{kind}{Path(place).suffix}": data}
        self._X = np.random.default_rng(0).normal(size=(20, 96)).astype(np.float32)
        self._right = self._answer(read_model(self._sound))

    def made(self, sample: str, rng: random.Random) -> bytes | None:
        """Another value, type or name anywhere in the JSON."""
        if sample != "sealed@model.json":
            return None
        try:
            return json.dumps(reshaped(json.loads(self.samples[sample]), rng)).encode()
        except (TypeError, ValueError):
            return None

    def read(self, sample: str, data: bytes) -> str:
        from pipeline.model.file import read_model

        folder, kind = self.home / "changed", Path(sample).stem.removeprefix("sealed@")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._sound, folder)
        (folder / _PLACES[kind]).unlink()
        put(folder / _PLACES[kind], data)
        if sample.startswith("sealed@") and (folder / _PLACES[kind]).is_file():
            _seal(folder)
            read_model(folder)
            return ""
        right = self._answer(read_model(folder)) == self._right
        return "" if right else "other probabilities, decisions or labels were accepted"

    def _answer(self, model: dict[str, object]) -> object:
        from pipeline.model.file import decisions, proba

        P = proba(model, self._X)
        return P.tobytes(), decisions(model, P).tobytes(), model["labels"]


def _seal(folder: Path) -> None:
    """Make the digests fit, as far as the files are still such."""
    from safetensors.numpy import load, save

    from pipeline.model.folder.read import SEAL, seal_of

    try:
        said = json.loads((folder / "model.json").read_bytes())
        weights = folder / "weights.safetensors"
        try:
            weights.write_bytes(save(load(weights.read_bytes()) | {SEAL: np.frombuffer(seal_of(said), np.uint8)}))
        finally:
            said["files"] |= {
                name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
                for name in said["files"]
                if (folder / name).is_file()
            }
            (folder / "model.json").write_text(json.dumps(said))
    except Exception:  # noqa: BLE001 - what is no folder of a model any more stays as it is
        return
