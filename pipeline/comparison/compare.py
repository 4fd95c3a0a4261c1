"""The stage that paired: joins run folders with the truth of their test photos. Only here are test metrics computed.

Candidates are the configurations whose probabilities a run kept, each with the thresholds chosen on validation. The
best is the one with the highest *validation* score, or what its run preferred to that within noise; the test figures
only say how good it and the others are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pipeline.comparison.by_field import best_by_field, differences_by_field, nothing_alike
from pipeline.comparison.details import (
    confusions,
    curves,
    evaluation,
    facts,
    given_notes,
    headline,
    notes,
    policies,
    reliabilities,
)
from pipeline.comparison.entries import Entry, chosen_by, entries, names_of
from pipeline.comparison.pairs import Judged, PairedComparison, judged
from pipeline.comparison.records import AT_PRECISION, Candidate, Comparison, Interval, OnPhotos, PhotoSet
from pipeline.comparison.shared import JudgingPhotos, Shared, share
from pipeline.comparison.table import table
from pipeline.comparison.values import alike, calibration_rows, value_rows
from pipeline.errors import OptionError, RunError
from pipeline.evaluation.bootstrap import OVERALL, PER_ATTRIBUTE, Bootstrap, Resampled, interval_of
from pipeline.evaluation.categories.applies import applies
from pipeline.evaluation.coverage import Coverage, coverage
from pipeline.evaluation.figures import Metrics
from pipeline.evaluation.majority import majority_of_counts
from pipeline.evaluation.metrics import known_cells
from pipeline.evaluation.thresholds import decide
from pipeline.experiment.run_reader import Run, number, read_run, runs_in
from pipeline.options import CompareOptions

__all__ = ["compare", "table"]


def compare(runs: Sequence[Path], options: CompareOptions) -> Comparison:
    """Judge every candidate of these run folders, or of those in a folder, on the test photos that all of them have.

    What else they do not share (`comparison.shared`) is left out and said; the best of each run is judged on the photos
    that only some of them have too.

    Raises:
        RunError: For incomplete folders and for runs that have no test photo in common.
        OptionError: For a `by` field that configs.csv does not have.
    """
    loaded, taken = _loaded(runs, options)
    shared, choose, names = share(loaded), chosen_by(loaded, options.choose), names_of(loaded)
    ranked = entries(loaded, names, choose)
    best, test = ranked[0], shared.common
    paired = _paired(ranked, test, options)
    resamples = paired.resamples
    reference = _judge(best, test, resamples)
    paired.add(reference)
    candidates = (
        _candidate(best, reference, paired),
        *(_candidate(entry, _judge(entry, test, resamples), paired, best.name) for entry in ranked[1:]),
    )
    base = _majority_judged(best.run, test, resamples)
    paired.add(base)
    against = replace(paired.pair(best.name, base.name), second="majority")
    by_rows = best_by_field(loaded, options.by, names, choose)
    return Comparison(
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        runs=tuple(facts(run) for run in loaded),
        parts=Counter(best.run.parts.tolist()) | {"test": len(test.photos)},
        groups=resamples.count,
        resamples=options.bootstrap,
        candidates=candidates,
        majority=_majority(best.run, base),
        best=best.name,
        by=options.by,
        by_rows=by_rows,
        policies=policies(best.run, best.config_id, reference),
        confusions=confusions(reference),
        reliability=reliabilities(*reference.test, best.run.schema),
        curves=tuple(curve for e in ranked if (curve := curves(e.run, e.config_id, e.name)) is not None),
        notes=(
            *taken,
            *alike(reference),
            *notes(loaded, candidates, len(test.photos), choose),
            *given_notes(options.notes),
        ),
        pairs=paired.pairs([entry.name for entry in ranked]),
        by_differences=differences_by_field(options.by, by_rows, paired),
        values=value_rows(best.run, reference),
        evaluated=tuple(evaluation(run) for run in loaded if run.evaluated is not None),
        coverage=tuple(row for entry in ranked for row in _coverage(entry, best, test)),
        calibration=calibration_rows(best.run, best.config_id, reference, test.of[best.run.path].order),
        by_note=nothing_alike(options.by, by_rows),
        left_out=shared.left_out,
        photo_sets=_photo_sets(shared, ranked, options),
        against_majority=against,
        choose=choose,
        headline=headline(against, len(test.photos), resamples.count),
        applies=applies(
            best.name, reference.D, base.D, (*reference.test[1:], best.run.schema, reference.unseen), resamples
        ),
    )


def _loaded(runs: Sequence[Path], options: CompareOptions) -> tuple[list[Run], tuple[str, ...]]:
    """The runs that are meant, and what to say of folders that stand for several."""
    if options.bootstrap < 1:
        raise OptionError(f"--bootstrap must be at least 1, found {options.bootstrap}")
    if not runs:
        raise RunError("no run folder given; compare needs at least one")
    folders, taken = runs_in(runs)
    return [read_run(path) for path in folders], tuple(taken)


def _paired(entries: Sequence[Entry], test: JudgingPhotos, options: CompareOptions) -> PairedComparison:
    """Nobody judged yet, on resamples of these photos by the products of the first entry's run."""
    run = entries[0].run
    resamples = Bootstrap(run.groups[test.of[run.path].rows], options.bootstrap, options.seed)
    named = {entry.name: entry for entry in entries}
    return PairedComparison(lambda name: _judge(named[name], test, resamples), resamples)


