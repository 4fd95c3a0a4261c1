"""The stage that judges: joins run folders with the truth of their test photos. Only here are test metrics computed.

Candidates are the configurations whose probabilities a run kept, each with the thresholds chosen on validation. The
best is the one with the highest *validation* score, or what its run preferred to that within noise; the test figures
only say how good it and the others are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from pipeline.arrays import Bool, Float32, Positions
from pipeline.comparison.by_field import best_by_field, differences_by_field
from pipeline.comparison.details import confusions, curves, facts, given_notes, notes, policies, reliabilities
from pipeline.comparison.pairs import Judged, PairedComparison, Predicted, judged
from pipeline.comparison.records import Candidate, Comparison, Interval
from pipeline.comparison.same_rows import check_same_rows
from pipeline.comparison.table import table
from pipeline.comparison.values import calibration_rows, value_rows
from pipeline.errors import OptionError, RunError
from pipeline.evaluation.bootstrap import OVERALL, PER_ATTRIBUTE, Bootstrap, Resampled, interval_of
from pipeline.evaluation.figures import Metrics
from pipeline.evaluation.majority import majority_baseline
from pipeline.evaluation.thresholds import decide
from pipeline.experiment.run_reader import Run, number, read_run
from pipeline.options import CompareOptions

__all__ = ["compare", "table"]


@dataclass(frozen=True)
class _Entry:
    """One configuration of one run, not judged yet."""

    name: str
    run: Run
    config_id: str

    @property
    def rank(self) -> tuple[int, float, bool]:
        """Most attributes first, then the highest validation score; what a run chose stands before its own others.

        A run may choose an ensemble whose member is ahead within noise.
        """
        chosen = self.run.info.get("best") == self.config_id
        scores = [self.run.score(name) for name in (self.run.predicted if chosen else (self.config_id,))]
        best = max((score for score in scores if score is not None and not np.isnan(score)), default=-np.inf)
        return len(self.run.schema.attributes), best, chosen


def compare(runs: Sequence[Path], options: CompareOptions) -> Comparison:
    """Judge every candidate of these run folders on their common test photos.

    Raises:
        RunError: For incomplete folders and for runs on different splits or labels.
        OptionError: For a `by` field that configs.csv does not have.
    """
    if options.bootstrap < 1:
        raise OptionError(f"--bootstrap must be at least 1, found {options.bootstrap}")
    loaded = [read_run(path) for path in dict.fromkeys(runs)]
    if not loaded:
        raise RunError("no run folder given; compare needs at least one")
    check_same_rows(loaded)
    entries = sorted(_entries(loaded), key=lambda entry: entry.rank, reverse=True)
    best = entries[0]
    resamples = Bootstrap(best.run.groups[_test_rows(best.run)], options.bootstrap, options.seed)
    named = {entry.name: entry for entry in entries}
    paired = PairedComparison(lambda name: _judge(named[name], resamples), resamples)
    reference = _judge(best, resamples)
    paired.add(reference)
    candidates = (
        _candidate(best, reference, paired),
        *(_candidate(entry, _judge(entry, resamples), paired, best.name) for entry in entries[1:]),
    )
    by_rows = best_by_field(loaded, options.by, {(e.run.path, e.config_id): e.name for e in entries})
    return Comparison(
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        runs=tuple(facts(run) for run in loaded),
        parts=dict(Counter(best.run.parts.tolist())),
        groups=resamples.count,
        resamples=options.bootstrap,
        candidates=candidates,
        majority=_majority(best.run, resamples),
        best=best.name,
        by=options.by,
        by_rows=by_rows,
        policies=policies(best.run, best.config_id, reference),
        confusions=confusions(reference),
        reliability=reliabilities(*reference.test, best.run.schema),
        curves=tuple(curve for e in entries if (curve := curves(e.run, e.config_id, e.name)) is not None),
        notes=(*notes(loaded, candidates), *given_notes(options.notes)),
        pairs=paired.pairs([entry.name for entry in entries]),
        by_differences=differences_by_field(options.by, by_rows, paired),
        values=value_rows(best.run, reference),
        calibration=calibration_rows(best.run, best.config_id, reference, _test_order(best.run)),
    )


def _entries(runs: Sequence[Run]) -> list[_Entry]:
    names = Counter(run.name for run in runs)
    entries = []
    for run in runs:
        prefix = "" if len(runs) == 1 else f"{run.name if names[run.name] == 1 else run.path}/"
        entries += [_Entry(f"{prefix}{config_id}", run, config_id) for config_id in run.predicted]
    if not entries:
        raise RunError(f"{runs[0].path} holds no predictions; run fit-heads again (it keeps the best of each head)")
    return entries


def _test_rows(run: Run) -> Positions:
    """Test rows in the order of their photos' names, which is the same in every run."""
    rows = run.rows("test")
    return rows[np.argsort([run.photos[i] for i in rows], kind="stable")]


def _test_order(run: Run) -> Positions:
    """Where the rows of `_test_rows` stand among the run's test rows."""
    return np.searchsorted(run.rows("test"), _test_rows(run))


def _judge(entry: _Entry, resamples: Bootstrap) -> Judged:
    run, rows = entry.run, _test_rows(entry.run)
    P = run.probabilities(entry.config_id, "test")[_test_order(run)]
    D = decide(P, run.schema, run.thresholds(entry.config_id))
    return judged(entry.name, _predicted(run, rows, P, D), resamples)


def _predicted(run: Run, rows: Positions, P: Float32, D: Bool) -> Predicted:
    return Predicted(P, D, run.Y[rows], run.mask[rows], run.schema, run.unseen.take(rows))


def _candidate(entry: _Entry, result: Judged, paired: PairedComparison, best: str | None = None) -> Candidate:
    """The record of a candidate.

    Args:
        best: The name of the best one, None for itself.
    """
    paired.add(result)
    run = entry.run
    settings = run.configs.get(entry.config_id, {})
    model = run.path / "models" / f"{entry.config_id}.joblib"
    return Candidate(
        name=entry.name,
        run=run.name,
        config_id=entry.config_id,
        settings=dict(settings),
        backbone=run.facts["backbone"],
        random_weights=run.random_weights,
        policy=str(run.decisions[entry.config_id]["chosen"]),
        validation_score=run.score(entry.config_id),
        seconds=number(settings.get("seconds")),
        metrics=result.metrics,
        intervals=_intervals(result.figures, result.metrics),
        attribute_intervals=_attribute_intervals(result.figures, result.metrics),
        differences={} if best is None else paired.differences(entry.name, best),
        best=best is None,
        model=str(model) if model.is_file() else "",
    )


def _majority(run: Run, resamples: Bootstrap) -> Candidate:
    train, test = run.rows("train"), _test_rows(run)
    P, D = majority_baseline(run.Y[train], run.mask[train], run.schema).predict(len(test))
    baseline = judged("majority", _predicted(run, test, P, D), resamples)
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
