"""Which photos train and which choose the epoch: catalogue, pixels, split and the targets of one attribute, joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.arrays import Bool, Int64, UInt8
from pipeline.catalogue import (
    Catalogue,
    Finding,
    Split,
    groups_of,
    infer_schema,
    read_catalogue,
    same_content,
    single_or_multi,
    split_rows,
)
from pipeline.errors import OptionError
from pipeline.features.backbone.transform import Transform
from pipeline.finetuning.pixels import DecodedPhotos, Feeding, decode_all
from pipeline.options import DataOptions, FinetuneOptions, SplitOptions, grouping
from pipeline.system import memory_limit


@dataclass(frozen=True, eq=False)
class Examples:
    """m photos with a known value: rows int64 (m,) of the photos, Y uint8 (m, V)."""

    photos: DecodedPhotos
    rows: Int64
    Y: UInt8


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """The photos that could be decoded, their parts, and which of them train and validate on the attribute.

    catalogue, photos, groups and split have n entries in catalogue order; values are those of the attribute that
    training photos have, and single says whether a photo has exactly one.
    """

    catalogue: Catalogue
    photos: DecodedPhotos
    groups: Int64
    split: Split
    values: tuple[str, ...]
    single: bool
    train: Examples
    validation: Examples
    findings: tuple[Finding, ...]


def catalogue_with(attribute: str, data: DataOptions, split: SplitOptions) -> Catalogue:
    """The catalogue, read before the weights, which take longer.

    Raises:
        OptionError: It does not have the attribute, or none was named.
        CatalogueError: It cannot be read.
    """
    catalogue = read_catalogue(data, grouping(split.group_column, split.group_regex), [attribute])
    if attribute not in catalogue.attributes:
        said = (
            f"there is no attribute {attribute!r}" if attribute else "name the attribute to train on with --attribute"
        )
        raise OptionError(f"{said}; the attributes are: {', '.join(catalogue.attributes)}")
    return catalogue


def load_rows(
    catalogue: Catalogue,
    data: DataOptions,
    split: SplitOptions,
    options: FinetuneOptions,
    transform: Transform,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingRows:
    """Decode every photo of a catalogue once, make or take the split, and encode the attribute.

    The split is the one that `fit-heads` makes of the same photos with the same options.

    Args:
        catalogue: What `catalogue_with` read.
        data: How.
        split: How the photos are divided.
        options: How the backbone is trained, and on which attribute.
        transform: How photos are shown to the backbone.
        progress: Called with the photos decoded so far and all of them.

    Returns:
        The rows to train and to validate on.

    Raises:
        OptionError: Too few photos of a part have a known value of the attribute.
    """
    limit = memory_limit(options.memory)
    good, photos = decode_all(catalogue.paths, Feeding(transform, options.workers, limit), progress)
    rejected = (Finding("rejected", catalogue.filenames[i], why) for i, why in photos.rejects.items())
    findings = [*catalogue.findings, *rejected]
    catalogue = catalogue.take(good)
    groups = groups_of(catalogue.filenames, split.group_regex, catalogue.groups, photos.ids)
    override = single_or_multi(data.single, data.multi)
    parts, split_findings = split_rows(catalogue, infer_schema(catalogue, single=override), photos.ids, groups, split)
    if not all(parts.counts().values()):
        raise OptionError(f"the split of {len(photos)} photos leaves a part empty: {parts.counts()}; change --split")
    findings += [*same_content(catalogue, photos.ids), *split_findings]
    targets = _targets(catalogue, parts, options.attribute, override)
    train, validation = (_examples(photos, parts, part, targets) for part in ("train", "validation"))
    return TrainingRows(
        catalogue, photos, groups, parts, targets.values, targets.single, train, validation, tuple(findings)
    )


@dataclass(frozen=True, eq=False)
class _Targets:
    """The attribute over n photos: V values, whether a photo has just one, Y (n, V), usable (n,) to learn from."""

    values: tuple[str, ...]
    single: bool
    Y: UInt8
    usable: Bool


def _targets(catalogue: Catalogue, parts: Split, attribute: str, override: dict[str, bool]) -> _Targets:
    schema = infer_schema(catalogue, parts.rows("train"), override)
    if attribute not in schema.attributes:
        raise OptionError(f"no training photo has a known value of {attribute!r}: nothing to learn")
    at = schema.attributes.index(attribute)
    every, mask = schema.encode(catalogue.cells, catalogue.categories)
    Y, usable = every[:, schema.slices[at]], mask[:, schema.slices[at].start].copy()
    if schema.single[at]:
        # A value that no training photo has is no target: the classifier has no output for it.
        usable &= Y.any(axis=1)
    return _Targets(schema.values[at], schema.single[at], Y, usable)


def _examples(photos: DecodedPhotos, parts: Split, part: str, targets: _Targets) -> Examples:
    rows = parts.rows(part)
    rows = rows[targets.usable[rows]]
    if not len(rows):
        raise OptionError(
            f"no {part} photo has a known value of the attribute that training photos have; change --split"
        )
    return Examples(photos, rows, targets.Y[rows])
