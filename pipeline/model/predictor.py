"""A model file with the backbone it needs, for programs: photos in whatever form they come, values out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.arrays import Bool, Float, Float32, Float64, Int64
from pipeline.catalogue.labels import LabelSchema
from pipeline.errors import BadImage, OptionError
from pipeline.evaluation.thresholds import without_rows_to_tune_on
from pipeline.model.feature_source import Cached, FeatureSource, VectorBatch
from pipeline.model.file import Model, decisions, proba, read_model, schema_of
from pipeline.model.folder.read import sealing_file
from pipeline.model.photos import found_sources, listed, named_source
from pipeline.model.prediction import Prediction, decided_values, prediction_frame
from pipeline.options import PredictOptions

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.features.sources import Source

Values = dict[str, str | list[str] | None]
Chances = dict[str, dict[str, float]]
Errors = Literal["raise", "return"]
Progress = Callable[[int, int], None]
"""Called with (photos done, photos in all)."""

NOT_FINITE = "the network's output for it is not finite"
"""Why a photo is rejected whose features or probabilities are not numbers: any value for it would be made up."""


@dataclass(frozen=True)
class Predicted:
    """Probabilities (n, L) and decisions (n, L) of photos, both 0 for rejected ones; what became of those.

    Attributes:
        rejects: Position to the error.
        cached: Photos whose vectors came out of the cache.
    """

    P: Float32
    D: Bool
    rejects: Mapping[int, BadImage]
    cached: int = 0


class Predictor:
    """A model and its backbone, both read and built once; any number of threads may use one object at once.

    A photo is a path, a URL (http, https or file), the bytes of a file, an open binary file, an image of Pillow, or a
    uint8 array, (h, w, 3) of RGB or (h, w) of grey. Methods take one photo or several, and give one entry per photo, in
    their order; a URL is fetched only when it is given here as a photo. Files, bytes and open files of one photo give
    the same numbers as the command `predict`. Images and arrays are taken at their full size, where a JPEG much larger
    than the network's input is decoded at a fraction of it, so their numbers may differ from its file's in the third
    decimal.

    Each call decodes in threads of its own; the forward passes of all calls share the one runtime, as many at a time as
    it has streams (OpenVINO one per core, PyTorch on a CPU one). Beyond what is returned, a call holds a few batches of
    photos, however many it is given. Every forward pass is of `batch_size` photos, padded where there are fewer, so
    that a photo's numbers do not depend on those beside it; where photos come one at a time, `batch_size=1` is fastest.

    Args:
        model: A model file, the folder of one that `export` wrote, or a dict that `pipeline.model.file.read_model` has
            read and checked.
        options: Weights (if the recorded source is not to be had), threshold, device, runtime, batch size, workers.

    Raises:
        ModelFileError: For a file that is damaged or not a model.
        OptionError: For a threshold that cannot be.
    """

    def __init__(self, model: Model | str | os.PathLike[str], options: PredictOptions | None = None) -> None:
        self.options = options or PredictOptions()
        if isinstance(model, str | os.PathLike):
            model = read_model(Path(model), self.options.sha256)
        self.model: Model = {**model, "thresholds": _thresholds(model, self.options.threshold)}
        self.feature_source = FeatureSource([self.model], self.options)

    @cached_property
    def schema(self) -> LabelSchema:
        """Attributes and values it predicts."""
        return schema_of(self.model)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user of the predictions so far should know about the model and the backbone."""
        info = self.model.get("info") or {}
        measured, photos = info.get("measured"), info.get("photos")
        # Files of earlier versions name the parts of the split, and no numbers.
        fitted_on = info.get("fitted_on") if photos is None else f"all {photos} photos"
        of_fit = () if measured is None else (f"fit on {fitted_on}; measured {measured}",)
        return (*of_fit, *self.feature_source.notes)

    def predict(self, photos: Any, errors: Errors = "raise") -> list[Values | BadImage]:
        """The decided values of photos.

        Args:
            photos: One photo or several.
            errors: Of a photo that cannot be taken: "raise" its error, or "return" it in its place.

        Returns:
            Per photo {attribute: value}; a list of values for an attribute that may have several, None where nothing is
            decided: what `predict --layout columns` writes as JSON lines.

        Raises:
            BadImage: With errors="raise", naming the first photo that cannot be taken (`TooCostly` and `NotFetched` are
                kinds of it).
            BackboneError, ModelFileError: The backbone cannot be had, or is not the one the model was fitted on.
            TypeError: Something is no photo.
        """
        found = self.predicted(*self._named(photos), errors=errors)
        values = decided_values(found.D, self.schema)
        return [found.rejects.get(i, each) for i, each in enumerate(values)]

    def predict_proba(self, photos: Any, errors: Errors = "raise") -> list[Chances | BadImage]:
        """The probability of every value of photos.

        Args:
            photos: One photo or several.
            errors: As for `predict`.

        Returns:
            Per photo {attribute: {value: probability}}. Those of an attribute that is decided among its values add up
            to 1 only where the model's link for it is softmax.

        Raises:
            BadImage, BackboneError, ModelFileError, TypeError: As `predict` does.
        """
        found = self.predicted(*self._named(photos), errors=errors)
        schema = self.schema
        columns = list(zip(schema.attributes, schema.values, schema.slices, strict=True))
        return [
            found.rejects.get(i)
            or {attribute: dict(zip(values, p[at].tolist(), strict=True)) for attribute, values, at in columns}
            for i, p in enumerate(found.P)
        ]

    def features(self, photos: Any, errors: Errors = "raise") -> Float32:
        """The vectors that the model takes, as `cache export --model` writes them.

        Args:
            photos: One photo or several.
            errors: As for `predict`; the row of a photo that cannot be taken is NaN with "return".

        Returns:
            float32 (n, d): the model's blocks side by side; of a model with v views (n, v d), one view after the other.

        Raises:
            BadImage, BackboneError, ModelFileError, TypeError: As `predict` does.
        """
        names, sources = self._named(photos)
        views, width = len(self.model["views"]), sum(block["dim"] for block in self.model["blocks"])
        rows = np.full((len(sources), views * width), np.nan, np.float32)
        for _, (at, X, _) in self._batches((names, sources, None), errors, {}):
            rows[at] = X.transpose(1, 0, 2).reshape(len(at), views * width)
        return rows

    def probabilities(self, X: Float) -> Float32:
        """Probabilities (n, L) of features (n, d), or of (V, n, d) views, averaged."""
        views = [X] if X.ndim == 2 else list(X)
        mean: Float32 = np.mean([proba(self.model, view) for view in views], axis=0, dtype=np.float32)
        return mean

    def predicted(
        self,
        names: Sequence[str],
        sources: Sequence[Source],
        errors: Errors = "return",
        progress: Progress | None = None,
        cached: Cached | None = None,
    ) -> Predicted:
        """Probabilities and decisions of photos; raises as `predict` does.

        Args:
            names: What an error calls each photo.
            sources: The photos.
            errors: As for `predict`.
            progress: Called after each batch.
            cached: A cache, and the content ids of the photos, whose vectors are taken from it where it has them.
        """
        P = np.zeros((len(sources), len(self.model["labels"])), np.float32)
        rejects: dict[int, BadImage] = {}
        done = from_cache = 0
        for batch, (indices, _, made) in self._batches((names, sources, cached), errors, rejects):
            P[indices] = made
            done += len(batch.indices) + len(batch.rejects)
            from_cache += len(batch.indices) if batch.cached else 0
            if progress is not None:
                progress(done, len(sources))
        D = decisions(self.model, P)
        D[list(rejects)] = False
        return Predicted(P, D, dict(sorted(rejects.items())), from_cache)

    def _batches(
        self,
        photos: tuple[Sequence[str], Sequence[Source], Cached | None],
        errors: Errors,
        rejects: dict[int, BadImage],
    ) -> Iterator[tuple[VectorBatch, tuple[Int64, Float32, Float32]]]:
        """Per batch the positions, features (V, b, d) and probabilities (b, L) of the photos that can be taken."""
        if errors not in ("raise", "return"):
            raise OptionError(f"errors is {errors!r}; it can be raise or return")
        names, sources, cached = photos
        with contextlib.closing(self.feature_source.vectors(sources, cached)) as batches:
            for batch in batches:
                found, kept = sound_rows(self, batch)
                if found and errors == "raise":
                    first = min(found)
                    raise type(found[first])(f"{names[first]}: {found[first]}")
                rejects |= found
                yield batch, kept

    def _named(self, photos: Any) -> tuple[list[str], list[Source]]:
        named = [named_source(photo, i) for i, photo in enumerate(listed(photos))]
        return [name for name, _ in named], [source for _, source in named]


