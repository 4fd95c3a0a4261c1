"""Which photos train and which choose the epoch: catalogue, pixels, split and the targets of the attributes, joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pipeline.arrays import Bool, Int64, UInt8
from pipeline.catalogue import (
    PARTS,
    Catalogue,
    Finding,
    LabelSchema,
    Split,
    empty_attributes,
    groups_of,
    infer_schema,
    named_products,
    never_in_train,
    read_catalogue,
    same_content,
    single_or_multi,
    split_rows,
)
from pipeline.errors import OptionError
from pipeline.experiment.rows import fit_targets, inapplicable_negative
from pipeline.features.backbone.transform import Transform
from pipeline.finetuning.network.objective import constant_attributes
from pipeline.finetuning.photos.pixels import DecodedPhotos, Feeding, decode_all
from pipeline.machine import memory_limit
from pipeline.options import DataOptions, FinetuneOptions, SplitOptions, grouping


@dataclass(frozen=True, eq=False)
class Examples:
    """m photos with some known value: rows int64 (m,) of the photos, Y uint8 (m, L), mask bool (m, L): known."""

    photos: DecodedPhotos
    rows: Int64
    Y: UInt8
    mask: Bool


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """The photos that could be decoded, their parts, and which of them train and validate on the attributes.

    catalogue, photos, groups and split have n entries in catalogue order; the schema is of the values that training
    photos have. `train_and_validation`, and `everything` with the test photos, are for when all is chosen.
    """

    catalogue: Catalogue
    photos: DecodedPhotos
    groups: Int64
    split: Split
    schema: LabelSchema
    train: Examples
    validation: Examples
    train_and_validation: Examples
    everything: Examples
    findings: tuple[Finding, ...]


def catalogue_with(attributes: tuple[str, ...], data: DataOptions, split: SplitOptions) -> Catalogue:
    """The catalogue, read before the weights, which take longer.

    Args:
        attributes: Those to train on; none for all.
        data: How it is read; `--attributes all` is what it does anyway.
        split: How products are grouped.

    Raises:
        OptionError: It does not have one of the attributes.
        CatalogueError: It cannot be read.
    """
    data = replace(data, attributes=()) if data.attributes == ("all",) else data
    catalogue = read_catalogue(data, grouping(split.group_column, split.group_regex), attributes)
    for attribute in attributes:
        if attribute not in catalogue.attributes:
            raise OptionError(
                f"there is no attribute {attribute!r}; the attributes are: {', '.join(catalogue.attributes)}"
            )
    return catalogue


def load_rows(
    catalogue: Catalogue,
    data: DataOptions,
    split: SplitOptions,
    options: FinetuneOptions,
    transform: Transform,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingRows:
    """Decode every photo of a catalogue once, make or take the split, and encode the attributes.

    The split is the one that `fit-heads` makes of the same photos with the same options.

    Args:
        catalogue: What `catalogue_with` read.
        data: How.
        split: How the photos are divided.
        options: How the network is trained, and on which attributes.
        transform: How photos are shown to the backbone.
        progress: Called with the photos decoded so far and all of them.

    Returns:
        The rows to train and to validate on.

    Raises:
        OptionError: A part has no photo with a known value.
    """
    limit = memory_limit(options.memory)
    good, photos = decode_all(catalogue.paths, Feeding(transform, options.workers, limit), progress)
    rejected = (Finding("rejected", catalogue.filenames[i], why) for i, why in photos.rejects.items())
    findings = [*catalogue.findings, *rejected]
    catalogue = catalogue.take(good)
    products = named_products(catalogue.filenames, split.group_regex, catalogue.groups)
    groups = groups_of(catalogue.filenames, None, products, photos.ids)
    catalogue = replace(catalogue, groups=products)
    override = single_or_multi(data.single, data.multi)
    parts, split_findings = split_rows(catalogue, infer_schema(catalogue, single=override), photos.ids, groups, split)
    if not all(parts.counts().values()):
        raise OptionError(f"the split of {len(photos)} photos leaves a part empty: {parts.counts()}; change --split")
    schema = infer_schema(catalogue, parts.rows("train"), override)
    findings += [*same_content(catalogue, photos.ids), *split_findings]
    findings += [*empty_attributes(catalogue, schema), *never_in_train(catalogue, schema)]
    schema, Y, mask = _targets(catalogue, schema, options.attribute, data)
    train, validation, both, everything = (
        _examples(photos, parts, of, Y, mask) for of in (("train",), ("validation",), ("train", "validation"), PARTS)
    )
    alike = constant_attributes(train.Y, train.mask, schema)
    findings += [
        Finding("alike-in-train", name, "nothing can be learnt of it; always the same is said") for name in alike
    ]
    return TrainingRows(catalogue, photos, groups, parts, schema, train, validation, both, everything, tuple(findings))


def _targets(
    catalogue: Catalogue, schema: LabelSchema, wanted: tuple[str, ...], data: DataOptions
) -> tuple[LabelSchema, UInt8, Bool]:
    """The schema of the attributes to train on, Y and mask (n, L)."""
    for attribute in wanted:
        if attribute not in schema.attributes:
            raise OptionError(f"no training photo has a known value of {attribute!r}: nothing to learn")
    # All of them first: whether an attribute applies to a photo depends on the category.
    targets = fit_targets(schema, catalogue.cells, catalogue.categories, "mask")
    if data.inapplicable == "negative":
        targets = inapplicable_negative(targets, catalogue.cells, catalogue.categories)
    Y, mask = targets.Y, targets.mask
    if wanted:
        columns = np.concatenate([np.arange(schema.size)[schema.slices[schema.attributes.index(a)]] for a in wanted])
        schema, Y, mask = schema.only(wanted), Y[:, columns], mask[:, columns]
    for at, single in zip(schema.slices, schema.single, strict=True):
        if single:
            # A value that no training photo has is no target of a softmax: the head has no output for it.
            mask[~Y[:, at].any(axis=1), at] = False
    return schema, Y, mask


def _examples(photos: DecodedPhotos, parts: Split, of: tuple[str, ...], Y: UInt8, mask: Bool) -> Examples:
    rows = parts.rows(*of)
    rows = rows[mask[rows].any(axis=1)]
    if not len(rows):
        raise OptionError(
            f"no {of[0]} photo has a known value of the attributes that training photos have; change --split"
        )
    return Examples(photos, rows, Y[rows], mask[rows])
