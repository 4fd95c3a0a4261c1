"""The stage that uses a model file: photos in, a table of values out.

The backbone is built again from what the model file says about its features, and every field of its key is compared
before a single photo is read: vectors of another network, size or fit would give confident nonsense.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.arrays import Bool, Float, Float32, Float64
from pipeline.catalogue.labels import LabelSchema
from pipeline.catalogue.reading.photos import is_photo
from pipeline.errors import BackboneError, ModelFileError, OptionError
from pipeline.evaluation.thresholds import default_thresholds
from pipeline.model.file import Model, decisions, proba, read_model, schema_of
from pipeline.model.prediction import Prediction, as_dicts, prediction_frame, write_predictions
from pipeline.options import BackboneOptions, PredictOptions

if TYPE_CHECKING:
    import pandas as pd

    from cache import BaseKey
    from pipeline.features.backbone.network import Backbone

__all__ = ["Prediction", "Predictor", "load_model", "predict", "write_predictions"]

Progress = Callable[[int, int], None]
"""Called with (photos done, photos in all)."""

NOT_FINITE = "the network's output for it is not finite"
"""Why a photo is rejected whose features or probabilities are not numbers: any value for it would be made up."""

TOLERATED = ("precision",)
"""Fields of the key that may differ with no more than a note: the class of arithmetic."""


class Predictor:
    """A model file with the backbone it needs; the backbone is built on first use.

    Attributes:
        model: The checked dict of `pipeline.model.file.read_model`.
        options: Weights (if the recorded source is not to be had), threshold, device, runtime, batch size, workers.
    """

    def __init__(self, model: Model, options: PredictOptions | None = None) -> None:
        self.options = options or PredictOptions()
        self.model: Model = {**model, "thresholds": _thresholds(model, self.options.threshold)}

    @property
    def schema(self) -> LabelSchema:
        """Attributes and values it predicts."""
        return schema_of(self.model)

    def predict(self, photos: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
        """One row per photo (files, folders or patterns): filename, then a column per attribute, `#N/A` where unknown.

        A photo that cannot be read is a row of `#N/A`; `predict_photos` also says why.
        """
        return self.predict_photos(photos).frame

    def predict_photos(
        self, photos: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], progress: Progress | None = None
    ) -> Prediction:
        """As `predict`, with the rejected photos, their reasons, and notes."""
        given = [photos] if isinstance(photos, str | os.PathLike) else list(photos)
        names, paths = find_photos(given)
        P, rejects = self._embed(paths, progress or (lambda done, total: None))
        D = decisions(self.model, P)
        D[[index for index, _ in rejects]] = False
        frame = prediction_frame(names, P, D, self.schema, self.options.probabilities)
        return Prediction(frame, tuple((names[index], reason) for index, reason in rejects), self.notes)

    def predict_proba(self, X: Float) -> Float32:
        """Probabilities (n, L) of features (n, d), or of (V, n, d) views, averaged."""
        views = [X] if X.ndim == 2 else list(X)
        mean: Float32 = np.mean([proba(self.model, view) for view in views], axis=0, dtype=np.float32)
        return mean

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a user of these predictions should know about the backbone."""
        notes = []
        if self.backbone.random:
            notes.append("the backbone has RANDOM weights: these predictions mean nothing")
        if self._precision != self.model["cache_key"].get("precision"):
            notes.append(
                f"fitted on {self.model['cache_key'].get('precision')} vectors, predicted from {self._precision}"
                " ones; probabilities may differ in the third decimal"
            )
        return tuple(notes)

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone of the model's features; ModelFileError names every field in which it is another one."""
        from pipeline.features.backbone.network import base_key, load_backbone

        wanted = self.model["cache_key"]
        source = self.model["weights_source"] if self.options.weights is None else str(self.options.weights)
        try:
            asked = BackboneOptions(wanted["architecture"], source, int(wanted["size"]), wanted["fit"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"the model's cache_key does not name its backbone ({error})") from error
        try:
            backbone = load_backbone(asked)
        except BackboneError as error:
            raise BackboneError(
                f"{error}. The model needs these weights; name a copy of them with --weights"
            ) from error
        check_cache_key(wanted, base_key(backbone))
        self._check_blocks(backbone, base_key(backbone))
        return backbone

    @cached_property
    def _precision(self) -> str:
        from pipeline.system import choose_device

        half = self.model["cache_key"].get("precision") == "half"
        return "half" if half and choose_device(self.options.device) == "cuda" else "fp32"

    def _check_blocks(self, backbone: Backbone, key: BaseKey) -> None:
        """A block's digest covers the key, so it is taken under the precision the model was fitted with."""
        key = replace(key, precision=self.model["cache_key"].get("precision", key.precision))
        blocks = backbone.blocks([block["name"] for block in self.model["blocks"]])
        for block in self.model["blocks"]:
            mine = blocks[block["name"]]
            if (mine.dim, mine.digest(key)) != (block["dim"], block["digest"]):
                raise ModelFileError(
                    f"the model was fitted on another block {block['name']!r}: {block['dim']} numbers, digest"
                    f" {block['digest'][:12]}; this backbone gives {mine.dim}, digest {mine.digest(key)[:12]}"
                )

    def _embed(self, paths: Sequence[str], progress: Progress) -> tuple[Float32, list[tuple[int, str]]]:
        """Probabilities (n, L) of the photos, zeros for rejected ones, and (index, reason) of those."""
        from pipeline.features.embed import EmbedOptions, embed

        asked, views = self.options, tuple(self.model["views"])
        blocks = [block["name"] for block in self.model["blocks"]]
        feeding = EmbedOptions(asked.device, asked.runtime, self._precision, asked.batch_size, asked.workers)
        P = np.zeros((len(paths), len(self.model["labels"])), np.float32)
        rejects: list[tuple[int, str]] = []
        done = 0
        with contextlib.closing(embed(paths, self.backbone, blocks, views, feeding)) as batches:
            for batch in batches:
                rejects += [(reject.index, reject.reason) for reject in batch.rejects]
                if len(batch.indices):
                    X = [np.concatenate([batch.features[name, view] for name in blocks], axis=1) for view in views]
                    made, finite = self._finite(np.stack(X))
                    P[batch.indices[finite]] = made[finite]
                    rejects += [(int(index), NOT_FINITE) for index in batch.indices[~finite]]
                done += len(batch.indices) + len(batch.rejects)
                progress(done, len(paths))
        return P, sorted(rejects)

    def _finite(self, X: Float32) -> tuple[Float32, Bool]:
        """Probabilities (n, L) of features (V, n, d), and (n,): which rows of both are numbers throughout."""
        with np.errstate(invalid="ignore", over="ignore"):
            made = self.predict_proba(X)
        return made, np.logical_and(np.isfinite(X).all(axis=(0, 2)), np.isfinite(made).all(axis=1))


def load_model(path: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None) -> Predictor:
    """Read a model file, ready to predict.

    Args:
        weights: A copy of the backbone's weights, where the source recorded in the model is not to be had.

    Raises:
        ModelFileError: For a file that is damaged or not a model.
    """
    options = PredictOptions(weights=None if weights is None else Path(weights))
    return Predictor(read_model(Path(path)), options)


def predict(
    photos: Sequence[str | os.PathLike[str]], model: Path, options: PredictOptions, progress: Progress | None = None
) -> Prediction:
    """Predict photos with a model file and write the table to `options.out`; returns what was written."""
    if options.out.suffix.lower() not in (".csv", ".jsonl"):
        raise OptionError(f"predictions go to a .csv or .jsonl file, found {options.out.name!r}")
    predictor = Predictor(read_model(model, options.sha256), options)
    prediction = predictor.predict_photos(photos, progress)
    # Catalogues with categories, format B, state their attributes as dicts; so do predictions for them.
    dicts = options.layout == "dict" or (options.layout == "auto" and predictor.schema.category_attribute is not None)
    write_predictions(as_dicts(prediction.frame) if dicts else prediction.frame, options.out)
    return prediction


def check_cache_key(wanted: Mapping[str, Any], found: BaseKey) -> None:
    """Raises ModelFileError naming each field of the model's key that `found` does not share, with both values."""
    have = found.to_json()
    fields = [name for name in {**wanted, **have} if name not in TOLERATED]
    wrong = [
        f"{name}: fitted on {wanted.get(name)!r}, found {have.get(name)!r}"
        for name in fields
        if wanted.get(name) != have.get(name)
    ]
    if wrong:
        raise ModelFileError(f"the model needs vectors of another backbone or transform ({'; '.join(wrong)})")


def find_photos(given: Sequence[str | os.PathLike[str]]) -> tuple[list[str], list[str]]:
    """(names, paths) of the photos that files, folders and patterns stand for, each once, folders in sorted order.

    Names are relative to the folder when one folder is all that is given, else the paths as found.

    Raises:
        OptionError: For something that does not exist and when no photo is found.
    """
    paths: dict[str, None] = {}
    for each in given:
        paths.update(dict.fromkeys(_photos_of(os.fspath(each))))
    if not paths:
        where = ", ".join(os.fspath(each) for each in given) or "nothing"
        raise OptionError(f"no photo found in {where}; name image files, folders or patterns such as 'photos/*.jpg'")
    files = list(paths)
    if len(given) == 1 and Path(given[0]).is_dir():
        return [Path(path).relative_to(given[0]).as_posix() for path in files], files
    return files, files


def _photos_of(name: str) -> list[str]:
    path = Path(name)
    if path.is_dir():
        return sorted(str(file) for file in path.rglob("*") if is_photo(file.name) and file.is_file())
    if path.exists():
        return [name]
    # Path.glob refuses absolute patterns; the plain function takes what a shell would.
    matches = sorted(match for match in glob.glob(name, recursive=True) if Path(match).is_file())  # noqa: PTH207
    if not matches:
        raise OptionError(f"no such photo or folder: {name}")
    return [match for match in matches if is_photo(match)]


def _thresholds(model: Mapping[str, Any], override: str | None) -> Float64:
    if override is None:
        return np.asarray(model["thresholds"], np.float64)
    schema = schema_of(model)
    if override == "best":
        return default_thresholds(schema)
    try:
        limit = float(override)
    except ValueError:
        limit = -1.0
    if not 0.0 <= limit <= 1.0:
        raise OptionError(f"--threshold is {override!r}; it can be best, or one number from 0 to 1 for all values")
    return np.full(schema.size, limit)
