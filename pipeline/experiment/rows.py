"""The rows of one experiment, aligned: photo, content, group, part, features, targets. The split precedes any fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from pipeline.arrays import Bool, Float32, Ids, Int64, Positions, UInt8, Vectors
from pipeline.catalogue import (
    UNKNOWN,
    Catalogue,
    Cell,
    Finding,
    LabelSchema,
    Split,
    alike_in_test,
    coded,
    empty_attributes,
    infer_schema,
    never_in_train,
    same_content,
    single_or_multi,
    split_rows,
)
from pipeline.errors import OptionError, counted
from pipeline.evaluation.unseen import Unseen
from pipeline.experiment.cached_rows import cached_rows, first_of_each
from pipeline.experiment.kinds.stored import CHUNK, StoredVectors
from pipeline.features.backbone.provenance import require_unseen, seen_of_key
from pipeline.features.vectors.joined import JoinedFeatures
from pipeline.heads import ChunkedSource, FittedHead, Targets
from pipeline.options import CacheKeyOptions, DataOptions, FitOptions, SplitOptions

Na = Literal["mask", "class", "negative"]


@dataclass(frozen=True)
class FitTargets:
    """What the heads are asked to predict, under one treatment of unknown labels.

    Attributes:
        schema: The value columns, with UNKNOWN as the last value of every attribute under `--na class`.
        Y, mask: (n, L) targets of the loss.
        known: (n, L) where the truth is known, for every metric.
    """

    schema: LabelSchema
    Y: UInt8
    mask: Bool
    known: Bool


@dataclass(frozen=True, eq=False)
class Experiment:
    """Everything one fit reads; per-row fields have n entries in catalogue order.

    Attributes:
        ids: Content ids, S32.
        groups: int64, photos that must share a part.
        split: The part of each row.
        targets: What fitting and choosing may know; every cell of a test row is unknown and 0 in it.
        truth: The labels of all rows, for labels.parquet and nothing else.
    """

    catalogue: Catalogue
    vectors: StoredVectors
    ids: Ids
    groups: Int64
    split: Split
    targets: FitTargets
    findings: tuple[Finding, ...]
    truth: FitTargets

    @property
    def final(self) -> bool:
        """Whether test labels are among what fitting may know, so that nothing of it is judged."""
        return self.targets is self.truth

    def with_test_labels(self) -> Experiment:
        """The same rows with the labels of all parts in `targets`: for a final fit, of which no figure is computed."""
        return replace(self, targets=self.truth)

    @property
    def features(self) -> JoinedFeatures:
        """What X is made of."""
        return self.vectors.features

    def on(self, kind: int) -> Experiment:
        """The same rows with one kind of the vectors alone, by its number from 1; 0 is all of them side by side."""
        return replace(self, vectors=self.vectors.of(kind))

    def bytes_of(self, *parts: str) -> int:
        """Most bytes in use while the features of these parts are read into an array."""
        return self.vectors.bytes_of(len(self.split.rows(*parts)))

    def source(self, *parts: str, limit: int, beside: int = 0) -> Float32 | ChunkedSource:
        """Features of these parts, in memory where that leaves room for what is held beside them, else streamed.

        A stream reads the cache's rows in chunks, in the order in which they were stored, and shuffles what fits into
        its buffer, half of the limit; of several views it reads the one that a row shows in that epoch.

        Args:
            *parts: Names of parts of the split.
            limit: Bytes that may be held at a time (a stream needs those of 256 rows at least).
            beside: Bytes of them that other features and their copies take.

        Returns:
            An array (n, d) float32, or (V, n, d) with several views; or a stream of the same rows.
        """
        ids = self.ids[self.split.rows(*parts)]
        if self.bytes_of(*parts) + beside <= limit:
            return self.vectors.read(ids)
        return self.vectors.stream(ids, limit)

    def predict(self, head: FittedHead, part: str) -> Float32:
        """Probabilities (n, L) of a part's rows, read in chunks."""
        ids = self.ids[self.split.rows(part)]
        chunks = [ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK)]
        return np.concatenate([head.predict_proba(self.vectors.read(chunk)) for chunk in chunks])

    def read(self, rows: Positions) -> Float32:
        """Features of these rows: (n, d), or (V, n, d) with several views."""
        return self.vectors.read(self.ids[rows])

    def sample(self, rows: int) -> Float32:
        """The first training rows, one view: (rows, d)."""
        return self.vectors.read_first_view(self.ids[self.split.rows("train")[:rows]])

    def pooled(self, limit: int) -> tuple[Positions, Vectors]:
        """The first photo of each content, ascending, and their pooled vectors, of the first kind that has them.

        Raises as `read_pooled` does.
        """
        rows = first_of_each(self.ids)
        return rows, self.features.read_pooled(self.vectors.cache, self.ids[rows], limit)

    @cached_property
    def unseen(self) -> Unseen:
        """The values that only test photos have; like `truth`, for the run folder and nothing else."""
        return unseen_of(self.truth, self.catalogue)

    def known_of(self, attributes: Sequence[str]) -> Bool:
        """(n, len(attributes)): photos on which the truth of each of these attributes is known."""
        return known_of(self.truth, attributes)

    def targets_of(self, *parts: str) -> Targets:
        """Targets of the loss for the rows of these parts."""
        at, schema = self.split.rows(*parts), self.targets.schema
        return Targets(self.targets.Y[at], self.targets.mask[at], schema.slices, schema.single)


