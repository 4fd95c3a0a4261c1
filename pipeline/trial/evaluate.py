"""The stage that tries fitted models on labelled photos: it leaves a run folder per model, whose test part they are.

`compare` reads these folders as it reads those of `fit-heads`, so every figure, interval, table and page of an
evaluation is made by the code that makes them for test photos. What an evaluation knows beside them stands in the field
`evaluated` of run.json: the model file, the training photos' counts (the majority baseline), what was left out.

A photo that had a part in one of the models is left out of all: on it a model would be asked what it was told. So is
another photo of its product, where the model's file and the catalogue both name products.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from cache import FeatureCache
from pipeline.arrays import Bool, Ids, Positions
from pipeline.catalogue import Catalogue, Finding, named_products, read_catalogue
from pipeline.errors import OptionError
from pipeline.experiment.run_writer import RunFolder
from pipeline.features.contents.ids import content_ids
from pipeline.features.selection import open_cache
from pipeline.model.feature_source import grouped
from pipeline.model.file import read_model
from pipeline.model.predictor import Predictor, sound_rows
from pipeline.model.training import names_products, product_was_seen, was_seen
from pipeline.options import DataOptions, EvaluateOptions, PredictOptions, grouping
from pipeline.trial.folders import Tried, write_folders

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EvaluateReport:
    """What was evaluated.

    Attributes:
        folders: A run folder per model, in the order of the models.
        photos: Photos that all models were tried on.
        fitted: Photos left out, or with --include-fitted kept, because they or their products had a part in a model.
        cached: Photos whose vectors came out of the cache.
        notes: What a reader of the figures must know.
        findings: What was dropped or odd.
    """

    folders: tuple[Path, ...]
    photos: int
    fitted: int
    cached: int
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]


def evaluate(data: DataOptions, options: EvaluateOptions, progress: Progress | None = None) -> EvaluateReport:
    """Try models on labelled photos and write a run folder for each, which `compare` judges.

    Args:
        data: The labelled photos.
        options: The models, and how.
        progress: Called with (photos done, photos in all).

    Raises:
        OptionError: No model is named, no attribute of one is labelled, or no photo is left.
        ModelFileError, BackboneError, CatalogueError, RunError: A model, its backbone, the catalogue or the folder for
            the figures cannot be had.
    """
    predictors = _predictors(options)
    home = options.out or Path("evaluations") / datetime.now().strftime("%Y%m%d-%H%M%S")
    RunFolder.new(home)
    known = {attribute for predictor in predictors for attribute in predictor.schema.attributes}
    catalogue = read_catalogue(data, grouping(options.group_column, options.group_regex), known)
    _check_attributes(catalogue, predictors, options)
    cache = None if options.cache is None else open_cache(options.cache)
    ids, unreadable = content_ids(cache, catalogue.paths)
    fitted, notes = _fitted(predictors, catalogue, ids, options)
    rows, left_out = _judged_by(catalogue, unreadable, _Fitted.nothing(len(ids)) if options.include_fitted else fitted)
    tried = _try(predictors, (catalogue.take(rows), ids[rows]), cache, progress)
    notes = tuple(dict.fromkeys((*notes, *(note for predictor in predictors for note in predictor.notes))))
    tried = replace(tried, findings=(*catalogue.findings, *left_out, *tried.findings), notes=notes)
    folders = write_folders(home, predictors, tried, data, options)
    return EvaluateReport(folders, len(tried.ids), int(fitted.any.sum()), tried.cached, notes, tried.findings)


@dataclass(frozen=True)
class _Fitted:
    """Which photos, (n,) each, had a part in a model, and of which another photo of the product had."""

    photos: Bool
    products: Bool

    @classmethod
    def nothing(cls, photos: int) -> _Fitted:
        return cls(np.zeros(photos, np.bool_), np.zeros(photos, np.bool_))

    @property
    def any(self) -> Bool:
        return self.photos | self.products


def _judged_by(catalogue: Catalogue, unreadable: Mapping[int, str], fitted: _Fitted) -> tuple[Positions, list[Finding]]:
    """Rows of the photos that models are judged by, and what became of the others."""
    names, problems, seen = catalogue.filenames, sorted(unreadable.items()), fitted.any
    found = [Finding("rejected", names[i], why) for i, why in problems if not seen[i]]
    for i in np.flatnonzero(seen).tolist():
        what = "it" if fitted.photos[i] else "another photo of its product"
        found.append(Finding("fitted", names[i], f"a model has learnt from {what}"))
    rows = np.flatnonzero(~seen & ~np.isin(np.arange(len(seen)), list(unreadable)))
    if not len(rows):
        raise OptionError(
            f"no photo is left to judge by: of {len(seen)}, {int(fitted.photos.sum())} had a part in a model, of "
            f"{int((fitted.products & ~fitted.photos).sum())} another photo of the product had, and {len(unreadable)} "
            "cannot be read. Name photos that no model has seen, or add --include-fitted"
        )
    return rows, found


def _predictors(options: EvaluateOptions) -> list[Predictor]:
    if not options.model:
        raise OptionError("no model is named; name one or several model files with --model")
    if options.sha256 and len(options.sha256) != len(options.model):
        raise OptionError(f"--sha256 names {len(options.sha256)} digests for {len(options.model)} models")
    for share in options.at_precision:
        if not 0 < share <= 1:
            raise OptionError(f"--at-precision is {share:g}; expected shares above 0 and at most 1")
    feeding = PredictOptions(
        weights=options.weights,
        device=options.device,
        runtime=options.runtime,
        batch_size=options.batch_size,
        workers=options.workers,
    )
    digests = options.sha256 or (None,) * len(options.model)
    return [Predictor(read_model(path, sha256), feeding) for path, sha256 in zip(options.model, digests, strict=True)]


def _check_attributes(catalogue: Catalogue, predictors: Sequence[Predictor], options: EvaluateOptions) -> None:
    for path, predictor in zip(options.model, predictors, strict=True):
        if not set(predictor.schema.attributes) & set(catalogue.attributes):
            raise OptionError(
                f"none of the attributes of {path} ({', '.join(predictor.schema.attributes)}) is labelled in the "
                f"catalogue, which has {', '.join(catalogue.attributes)}"
            )


def _fitted(
    predictors: Sequence[Predictor], catalogue: Catalogue, ids: Ids, options: EvaluateOptions
) -> tuple[_Fitted, tuple[str, ...]]:
    """Which photos had a part in one of the models, they or their product, and what to say of it."""
    fitted, notes = _Fitted.nothing(len(ids)), []
    products = named_products(catalogue.filenames, options.group_regex, catalogue.groups)
    for path, predictor in zip(options.model, predictors, strict=True):
        known, of_product = was_seen(predictor.model, ids), product_was_seen(predictor.model, products)
        if known is None:
            notes.append(
                f"{path} was written by an earlier version and does not say which photos it was fit on: any of them"
                " among these flatter its figures"
            )
            continue
        fitted = _Fitted(fitted.photos | known, fitted.products | (False if of_product is None else of_product))
        if products is None and names_products(predictor.model):
            notes.append(
                f"{path} knows the products it was fit on, and nothing names those of these photos: other photos of"
                " them flatter its figures. --group-column or --group-regex says which product a photo shows"
            )
    return fitted, (*notes, *_said(fitted, options))


def _said(fitted: _Fitted, options: EvaluateOptions) -> Iterator[str]:
    photos, others = int(fitted.photos.sum()), int((fitted.products & ~fitted.photos).sum())
    of_products = f", {others} are of products of which another photo had," if others else ""
    if (photos or others) and options.include_fitted:
        yield f"{photos} of these photos had a part in a model{of_products} (--include-fitted): the figures flatter it"
    elif photos or others:
        yield f"{photos} of {len(fitted.photos)} photos had a part in a model{of_products} and are left out"


def _try(
    predictors: Sequence[Predictor],
    photos: tuple[Catalogue, Ids],
    cache: FeatureCache | None,
    progress: Progress | None,
) -> Tried:
    """Every model's probabilities, in one pass per backbone; by a photo that one cannot take, none is judged."""
    catalogue, ids = photos
    models = [predictor.model for predictor in predictors]
    P = [np.zeros((len(ids), predictor.schema.size), np.float32) for predictor in predictors]
    groups = list(grouped(models, predictors[0].options))
    rejects: dict[int, str] = {}
    from_cache, done, total = np.ones(len(ids), np.bool_), 0, len(groups) * len(ids)
    for members, source in groups:
        computed = np.ones(len(ids), np.bool_)
        batches = source.vectors(list(catalogue.paths), None if cache is None else (cache, ids))
        with contextlib.closing(batches):
            for batch in batches:
                computed[batch.indices] &= not batch.cached
                for place, member in enumerate(members):
                    found, (at, _, made) = sound_rows(predictors[member], batch, place)
                    rejects |= {i: str(error) for i, error in found.items()}
                    P[member][at] = made
                done += len(batch.indices) + len(batch.rejects)
                if progress is not None:
                    progress(done, total)
        from_cache &= ~computed
    findings = tuple(Finding("rejected", catalogue.filenames[i], why) for i, why in sorted(rejects.items()))
    rows = np.flatnonzero(~np.isin(np.arange(len(ids)), list(rejects)))
    if not len(rows):
        first = findings[0]
        raise OptionError(f"not one of {len(ids)} photos can be taken (first: {first.filename}, {first.detail})")
    return Tried(catalogue.take(rows), ids[rows], tuple(each[rows] for each in P), int(from_cache.sum()), findings)
