"""What the report shows beside the table: facts about runs, notes, and the best candidate seen closer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.arrays import Bool, Float, Float32, Int64, UInt8
from pipeline.catalogue.labels import UNKNOWN, LabelSchema, column_name
from pipeline.comparison.pairs import Judged
from pipeline.comparison.records import NOTHING, OTHERS, Candidate, Confusion, Curve, PolicyRow, Reliability, RunFacts
from pipeline.errors import RunError
from pipeline.evaluation.metrics import evaluate, known_cells
from pipeline.evaluation.ranking import reliability
from pipeline.evaluation.thresholds import decide
from pipeline.experiment.run_reader import Run, number
from pipeline.features.near_duplicates import sentence

CONFUSION_VALUES = 24
"""A confusion matrix of more values than this is no picture any more; the less frequent ones are taken together."""

MISTAKES = 25


def facts(run: Run) -> RunFacts:
    """What a run's run.json says of data, backbone and dropped rows."""
    info = run.info
    cache_key = info.get("cache_key") or {}
    data = (info.get("options") or {}).get("data")
    source = data.get("data") if isinstance(data, Mapping) else data
    return RunFacts(
        name=run.name,
        path=str(run.path),
        created=str(info.get("created", "")),
        data=str(source or ""),
        backbone=str(cache_key.get("architecture", "")),
        weights_source=str(info.get("weights_source", "")),
        random_weights=run.random_weights,
        blocks=tuple(f"{b['name']} ({b['dim']})" for b in info.get("blocks") or ()),
        attributes=run.schema.attributes,
        findings={str(kind): int(count) for kind, count in (info.get("findings") or {}).items()},
        not_measurable=tuple(_label(entry) for entry in info.get("not_measurable") or ()),
        configurations=len(run.configs),
    )


