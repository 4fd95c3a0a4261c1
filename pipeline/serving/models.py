"""The models that are served, by their names: read, built and tried before the first request can ask for one."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import BackboneError, ModelFileError, OptionError, nearest
from pipeline.features.batch import Reject
from pipeline.machine import choose_device
from pipeline.model.feature_source import FeatureSource, VectorBatch, grouped
from pipeline.model.file import read_model
from pipeline.model.folder.read import sealing_file
from pipeline.model.predictor import Predictor, sound_rows
from pipeline.options import PredictOptions, ServeOptions
from pipeline.system import file_digest, parsed

if TYPE_CHECKING:
    from pipeline.features.batch import Decoded

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BATCH = {"cpu": 1, "cuda": 64}
"""Photos per forward pass, which takes as long for one as for all: on a CPU, several passes are as fast."""


@dataclass(frozen=True, eq=False)
class ServedModel:
    """One model that requests can ask for.

    Attributes:
        name: What they call it.
        path: Its file or folder.
        digest: SHA-256 of the file that was read; of a folder, of its `model.json`, which has those of the others.
        predictor: Its heads, thresholds and labels.
        source: What gives it and the models of the same backbones their vectors.
        at: Its position among the models of `source`.
    """

    name: str
    path: Path
    digest: str
    predictor: Predictor
    source: FeatureSource
    at: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user of its predictions should know."""
        return tuple(dict.fromkeys((*self.predictor.notes, *self.source.notes)))

    def outcomes(self, vectors: VectorBatch) -> tuple[Mapping[int, Exception], Mapping[int, Any]]:
        """(errors, probabilities float32 (L,)) by the positions of a batch's photos."""
        errors, (at, _, P) = sound_rows(self.predictor, vectors, self.at)
        return errors, dict(zip(at.tolist(), P, strict=True))


@dataclass(frozen=True)
class Shelf:
    """Models by name; the first is the default. Replaced as a whole, so that a request sees one state of it."""

    models: Mapping[str, ServedModel]

    def named(self, name: str | None) -> ServedModel | None:
        """The model of that name, the first without one; None where there is none."""
        return next(iter(self.models.values())) if name is None else self.models.get(name)

    def likeliest(self, name: str) -> str:
        """The name that looks most like this one, "" where none does."""
        return nearest(name, self.models)

    @property
    def streams(self) -> int:
        """Forward passes that can run at once to good effect."""
        return max(each.runtime.streams for model in self.models.values() for each in model.source.embedder.passes)


def read_shelf(options: ServeOptions) -> Shelf:
    """Read the model files, build their backbones and try each on a photo.

    Raises:
        OptionError: No model is named, or two have one name, or digests and files do not go together.
        ModelFileError, BackboneError: A model or its backbone cannot be had.
    """
    named, asked = named_files(options.model), _predict_options(options)
    if options.sha256 and len(options.sha256) != len(named):
        raise OptionError(f"--sha256 has {len(options.sha256)} digests, --model {len(named)} files; give one for each")
    trusted = options.sha256 or [_digest(path) for path in named.values()]
    digests = dict(zip(named, trusted, strict=True))
    # Held against the digest that is told of it, so that both are of one file though it may be replaced meanwhile.
    models = {name: read_model(path, digests[name]) for name, path in named.items()}
    served: dict[str, ServedModel] = {}
    names = list(models)
    for positions, source in grouped(list(models.values()), asked):
        for at, name in enumerate(names[i] for i in positions):
            predictor = Predictor(models[name], asked)
            served[name] = ServedModel(name, named[name], digests[name] or "", predictor, source, at)
    for model in served.values():
        _try(model)
    return Shelf({name: served[name] for name in names})


def named_files(given: Sequence[str]) -> dict[str, Path]:
    """Name to file of what `--model` says: FILE, or NAME=FILE.

    Raises:
        OptionError: No file is named, or two have one name, or a name cannot be one.
    """
    if not given:
        raise OptionError("no model to serve: name a model file with --model, such as runs/first/models/best.joblib")
    files: dict[str, Path] = {}
    for name, path in map(_named, given):
        if not _NAME.fullmatch(name):
            raise OptionError(
                f"--model: {name!r} cannot be a name; expected up to 64 of A-Z a-z 0-9 . _ -, as NAME=FILE"
            )
        if name in files:
            raise OptionError(
                f"--model: {files[name]} and {path} are both called {name}; name one of them, as NAME=FILE"
            )
        files[name] = path
    return files


def _named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if equals and "/" not in name and not Path(text).exists():
        return name, Path(path)
    return Path(text).stem, Path(text)


def _digest(path: Path) -> str | None:
    """SHA-256 that stands for a model; None where there is no file, of which its reader says what is there."""
    file = sealing_file(path)
    if not file.is_file():
        return None
    with parsed(ModelFileError, f"{file} cannot be read (", ")"):
        return file_digest(file)


def _predict_options(options: ServeOptions) -> PredictOptions:
    batch_size = options.batch_size or _BATCH[choose_device(options.device)]
    return PredictOptions(
        weights=options.weights,
        threshold=options.threshold,
        device=options.device,
        runtime=options.runtime,
        batch_size=batch_size,
        workers=options.workers,
    )


def _try(model: ServedModel) -> None:
    """Send a photo the whole way, so that whatever cannot be had is missed now."""
    photo = model.source.embedder.decode(_photo())
    if isinstance(photo, Reject):
        raise BackboneError(f"{model.path}: a plain photo cannot be decoded here: {photo.reason}")
    errors, _ = model.outcomes(model.source.vectors_of([replace(photo, index=0)]))
    for error in errors.values():
        raise BackboneError(f"{model.path}: the trial of {model.name} on a plain photo failed: {error}")


def _photo() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "JPEG")
    return file.getvalue()


def in_batches(photos: Sequence[tuple[ServedModel, Decoded]]) -> Iterator[tuple[ServedModel, list[int], VectorBatch]]:
    """Per model its photos' positions and their vectors, out of one pass over photos of models that share a source.

    Raises:
        BackboneError: the GPU's memory does not hold even one photo.
    """
    source = photos[0][0].source
    vectors = source.vectors_of([replace(photo, index=i) for i, (_, photo) in enumerate(photos)])
    for model in dict.fromkeys(model for model, _ in photos):
        rows = [i for i, (other, _) in enumerate(photos) if other is model]
        yield model, rows, VectorBatch(vectors.indices[rows], tuple(X[:, rows] for X in vectors.X))