def load_experiment(
    data: DataOptions, cache_key: CacheKeyOptions, split: SplitOptions, options: FitOptions
) -> Experiment:
    """Catalogue, cache and split joined (see `cached_rows`).

    Raises:
        OptionError: Vectors are missing (with the command that makes them), the split leaves a part empty, or no
            attribute has two values in training.
    """
    rows = cached_rows(data, cache_key, split, options)
    catalogue, ids, groups = rows.catalogue, rows.ids, rows.groups
    override = single_or_multi(data.single, data.multi)
    parts, split_findings = split_rows(catalogue, infer_schema(catalogue, single=override), ids, groups, split)
    if not all(parts.counts().values()):
        raise OptionError(
            f"the split of {counted(len(ids), 'photo')} leaves a part empty: {parts.counts()}; change --split"
        )
    for info in rows.features.infos:
        source = str(info.notes.get("weights_source", ""))
        require_unseen(seen_of_key(rows.vectors.cache, info), ids, parts, source, catalogue.groups)
    visible = parts.rows("train", "validation")
    schema = infer_schema(catalogue, visible, override)
    findings = (
        *rows.findings,
        *same_content(catalogue, ids),
        *split_findings,
        *empty_attributes(catalogue, schema),
        *never_in_train(catalogue, schema),
        *alike_in_test(catalogue, schema, parts.rows("test")),
    )
    truth = fit_targets(schema, catalogue.cells, catalogue.categories, options.na)
    if data.inapplicable == "negative":
        truth = inapplicable_negative(truth, catalogue.cells, catalogue.categories)
    if options.gate == "none":
        truth = replace(truth, schema=replace(truth.schema, gate=None))
    targets = without_rows(truth, parts.rows("test"))
    _require_two_classes(targets, parts)
    return Experiment(catalogue, rows.vectors, ids, groups, parts, targets, findings, truth)


def _require_two_classes(targets: FitTargets, split: Split) -> None:
    """OptionError when no value is there on some training photos and known to be missing on others."""
    at, schema = split.rows("train"), targets.schema
    Y, mask = targets.Y[at] > 0, targets.mask[at]
    if ((Y & mask).any(axis=0) & (~Y & mask).any(axis=0)).any():
        return
    named = ", ".join(f"{a}: {' | '.join(v)}" for a, v in zip(schema.attributes, schema.values, strict=True))
    raise OptionError(
        f"nothing to learn: no attribute has two values among the {counted(len(at), 'training photo')} ({named[:200]});"
        " give labels that differ between photos"
    )


def fit_targets(
    schema: LabelSchema, cells: Mapping[str, Sequence[Cell]], categories: Sequence[str | None] | None, na: Na
) -> FitTargets:
    """Targets of these cells under `na`: mask (unknown cells are ignored), class (a value of their own) or negative.

    Attributes that do not apply to a photo's category stay masked whatever `na` says.
    """
    if na == "class":
        schema = replace(schema, values=tuple((*values, UNKNOWN) for values in schema.values))
    Y, known = schema.encode(cells, categories)
    mask = known.copy()
    if na != "mask":
        applies = schema.applies(categories, len(Y))
        for i, (attribute, columns) in enumerate(zip(schema.attributes, schema.slices, strict=True)):
            unknown = np.fromiter((cell is None for cell in cells[attribute]), bool, len(Y)) & applies[:, i]
            mask[unknown, columns] = True
            if na == "class":
                Y[unknown, columns.stop - 1] = 1
    if na == "class":
        known[:, [columns.stop - 1 for columns in schema.slices]] = False
    return FitTargets(schema, Y, mask, known)


def known_of(truth: FitTargets, attributes: Sequence[str]) -> Bool:
    """(n, len(attributes)): photos on which the truth of each of these attributes is known."""
    schema, known = truth.schema, truth.known
    of = {name: known[:, columns].any(axis=1) for name, columns in zip(schema.attributes, schema.slices, strict=True)}
    return np.array([of[name] for name in attributes], np.bool_).reshape(len(attributes), len(known)).T


def unseen_of(truth: FitTargets, catalogue: Catalogue) -> Unseen:
    """The values that photos of the catalogue have and the schema of their truth has no column for."""
    schema, every = truth.schema, infer_schema(catalogue)
    values = dict(zip(every.attributes, every.values, strict=True))
    labels = tuple(
        (attribute, value)
        for attribute, own in zip(schema.attributes, schema.values, strict=True)
        for value in values.get(attribute, ())
        if value not in own
    )
    has = [[cell is not None and value in cell for cell in catalogue.cells[attribute]] for attribute, value in labels]
    Y = np.array(has, np.bool_).reshape(len(labels), len(catalogue)).T
    return Unseen(labels, Y & known_of(truth, [attribute for attribute, _ in labels]))


def without_rows(targets: FitTargets, rows: Positions) -> FitTargets:
    """The targets with every cell of these rows unknown and 0."""
    Y, mask, known = targets.Y.copy(), targets.mask.copy(), targets.known.copy()
    for cells in (Y, mask, known):
        cells[rows] = 0
    return replace(targets, Y=Y, mask=mask, known=known)


def inapplicable_negative(
    targets: FitTargets, cells: Mapping[str, Sequence[Cell]], categories: Sequence[str | None] | None
) -> FitTargets:
    """The targets with every attribute known to have no value where it does not apply; changed in place.

    A photo that carries a value of such an attribute contradicts its category, and stays masked.
    """
    schema = targets.schema
    applies = schema.applies(categories, len(targets.Y))
    for i, (attribute, values, columns) in enumerate(zip(schema.attributes, schema.values, schema.slices, strict=True)):
        rows = coded(cells[attribute]).where(()) & ~applies[:, i]
        targets.mask[rows, columns] = True
        targets.known[rows, columns.start : columns.stop - (UNKNOWN in values)] = True
    return targets