def notes(runs: Sequence[Run], candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Sentences a reader of the figures must not miss."""
    found = []
    for run in runs:
        if run.random_weights:
            found.append(f"{run.name} was made with RANDOM backbone weights: its figures say nothing about quality.")
        if near := sentence(run.info.get("near_duplicates")):
            found.append(f"{run.name}: {near}.")
        lost = int((run.info.get("findings") or {}).get("never-in-train", 0))
        if lost and "unseen" not in run.info:
            found.append(
                f"{run.name} was fit by an earlier version, which did not store the {lost} values that only test photos"
                " have: they are not counted, which flatters every figure; fit it again."
            )
    best = next(candidate for candidate in candidates if candidate.best)
    fewer = [c.name for c in candidates if set(c.attributes) != set(best.attributes)]
    if fewer:
        found.append(
            f"{len(fewer)} of {len(candidates)} candidates predict other attributes than the best; their overall"
            " figures are over their own attributes, their differences over the attributes they share with the best."
        )
    if best.metrics.overall.photos < 500:
        found.append(f"Only {best.metrics.overall.photos} test photos: look at the intervals before the ranks.")
    unscored = [row.attribute for row in best.metrics.attributes if row.photos == 0]
    if unscored:
        found.append(f"No test photo is known for {', '.join(unscored)}; left out of every mean.")
    return tuple(found)


def given_notes(path: Path | None) -> tuple[str, ...]:
    """The lines of a text file; RunError when it cannot be read."""
    if path is None:
        return ()
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"--notes {path} cannot be read: {error}") from error


def policies(run: Run, config_id: str, test: Judged) -> tuple[PolicyRow, ...]:
    """One candidate under each of its stored threshold policies.

    Args:
        test: The same candidate under its chosen one.
    """
    P, Y, mask = test.test
    entry = run.decisions[config_id]
    rows = []
    for name, stored in entry["policies"].items():
        D = decide(P, run.schema, run.thresholds(config_id, name))
        score = float(stored["validation_score"])
        metrics = evaluate(P, D, Y, mask, run.schema, test.unseen)
        rows.append(PolicyRow(name, name == entry["chosen"], score, metrics))
    return tuple(rows)


def confusions(D: Bool, Y: UInt8, mask: Bool, schema: LabelSchema) -> tuple[Confusion, ...]:
    """Confusion matrices of the single-valued attributes, at most `CONFUSION_VALUES` values each; arrays are (n, L)."""
    true, known = known_cells(Y, mask, schema)
    found = []
    for attribute, values, columns, single in zip(
        schema.attributes, schema.values, schema.slices, schema.single, strict=True
    ):
        real = [j for j, value in enumerate(values) if value != UNKNOWN]
        at = np.array(real, np.intp) + columns.start
        rows = known[:, at].any(axis=1) & true[:, at].any(axis=1)
        if not single or not rows.any():
            continue
        decided = np.concatenate([D[:, at], ~D[:, at].any(axis=1, keepdims=True)], axis=1)
        counts = true[rows][:, at].astype(np.int64).T @ decided[rows].astype(np.int64)
        names = [values[j] for j in real]
        mistakes = _mistakes(counts, names)
        if len(names) > CONFUSION_VALUES:
            counts, names = _most_frequent(counts, names)
        cells = tuple(tuple(int(count) for count in row) for row in counts)
        found.append(Confusion(attribute, tuple(names), cells, mistakes))
    return tuple(found)


def _most_frequent(counts: Int64, names: Sequence[str]) -> tuple[Int64, list[str]]:
    """The matrix (V, V + 1) with all but the most frequent values added up in one row and one column."""
    kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[: CONFUSION_VALUES - 1])
    goes_to = np.full(len(names), len(kept))
    goes_to[kept] = np.arange(len(kept))
    small = np.zeros((len(kept) + 1, len(kept) + 2), np.int64)
    columns = np.append(goes_to, len(kept) + 1)
    np.add.at(small, (goes_to[:, None], columns[None, :]), counts)
    return small, [*(names[j] for j in kept), OTHERS]


def _mistakes(counts: Int64, names: Sequence[str]) -> tuple[tuple[str, str, int], ...]:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    decided = [*names, NOTHING]
    order = np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES]
    pairs = [divmod(int(at), len(decided)) for at in order]
    return tuple((names[i], decided[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j])


def reliabilities(P: Float32, Y: UInt8, mask: Bool, schema: LabelSchema) -> tuple[Reliability, ...]:
    """Calibration of every attribute that is known on some photo; arrays are (n, L)."""
    true, known = known_cells(Y, mask, schema)
    found = []
    for attribute, columns, single in zip(schema.attributes, schema.slices, schema.single, strict=True):
        confidence, correct, count = reliability(P[:, columns], true[:, columns], known[:, columns], single)
        if count.sum():
            found.append(
                Reliability(attribute, _optional(confidence), _optional(correct), tuple(int(c) for c in count))
            )
    return tuple(found)


def curves(run: Run, config_id: str, name: str) -> Curve | None:
    """Loss per epoch of one configuration; None when its history has none (baselines)."""
    parts: dict[str, list[tuple[float, float]]] = {"train": [], "validation": []}
    for row in run.history:
        if row.get("config_id") == config_id and row.get("split") in parts:
            epoch, loss = number(row.get("epoch")), number(row.get("loss"))
            if epoch is not None and loss is not None:
                parts[row["split"]].append((epoch, loss))
    if len(parts["train"]) < 2 and len(parts["validation"]) < 2:
        return None
    best = number(run.configs.get(config_id, {}).get("best_epoch"))
    return Curve(name, tuple(sorted(parts["train"])), tuple(sorted(parts["validation"])), best)


def _label(entry: object) -> str:
    return column_name(*entry) if isinstance(entry, list | tuple) else str(entry)


def _optional(figures: Float) -> tuple[float | None, ...]:
    return tuple(float(figure) if np.isfinite(figure) else None for figure in figures)
