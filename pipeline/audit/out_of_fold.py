"""Probabilities of every photo from heads that saw neither it nor its product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Float32, Int64
from pipeline.audit.vectors import AuditVectors
from pipeline.errors import OptionError, counted
from pipeline.heads import HeadConfig, SweepOptions, Targets, fit_many


@dataclass(frozen=True)
class FoldPlan:
    """How photos are dealt to folds and what is fitted on them.

    Attributes:
        folds: Number of parts; each is predicted by heads fitted on the others.
        configs: heads, averaged.
    """

    configs: Sequence[HeadConfig]
    folds: int = 5
    seed: int = 0
    device: str = "auto"


def deal_folds(groups: Int64, folds: int, seed: int) -> Int64:
    """Fold of each photo, int64 (n,): whole groups, in random order, each into the fold with the fewest photos.

    Raises:
        OptionError: For fewer than two folds, or fewer groups than folds.
    """
    sizes = np.bincount(groups)
    products = int(np.count_nonzero(sizes))
    if folds < 2 or products < folds:
        raise OptionError(
            f"--folds {folds} with photos of {counted(products, 'product')}: at least 2 folds and a product for each "
            "are needed"
        )
    photos_of_fold = np.zeros(folds, np.int64)
    fold = np.zeros(len(sizes), np.int64)
    for group in np.random.default_rng(seed).permutation(len(sizes)).tolist():
        fold[group] = photos_of_fold.argmin()
        photos_of_fold[fold[group]] += sizes[group]
    return fold[groups]


def out_of_fold(
    X: AuditVectors, targets: Targets, groups: Int64, plan: FoldPlan, progress: Callable[[str], None] | None = None
) -> Float32:
    """Probabilities (n, L) float32 of photos X (n, d); the last epoch is kept, so no label is looked at to choose.

    Raises:
        OptionError: As `deal_folds` does.
        HeadError: For data that no head can be fitted on.
    """
    fold = deal_folds(groups, plan.folds, plan.seed)
    P = np.zeros((len(X), targets.size), np.float32)
    stops = tuple(config.epochs for config in plan.configs)
    options = SweepOptions(device=plan.device, seed=plan.seed, stop_at=stops)
    for part in range(plan.folds):
        others, held = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
        train, judged = ((X.source(at), targets.take(at)) for at in (others, held))
        heads = fit_many(plan.configs, train, judged, options)
        for at, vectors in X.chunks(held):
            P[at] = np.mean([head.predict_proba(vectors) for head in heads], axis=0)
        if progress is not None:
            progress(f"fold {part + 1} of {plan.folds}: {counted(len(held), 'photo')} judged by {len(others)} others")
    return P
