"""The stage that judges: joins run folders with the truth of their test photos. Only here are test metrics computed.

Candidates are the configurations whose probabilities a run kept, each with the thresholds chosen on validation. The
best is the one with the highest *validation* score; the test figures only say how good it and the others are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.bootstrap import OVERALL, PER_KEY, Bootstrap, Resampled, interval
from pipeline.catalogue.labels import LabelSchema
from pipeline.comparison import Candidate, Comparison, Difference, Interval
from pipeline.comparison_by import best_by_field
from pipeline.comparison_details import confusions, curves, facts, given_notes, notes, policies, reliabilities
from pipeline.comparison_table import table
from pipeline.errors import OptionError, RunError
from pipeline.figures import Metrics
from pipeline.metrics import evaluate, majority_baseline, photo_sums
from pipeline.options import CompareOptions
from pipeline.runs import Run, number, read_run
from pipeline.same_rows import check_same_rows
from pipeline.thresholds import decide

__all__ = ["compare", "table"]

DIFFERENCES = ("accuracy", "key_macro_f1", "micro_f1", "iou", "all_keys_right")

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Entry:
    """One configuration of one run, not judged yet."""

    name: str
    run: Run
    config_id: str

    @property
    def rank(self) -> tuple[int, float]:
        score = self.run.score(self.config_id)
        return len(self.run.schema.keys), -np.inf if score is None or np.isnan(score) else score


@dataclass(frozen=True)
class _Judged:
    """A candidate's arrays of the test photos, each (n, L), and its figures on every resample."""

    entry: _Entry
    schema: LabelSchema
    P: Float32
    D: Bool
    Y: npt.NDArray[np.uint8]
    mask: Bool
    metrics: Metrics
    figures: Resampled

    @property
    def test(self) -> tuple[Float32, npt.NDArray[np.uint8], Bool]:
        return self.P, self.Y, self.mask


def compare(runs: Sequence[Path], options: CompareOptions) -> Comparison:
    """Judge every candidate of these run folders on their common test photos.

    Raises RunError for incomplete folders and for runs on different splits or labels, OptionError for a `by` field
    that configs.csv does not have.
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
    reference = _judge(best, resamples)
    others = (_candidate(_judge(entry, resamples), reference, resamples) for entry in entries[1:])
    candidates = (_candidate(reference, reference, resamples), *others)
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
        by_rows=best_by_field(loaded, options.by, {(e.run.path, e.config_id): e.name for e in entries}),
        policies=policies(best.run, best.config_id, reference.test),
        confusions=confusions(reference.D, reference.Y, reference.mask, best.run.schema),
        reliability=reliabilities(*reference.test, best.run.schema),
        curves=tuple(curve for e in entries if (curve := curves(e.run, e.config_id, e.name)) is not None),
        notes=(*notes(loaded, candidates), *given_notes(options.notes)),
    )


def _entries(runs: Sequence[Run]) -> list[_Entry]:
    names = Counter(run.name for run in runs)
    found = []
    for run in runs:
        prefix = "" if len(runs) == 1 else f"{run.name if names[run.name] == 1 else run.path}/"
        found += [_Entry(f"{prefix}{config_id}", run, config_id) for config_id in run.predicted]
    if not found:
        raise RunError(f"{runs[0].path} holds no predictions; run fit-heads again (it keeps the best of each head)")
    return found


def _test_rows(run: Run) -> npt.NDArray[np.intp]:
    """Test rows in the order of their photos' names, which is the same in every run."""
    rows = run.rows("test")
    return rows[np.argsort([run.photos[i] for i in rows], kind="stable")]


def _judge(entry: _Entry, resamples: Bootstrap) -> _Judged:
    run, rows = entry.run, _test_rows(entry.run)
    P = run.probabilities(entry.config_id, "test")[np.searchsorted(run.rows("test"), rows)]
    D = decide(P, run.schema, run.thresholds(entry.config_id))
    return _figures(entry, run.schema, (P, D, run.Y[rows], run.mask[rows]), resamples)