@dataclass(frozen=True)
class LoadedModel:
    """A model file, ready to make tables of photos; the backbone is built once, on first use.

    Attributes:
        predictor: What it predicts with; it has single photos, probabilities and vectors too.
    """

    predictor: Predictor

    def predict(self, photos: Any) -> pd.DataFrame:
        """One row per photo: filename, then a column per attribute, `#N/A` where unknown.

        A photo that cannot be taken is a row of `#N/A`; `predict_photos` also says why.

        Args:
            photos: One or several of what `Predictor` takes; paths may also be folders and patterns.
        """
        return self.predict_photos(photos).frame

    def predict_photos(self, photos: Any, progress: Progress | None = None) -> Prediction:
        """As `predict`, with the rejected photos, their reasons, and notes."""
        names, sources = found_sources(photos)
        return prediction(self.predictor, names, self.predictor.predicted(names, sources, progress=progress))


def load_model(
    path: str | os.PathLike[str], weights: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None
) -> LoadedModel:
    """Read a model file, ready to predict.

    The last one stays in memory: a call for the same files gives the same object, with its backbone as it was built.

    Args:
        path: The model file, or the folder of one that `export` wrote.
        weights: A copy of the backbone's weights (of several, one for each) where the recorded source is not to be had.

    Raises:
        ModelFileError: For a file that is damaged or not a model.
    """
    given = [weights] if isinstance(weights, str | os.PathLike) else weights or ()
    copies = tuple(map(Path, given))
    # A folder's time says nothing of the files in it; its `model.json` has the digests of the others.
    return _loaded(Path(path), copies, tuple(map(_state, (sealing_file(Path(path)), *copies))))


