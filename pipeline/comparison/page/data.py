"""What only the report page shows, read from the run folders again: every configuration, and the best one on test.

`compare` states figures; the page also lets a reader move a threshold, look at photos and see what was tried. None of
this is computed unless a page is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.comparison.entries import Names, names_of
from pipeline.comparison.page.photos import Gallery, gallery
from pipeline.comparison.page.recipes import Recipe, recipe
from pipeline.comparison.records import Comparison, RunFacts
from pipeline.comparison.shared import share
from pipeline.errors import RunError
from pipeline.evaluation.threshold_sweep import AttributeSweep, sweep_thresholds
from pipeline.evaluation.thresholds import decide
from pipeline.experiment.run_reader import FINDING, Row, Run, number, read_run
from pipeline.experiment.run_tables import read_rows
from pipeline.features.near_duplicates import Neighbour

EXAMPLES = 8
"""Dropped rows of each kind, and near-duplicate pairs, that the page names; dropped.csv and neighbours.csv have all."""

NEAR_COLUMNS = ("photo_a", "part_a", "photo_b", "part_b")


@dataclass(frozen=True)
class Tried:
    """One configuration, kept or not.

    Attributes:
        name: What people call it, unique on the page.
        config_id: What its files are called.
        run: Name of its run.
        settings: Its row of configs.csv: head, optimizer, lr and the others.
        score: Validation score.
        best_epoch: The epoch its model was taken from.
        seconds: How long it took to fit.
        epochs: Epochs that were measured; none for baselines.
        curves: Measure to its value per entry of `epochs`, None where it was not taken.
    """

    name: str
    config_id: str
    run: str
    settings: Mapping[str, str]
    score: float | None
    best_epoch: float | None
    seconds: float | None
    epochs: tuple[float, ...]
    curves: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class Dropped:
    """One kind of dropped or odd rows of one run: how many, and the first of them as (photo, detail)."""

    run: str
    kind: str
    count: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class NearPairs:
    """Near-duplicates across the parts of one run: how many pairs, from which cosine, and the closest of them."""

    run: str
    count: int
    cosine: float
    test_photos: int
    examples: tuple[Neighbour, ...]


@dataclass(frozen=True)
class PageData:
    """Everything the page shows beyond the comparison."""

    tried: tuple[Tried, ...]
    sweeps: tuple[AttributeSweep, ...]
    gallery: Gallery
    dropped: tuple[Dropped, ...]
    recipes: tuple[Recipe, ...]
    near: tuple[NearPairs, ...]


def page_data(comparison: Comparison) -> PageData:
    """Read what the page needs from the run folders of a comparison.

    Args:
        comparison: What `compare` found in them.

    Returns:
        What the page shows beyond it.

    Raises:
        RunError: A run folder has changed or gone since.
    """
    runs = [read_run(Path(facts.path)) for facts in comparison.runs]
    best = comparison.best_candidate
    names = names_of(runs)
    run = _home(comparison, runs, names)
    if best.config_id not in run.predicted:
        raise RunError(f"{run.path} no longer holds the predictions of {best.config_id}; compare again")
    test = share(runs).common
    at = test.of[run.path]
    P = run.probabilities(best.config_id, "test")[at.order]
    limits = run.thresholds(best.config_id, best.policy)
    return PageData(
        tried=tuple(
            tried for each in runs if each.evaluated is None for tried in _tried(each, names, comparison.choose)
        ),
        sweeps=sweep_thresholds(P, at.Y, at.mask, at.unseen, run.schema, limits),
        gallery=gallery(run, test.photos, at.predicted(P, decide(P, run.schema, limits), run.schema)),
        dropped=tuple(kind for facts in comparison.runs for kind in _dropped(facts)),
        recipes=tuple(recipe(each.name, each.info) for each in runs),
        near=tuple(pairs for each in runs if (pairs := _near(each)) is not None),
    )


def _home(comparison: Comparison, runs: Sequence[Run], names: Names) -> Run:
    """The run the best candidate comes from; several runs may have one name."""
    best = comparison.best_candidate
    return next((run for run in runs if names.get((run.path, best.config_id)) == best.name), runs[0])


def _tried(run: Run, names: Names, choose: str) -> list[Tried]:
    history: dict[str, list[Row]] = {}
    for row in run.history:
        history.setdefault(row.get("config_id", ""), []).append(row)
    tried = []
    for config_id, settings in run.configs.items():
        epochs, curves = _curves(history.get(config_id, []))
        tried.append(
            Tried(
                name=names[run.path, config_id],
                config_id=config_id,
                run=run.name,
                settings=dict(settings),
                score=run.score(config_id, choose),
                best_epoch=number(settings.get("best_epoch")),
                seconds=number(settings.get("seconds")),
                epochs=epochs,
                curves=curves,
            )
        )
    return tried


def _curves(rows: Sequence[Row]) -> tuple[tuple[float, ...], dict[str, tuple[float | None, ...]]]:
    """Epochs, and per measure ("train loss", "validation loss", "validation micro_f1", ...) its value at each."""
    measures: dict[str, dict[float, float]] = {}
    for row in rows:
        epoch, split = number(row.get("epoch")), row.get("split")
        for field, cell in row.items():
            value = None if field in ("config_id", "epoch", "split") else number(cell)
            if epoch is not None and value is not None and np.isfinite(value):
                measures.setdefault(f"{split} {field}", {})[epoch] = value
    epochs = tuple(sorted({epoch for values in measures.values() for epoch in values}))
    return epochs, {measure: tuple(values.get(epoch) for epoch in epochs) for measure, values in measures.items()}


def _dropped(facts: RunFacts) -> list[Dropped]:
    examples: dict[str, list[tuple[str, str]]] = {}
    for row in read_rows(Path(facts.path) / "dropped.csv", FINDING):
        of_kind = examples.setdefault(row["kind"], [])
        if len(of_kind) < EXAMPLES:
            of_kind.append((row["photo"], row["detail"]))
    return [
        Dropped(facts.name, kind, count, tuple(examples.get(kind, ())))
        for kind, count in sorted(facts.findings.items(), key=lambda pair: -pair[1])
    ]


def _near(run: Run) -> NearPairs | None:
    """What a run knows of its near-duplicates; None when it found none or did not look for them."""
    facts = run.info.get("near_duplicates")
    count = sum(facts["pairs"].values()) if facts else 0
    if not facts or not count:
        return None
    examples = []
    for row in read_rows(run.path / "neighbours.csv")[:EXAMPLES]:
        one, of_one, other, of_other = (row.get(name, "") for name in NEAR_COLUMNS)
        examples.append(Neighbour(one, of_one, other, of_other, number(row.get("cosine")) or 0.0))
    return NearPairs(run.name, count, facts["cosine"], facts["test_photos"], tuple(examples))
