"""`audit`: likely wrong labels, look-alikes with other labels, and outliers, from vectors that are cached already."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.arrays import Bool, Float32, Int64, UInt8
from pipeline.audit.asks import asks_of
from pipeline.audit.label_noise import DoubtfulCell, multi_issues, single_issues, supported
from pipeline.audit.out_of_fold import FoldPlan, out_of_fold
from pipeline.audit.outliers import MOST_COMPARED, neighbour_distance, robust_scores, whitened
from pipeline.audit.report import AuditReport, Conflict, LabelIssue, Outlier, write_tables
from pipeline.audit.vectors import AuditVectors
from pipeline.catalogue import (
    Finding,
    LabelSchema,
    coded,
    empty_attributes,
    infer_schema,
    same_content,
    single_or_multi,
)
from pipeline.errors import OptionError
from pipeline.experiment.cached_rows import CachedRows, cached_rows
from pipeline.experiment.run_writer import RunFolder
from pipeline.features.near_duplicates import Pairs, closest_pairs, words_beyond
from pipeline.heads import HeadConfig, Targets
from pipeline.labelling.asks import write_asks
from pipeline.machine import memory_limit
from pipeline.options import AuditOptions, CacheKeyOptions, DataOptions, FitOptions, SplitOptions

Progress = Callable[[str], None]

NONE = "none"
"""How "known to have no value" is written for an attribute of which a photo has at most one."""

MOST_PAIRS = 100_000
"""Look-alikes that are listed: some thousand copies of one placeholder make millions of pairs."""

_FEWEST_ALIKE = 10


@dataclass(frozen=True, eq=False)
class _Labels:
    """What is given: schema with NONE where a single-valued attribute needs it, Y and mask (n, L)."""

    schema: LabelSchema
    Y: UInt8
    mask: Bool

    @property
    def targets(self) -> Targets:
        return Targets(self.Y, self.mask, self.schema.slices, self.schema.single)


def audit(
    data: DataOptions, cache_key: CacheKeyOptions, options: AuditOptions, progress: Progress | None = None
) -> AuditReport:
    """Judge every known label and write `label_issues.csv`, `duplicates.csv` and `outliers.csv` into a new folder.

    Nothing is changed in the catalogue. `labels.csv` has the doubts once more, to be filled in and given as --labels.

    Raises:
        PipelineError: For options or data that cannot work.
        CacheError: For a cache that cannot be read, before anything is fit.
    """
    started = time.perf_counter()
    _check(options)
    folder = RunFolder.new(options.out)
    split = SplitOptions(group_column=options.group_column, group_regex=options.group_regex)
    rows = cached_rows(data, cache_key, split, FitOptions(cache=options.cache, use=options.use))
    override = single_or_multi(data.single, data.multi)
    plain = infer_schema(rows.catalogue, single=override)
    labels = _labels(rows, plain)
    X = AuditVectors.of(rows, memory_limit(options.memory))
    P = out_of_fold(X, labels.targets, rows.groups, _plan(options, len(X)), progress)
    fine = supported(labels.Y, labels.mask, rows.groups, options.min_support)
    issues, counts = _issues(rows, labels, P, fine)
    names = labels.schema.column_names
    odd = (*same_content(rows.catalogue, rows.ids), *empty_attributes(rows.catalogue, plain))
    conflicts, cut = _conflicts(rows, labels, X, options.near)
    report = AuditReport(
        out=options.out,
        photos=len(rows.catalogue),
        seconds=0.0,
        counts=counts,
        issues=issues,
        conflicts=conflicts,
        outliers=_outliers(rows, labels, X, options),
        rare=tuple(names[c] for c in np.flatnonzero(~fine)),
        findings=(*rows.findings, *cut, *odd),
        files=dict(zip(rows.catalogue.filenames, rows.catalogue.paths, strict=True)),
    )
    with folder.claimed():
        write_tables(folder.path, report)
        write_asks(folder.path / "labels.csv", asks_of(report, rows.catalogue))
    return replace(report, seconds=time.perf_counter() - started)


def head_config(head: str, photos: int, seed: int = 0) -> HeadConfig:
    """The head an audit fits: strongly regularised and smoothed, since it must not learn single wrong labels by heart.

    Small catalogues get small batches, so that 30 epochs are steps enough.

    Raises:
        HeadError: For a head that does not exist or that has no epochs.
    """
    return HeadConfig(
        head=head,
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.01,
        loss="ce",
        label_smoothing=0.1,
        hidden=(512,),
        dropout=0.3,
        input_dropout=0.2,
        schedule="onecycle",
        epochs=30,
        batch_size=min(256, max(32, photos // 16)),
        seed=seed,
    )


def _plan(options: AuditOptions, photos: int) -> FoldPlan:
    configs = [head_config(options.head, photos, seed) for seed in options.seed]
    return FoldPlan(configs, options.folds, options.seed[0], options.device)


def _check(options: AuditOptions) -> None:
    if not 0 < options.near <= 1:
        raise OptionError(f"--near is {options.near}; expected a cosine above 0 and at most 1")
    if options.min_support < 2:
        raise OptionError(f"--min-support is {options.min_support}; a value needs at least 2 products to be judged")


def _labels(rows: CachedRows, schema: LabelSchema) -> _Labels:
    """Targets of every cell; "known to have no value" becomes a value of single-valued attributes that need it."""
    catalogue = rows.catalogue
    Y, mask = schema.encode(catalogue.cells, catalogue.categories)
    blank = [
        mask[:, columns].any(axis=1) & (Y[:, columns].sum(axis=1) == 0) if single else np.zeros(len(Y), bool)
        for columns, single in zip(schema.slices, schema.single, strict=True)
    ]
    if not any(b.any() for b in blank):
        return _Labels(schema, Y, mask)
    values = tuple((*vs, NONE) if b.any() else vs for vs, b in zip(schema.values, blank, strict=True))
    wider = replace(schema, values=values)
    Y, mask = wider.encode(catalogue.cells, catalogue.categories)
    for columns, b in zip(wider.slices, blank, strict=True):
        Y[b, columns.stop - 1] = 1
    return _Labels(wider, Y, mask)


def _issues(
    rows: CachedRows, labels: _Labels, P: Float32, fine: Bool
) -> tuple[tuple[LabelIssue, ...], dict[str, tuple[int, int]]]:
    """Issues of all attributes, worst first; per attribute, judged cells and issues."""
    schema, named, counts = labels.schema, [], {}
    for attribute, columns, single in zip(schema.attributes, schema.slices, schema.single, strict=True):
        judged = np.arange(columns.start, columns.stop)[fine[columns]]
        doubtful = (single_issues if single else multi_issues)(labels.Y, labels.mask, P, judged)
        mask = labels.mask[:, judged]
        cells = mask & (labels.Y[:, judged] == 1) if single else mask
        counts[attribute] = (int(cells.sum()), len(doubtful))
        named += [_named(rows, schema, cell) for cell in doubtful]
    return tuple(sorted(named, key=lambda issue: issue.score)), counts


def _named(rows: CachedRows, schema: LabelSchema, cell: DoubtfulCell) -> LabelIssue:
    attribute, value = schema.labels[cell.column]
    return LabelIssue(
        photo=rows.catalogue.filenames[cell.row],
        attribute=attribute,
        given="" if cell.kind == "missing" else value,
        suggested="" if cell.suggested is None else schema.labels[cell.suggested][1],
        score=cell.score,
        given_p=cell.given_p,
        suggested_p=cell.suggested_p,
        kind=cell.kind,
    )


def _conflicts(
    rows: CachedRows, labels: _Labels, X: AuditVectors, near: float
) -> tuple[tuple[Conflict, ...], tuple[Finding, ...]]:
    """Near-duplicates, by the pooled vectors where they are used, whose known cells differ; the nearest first."""
    catalogue = rows.catalogue
    cells = {name: coded(catalogue.cells[name]) for name in labels.schema.attributes}
    is_known = {
        name: np.asarray(labels.mask[:, columns].any(axis=1))
        for name, columns in zip(labels.schema.attributes, labels.schema.slices, strict=True)
    }

    def differ(pairs: Pairs, name: str) -> Bool:
        i, j, codes = pairs.first, pairs.second, cells[name].codes
        return np.asarray(is_known[name][i] & is_known[name][j] & (codes[i] != codes[j]))

    def differ_anywhere(pairs: Pairs) -> Bool:
        return np.asarray(np.any([differ(pairs, name) for name in cells], axis=0))

    pairs, count = closest_pairs(X.looks(), near, differ_anywhere, MOST_PAIRS)
    conflicts = []
    for attribute, column in cells.items():
        for at in np.flatnonzero(differ(pairs, attribute)).tolist():
            a, b = int(pairs.first[at]), int(pairs.second[at])
            conflicts.append(
                Conflict(
                    photo=catalogue.filenames[a],
                    other=catalogue.filenames[b],
                    cosine=float(pairs.cosine[at]),
                    attribute=attribute,
                    given=_text(column[a]),
                    other_given=_text(column[b]),
                    same_product=bool(rows.groups[a] == rows.groups[b]),
                    kind="same-bytes" if rows.ids[a] == rows.ids[b] else "near-duplicate",
                )
            )
    return tuple(sorted(conflicts, key=lambda c: (c.kind != "same-bytes", -c.cosine))), _cut_short(len(X), count)


def _cut_short(photos: int, alike: int) -> tuple[Finding, ...]:
    """What is not listed, or was not looked at, because there are too many."""
    listed = f"{alike} pairs look alike and are labelled differently; the {MOST_PAIRS} nearest are listed"
    drawn = f"how far a photo lies off is measured to the nearest of {MOST_COMPARED} photos drawn by chance"
    said = (
        ("look-alikes-cut", listed if alike > MOST_PAIRS else None),
        ("not-all-compared", words_beyond(photos, photos)),
        ("not-all-compared", drawn if photos > MOST_COMPARED else None),
    )
    return tuple(Finding(kind, "", words) for kind, words in said if words)


def _outliers(rows: CachedRows, labels: _Labels, X: AuditVectors, options: AuditOptions) -> tuple[Outlier, ...]:
    """Photos far from all others, and far from all others of their value; the farthest first."""
    Z = whitened(X, seed=options.seed[0], some=X.some(MOST_COMPARED))
    kinds: list[tuple[str, str, Int64]] = [("", "", np.arange(len(Z)))]
    for c, (attribute, value) in enumerate(labels.schema.labels):
        kinds.append((attribute, value, np.flatnonzero(labels.mask[:, c] & (labels.Y[:, c] == 1))))
    outliers = []
    for attribute, value, at in kinds:
        if len(at) < _FEWEST_ALIKE:
            continue
        distance = neighbour_distance(Z[at], options.neighbours)
        for k, score in enumerate(robust_scores(distance).tolist()):
            if score > options.far:
                photo = rows.catalogue.filenames[int(at[k])]
                outliers.append(Outlier(photo, attribute, value, float(distance[k]), score))
    return tuple(sorted(outliers, key=lambda outlier: -outlier.score))


def _text(cell: Sequence[str] | None) -> str:
    return "+".join(cell or ()) or NONE