@lru_cache(maxsize=1)
def _loaded(path: Path, weights: tuple[Path, ...], states: tuple[object, ...]) -> LoadedModel:
    return LoadedModel(Predictor(path, PredictOptions(weights=weights)))


def _state(path: Path) -> tuple[object, ...]:
    """What differs once a file is another one; nothing for one that is not there, which its reader will say."""
    with contextlib.suppress(OSError):
        found = path.stat()
        return path.absolute(), found.st_ino, found.st_size, found.st_mtime_ns
    return ()


def prediction(predictor: Predictor, names: Sequence[str], found: Predicted) -> Prediction:
    """The table of predicted photos with these names."""
    frame = prediction_frame(names, found.P, found.D, predictor.schema, predictor.options.probabilities)
    rejects = tuple((names[i], str(why)) for i, why in found.rejects.items())
    return Prediction(frame, rejects, predictor.notes, found.cached)


def sound_rows(
    predictor: Predictor, batch: VectorBatch, model: int = 0
) -> tuple[dict[int, BadImage], tuple[Int64, Float32, Float32]]:
    """The errors of a batch by position, and (positions, X, P) of the rows that are numbers throughout.

    Args:
        model: Which of the batch's models the predictor is of.
    """
    rejects = {reject.index: reject.kind(reject.reason) for reject in batch.rejects}
    X = batch.X[model]
    if not X.shape[1]:
        return rejects, (batch.indices, X, np.zeros((0, predictor.schema.size), np.float32))
    with np.errstate(invalid="ignore", over="ignore"):
        P = predictor.probabilities(X)
    finite = np.isfinite(X).all(axis=(0, 2)) & np.isfinite(P).all(axis=1)
    rejects |= {int(index): BadImage(NOT_FINITE) for index in batch.indices[~finite]}
    return rejects, (batch.indices[finite], X[:, finite], P[finite])


def _thresholds(model: Mapping[str, Any], override: str | None) -> Float64:
    if override is None:
        return np.asarray(model["thresholds"], np.float64)
    return without_rows_to_tune_on(override, schema_of(model))