def _figures(
    entry: _Entry,
    schema: LabelSchema,
    arrays: tuple[Float32, Bool, npt.NDArray[np.uint8], Bool],
    resamples: Bootstrap,
) -> _Judged:
    metrics = evaluate(*arrays, schema)
    return _Judged(entry, schema, *arrays, metrics, resamples.figures(photo_sums(*arrays, schema), schema))


def _candidate(judged: _Judged, best: _Judged, resamples: Bootstrap) -> Candidate:
    entry, run = judged.entry, judged.entry.run
    settings = run.configs.get(entry.config_id, {})
    model = run.path / "models" / f"{entry.config_id}.joblib"
    key = run.info.get("cache_key") or {}
    return Candidate(
        name=entry.name,
        run=run.name,
        config_id=entry.config_id,
        settings=dict(settings),
        backbone=str(key.get("architecture", "")),
        random_weights=run.random_weights,
        policy=str(run.decisions[entry.config_id]["chosen"]),
        validation_score=run.score(entry.config_id),
        seconds=number(settings.get("seconds")),
        metrics=judged.metrics,
        intervals=_intervals(judged.figures),
        key_intervals=_key_intervals(judged.figures, judged.schema),
        differences={} if judged is best else _differences(judged, best, resamples),
        best=judged is best,
        model=str(model) if model.is_file() else "",
    )


def _majority(run: Run, resamples: Bootstrap) -> Candidate:
    train, test, schema = run.rows("train"), _test_rows(run), run.schema
    P, D = majority_baseline(run.Y[train], run.mask[train], schema).predict(len(test))
    figures = resamples.figures(photo_sums(P, D, run.Y[test], run.mask[test], schema), schema)
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
        metrics=evaluate(P, D, run.Y[test], run.mask[test], schema),
        intervals=_intervals(figures),
        key_intervals=_key_intervals(figures, schema),
        differences={},
        best=False,
        model="",
    )


def _intervals(figures: Resampled) -> Mapping[str, Interval]:
    found = {name: interval(figures.overall[name]) for name in OVERALL}
    return {name: span for name, span in found.items() if span is not None}


def _key_intervals(figures: Resampled, schema: LabelSchema) -> Mapping[str, Mapping[str, Interval]]:
    found: dict[str, dict[str, Interval]] = {}
    for i, key in enumerate(schema.keys):
        spans = {name: interval(figures.keys[name][:, i]) for name in PER_KEY}
        found[key] = {name: span for name, span in spans.items() if span is not None}
    return found


def _differences(judged: _Judged, best: _Judged, resamples: Bootstrap) -> Mapping[str, Difference]:
    """Paired differences to the best candidate, on the keys that both predict."""
    shared = [key for key in best.schema.keys if key in judged.schema.keys]
    if not shared:
        return {}
    mine, theirs = _restricted(judged, shared, resamples), _restricted(best, shared, resamples)
    found = {}
    for name in DIFFERENCES:
        here, there = getattr(mine.metrics.overall, name), getattr(theirs.metrics.overall, name)
        span = interval(mine.figures.overall[name] - theirs.figures.overall[name])
        if here is not None and there is not None and span is not None:
            found[name] = Difference(here - there, *span, within_noise=span[0] <= 0.0 <= span[1])
    return found


def _restricted(judged: _Judged, keys: Sequence[str], resamples: Bootstrap) -> _Judged:
    """The same candidate on some of its keys."""
    if set(keys) == set(judged.schema.keys):
        return judged
    schema, at = subset(judged.schema, keys)
    arrays = (judged.P[:, at], judged.D[:, at], judged.Y[:, at], judged.mask[:, at])
    return _figures(judged.entry, schema, arrays, resamples)


def subset(schema: LabelSchema, keys: Sequence[str]) -> tuple[LabelSchema, npt.NDArray[np.intp]]:
    """The schema of some keys, in the order given, and the positions of their columns. The gate is left behind."""
    at = [schema.keys.index(key) for key in keys]
    columns = np.concatenate([np.arange(schema.slices[i].start, schema.slices[i].stop) for i in at])
    part = replace(
        schema,
        keys=tuple(keys),
        values=tuple(schema.values[i] for i in at),
        single=tuple(schema.single[i] for i in at),
        gate=None,
        category_key=None,
    )
    return part, columns.astype(np.intp)