def _judge(entry: Entry, test: JudgingPhotos, resamples: Bootstrap) -> Judged:
    run, at = entry.run, test.of[entry.run.path]
    P = run.probabilities(entry.config_id, "test")[at.order]
    D = decide(P, run.schema, run.thresholds(entry.config_id))
    return judged(entry.name, at.predicted(P, D, run.schema), resamples)


def _photo_sets(shared: Shared, entries: Sequence[Entry], options: CompareOptions) -> tuple[PhotoSet, ...]:
    """The best of each run, newest run first, on the photos of all runs and on those of some; none when all are one.

    Of two runs made within one second, which is as fine as their time is kept, the one named later counts as newer.
    """
    if all(len(run.rows("test")) == len(shared.common.photos) for run in shared.common.runs):
        return ()
    best: dict[Path, Entry] = {}
    for entry in entries:
        best.setdefault(entry.run.path, entry)
    last_first = [best[run.path] for run in reversed(shared.common.runs) if run.path in best]
    newest = sorted(last_first, key=lambda entry: str(entry.run.info.get("created", "")), reverse=True)
    found = []
    for test in (shared.common, *shared.apart):
        having = [entry for entry in newest if entry.run.path in test.of]
        if having:
            found.append(_photo_set(having, test, options, everybody=test is shared.common))
    return tuple(found)


def _photo_set(having: Sequence[Entry], test: JudgingPhotos, options: CompareOptions, everybody: bool) -> PhotoSet:
    paired = _paired(having, test, options)
    figures = []
    for entry in having:
        found = _judge(entry, test, paired.resamples)
        paired.add(found)
        figures.append(OnPhotos(entry.name, found.metrics, _intervals(found.figures, found.metrics)))
    base = _majority(having[0].run, _majority_judged(having[0].run, test, paired.resamples))
    return PhotoSet(
        photos=len(test.photos),
        groups=paired.resamples.count,
        runs=tuple(entry.run.name for entry in having),
        everybody=everybody,
        best=tuple(figures),
        majority=OnPhotos(base.name, base.metrics, base.intervals),
        pairs=paired.pairs([entry.name for entry in having]),
    )


def _coverage(entry: Entry, best: Entry, test: JudgingPhotos) -> tuple[Coverage, ...]:
    """How much can be filled in, by every model of an evaluation, else by the best one."""
    run, at = entry.run, test.of[entry.run.path]
    if run.evaluated is None and entry is not best:
        return ()
    targets = AT_PRECISION if run.evaluated is None else run.evaluated["at_precision"]
    P = run.probabilities(entry.config_id, "test")[at.order]
    return coverage(entry.name, (P, at.Y, at.mask), run.schema, run.groups[at.rows], targets)


def _candidate(entry: Entry, result: Judged, paired: PairedComparison, best: str | None = None) -> Candidate:
    """The record of a candidate.

    Args:
        best: The name of the best one, None for itself.
    """
    paired.add(result)
    run = entry.run
    settings = run.configs.get(entry.config_id, {})
    return Candidate(
        name=entry.name,
        run=run.name,
        config_id=entry.config_id,
        settings=dict(settings),
        backbone=run.settings(entry.config_id)["backbone"],
        random_weights=run.random_weights,
        policy=str(run.decisions[entry.config_id]["chosen"]),
        validation_score=entry.score,
        seconds=number(settings.get("seconds")),
        metrics=result.metrics,
        intervals=_intervals(result.figures, result.metrics),
        attribute_intervals=_attribute_intervals(result.figures, result.metrics),
        differences={} if best is None else paired.differences(entry.name, best),
        best=best is None,
        model=_model_file(run, entry.config_id),
    )


def _model_file(run: Run, config_id: str) -> str:
    if run.evaluated is not None:
        return str(run.evaluated["model"])
    model = run.path / "models" / f"{config_id}.joblib"
    return str(model) if model.is_file() else ""


def _majority_judged(run: Run, test: JudgingPhotos, resamples: Bootstrap) -> Judged:
    at, counts = test.of[run.path], run.training_counts
    if counts is None:
        true, known = known_cells(at.Y, at.mask, run.schema)
        counts = true.sum(axis=0), known.sum(axis=0)
    P, D = majority_of_counts(*counts, run.schema).predict(len(test.photos))
    # No candidate can have this name.
    return judged("", at.predicted(P, D, run.schema), resamples)


def _majority(run: Run, baseline: Judged) -> Candidate:
    return Candidate(
        name="majority",
        run=run.name,
        config_id="majority",
        settings={},
        backbone="",
        random_weights=False,
        policy="",
        validation_score=None,
        seconds=None,
        metrics=baseline.metrics,
        intervals=_intervals(baseline.figures, baseline.metrics),
        attribute_intervals=_attribute_intervals(baseline.figures, baseline.metrics),
        differences={},
        best=False,
        model="",
    )


def _intervals(figures: Resampled, metrics: Metrics) -> Mapping[str, Interval]:
    spans = {name: interval_of(name, figures.overall[name], getattr(metrics.overall, name)) for name in OVERALL}
    return {name: span for name, span in spans.items() if span is not None}


def _attribute_intervals(figures: Resampled, metrics: Metrics) -> Mapping[str, Mapping[str, Interval]]:
    intervals: dict[str, dict[str, Interval]] = {}
    for i, row in enumerate(metrics.attributes):
        spans = {name: interval_of(name, figures.attributes[name][:, i], getattr(row, name)) for name in PER_ATTRIBUTE}
        intervals[row.attribute] = {name: span for name, span in spans.items() if span is not None}
    return intervals
