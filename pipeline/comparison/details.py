"""What the report shows beside the table: facts about runs, notes, and the best candidate seen closer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.arrays import Bool, Float, Float32, Int64, Positions, UInt8
from pipeline.catalogue.labels import UNKNOWN, LabelSchema, column_name
from pipeline.comparison.pairs import DECIDING, Judged, Predicted
from pipeline.comparison.records import (
    NOTHING,
    OTHERS,
    Candidate,
    Confusion,
    Curve,
    Difference,
    Evaluated,
    Pair,
    PolicyRow,
    Reliability,
    RunFacts,
)
from pipeline.errors import RunError, counted
from pipeline.evaluation.bootstrap import FEW_PRODUCTS
from pipeline.evaluation.metrics import evaluate, known_cells
from pipeline.evaluation.ranking import reliability
from pipeline.evaluation.thresholds import decide
from pipeline.experiment.run_reader import Run, number
from pipeline.features.near_duplicates import sentence

CONFUSION_VALUES = 24
"""A confusion matrix of more values than this is no picture any more; the less frequent ones are taken together."""

MISTAKES = 25

FEW_PHOTOS = 500
"""Test photos below which ranks are mostly noise."""

BETTER = "first better"
_NAMES = {"accuracy": "attribute acc", "key_macro_f1": "attribute F1"}


def facts(run: Run) -> RunFacts:
    """What a run's run.json says of data, backbone and dropped rows."""
    info = run.info
    data = (info.get("options") or {}).get("data")
    source = data.get("data") if isinstance(data, Mapping) else data
    return RunFacts(
        name=run.name,
        path=str(run.path),
        created=str(info.get("created", "")),
        data=str(source or ""),
        backbone=run.facts["backbone"],
        weights_source=run.facts["weights"],
        random_weights=run.random_weights,
        blocks=tuple(f"{b['name']} ({b['dim']})" for b in info.get("blocks") or ()),
        attributes=run.schema.attributes,
        findings={str(kind): int(count) for kind, count in (info.get("findings") or {}).items()},
        not_measurable=tuple(_label(entry) for entry in info.get("not_measurable") or ()),
        configurations=len(run.configs),
    )


def evaluation(run: Run) -> Evaluated:
    """What a folder of `evaluate` says of the model it tried."""
    said = run.evaluated or {}
    return Evaluated(run.name, str(said["model"]), str(said.get("sha256", "")), said.get("training") is not None)


def notes(runs: Sequence[Run], candidates: Sequence[Candidate], photos: int, choose: str) -> tuple[str, ...]:
    """Sentences a reader of the figures must not miss.

    Args:
        runs, candidates: All of them.
        photos: Test photos that judge all candidates.
        choose: What these are ranked by.
    """
    sentences = list(_other_choices(runs, choose))
    for run in runs:
        if run.evaluated is not None:
            sentences += [f"{note[:1].upper()}{note[1:]}." for note in run.evaluated["notes"]]
            if run.training_counts is None:
                sentences.append(
                    f"{run.name} does not say how common its values were in training: its majority baseline is that of"
                    " the evaluated photos themselves, which is the best that such a baseline can be."
                )
        sentences += _of_final(run)
        if run.random_weights:
            sentences.append(
                f"{run.name} was made with RANDOM backbone weights: its figures say nothing about quality."
            )
        if near := sentence(run.info.get("near_duplicates")):
            sentences.append(f"{run.name}: {near}.")
        lost = int((run.info.get("findings") or {}).get("never-in-train", 0))
        if lost and "unseen" not in run.info:
            sentences.append(
                f"{run.name} was fit by an earlier version, which did not store the {counted(lost, 'value')} that only"
                f" test photos have: {'it is' if lost == 1 else 'they are'} not counted, which flatters every figure;"
                " fit it again."
            )
    best = next(candidate for candidate in candidates if candidate.best)
    fewer = [c.name for c in candidates if set(c.attributes) != set(best.attributes)]
    if fewer:
        sentences.append(
            f"{len(fewer)} of {len(candidates)} candidates predict other attributes than the best; their overall"
            " figures are over their own attributes, their differences over the attributes they share with the best."
        )
    if photos < FEW_PHOTOS:
        known = best.metrics.overall.photos
        lack = "" if known == photos else f" ({known} of them with a known label, which alone can count)"
        sentences.append(f"Only {counted(photos, 'test photo')}{lack}: look at the intervals before the ranks.")
    unscored = [row.attribute for row in best.metrics.attributes if row.photos == 0]
    if unscored:
        sentences.append(f"No test photo is known for {', '.join(unscored)}; left out of every mean.")
    return tuple(dict.fromkeys(sentences))


def _other_choices(runs: Sequence[Run], choose: str) -> Iterator[str]:
    others = [run for run in runs if run.evaluated is None and run.choose != choose]
    if others:
        named = ", ".join(f"{run.name} by {run.choose}" for run in others)
        yield (
            f"Ranked by {choose} here, but chosen by another figure in {named}: the thresholds of its models, and"
            " which ensembles there are, follow that one."
        )


def headline(against_majority: Pair, photos: int, products: int) -> tuple[str, ...]:
    """Sentences for the top of the table and of the page; none when there is nothing to warn of.

    Args:
        against_majority: The best one and the majority baseline, on the same resamples.
        photos: Test photos.
        products: Products among them.
    """
    return tuple(_warnings(against_majority, photos, products))


def _warnings(against: Pair, photos: int, products: int) -> Iterator[str]:
    if against.verdict != BETTER:
        figures = ", ".join(_cell(name, d) for name in DECIDING if (d := against.differences.get(name)) is not None)
        yield (
            f"{against.first} is not shown to be better than always naming the most common value"
            f" ({figures or 'no figure could be taken'})."
        )
    if products < FEW_PRODUCTS:
        yield (
            f"{counted(photos, 'test photo')} of {counted(products, 'product')} can tell next to nothing: even without"
            f" a mistake on any, {min(100, round(300 / max(products, 1)))} % of all products may be wrong."
        )


def _cell(name: str, found: Difference) -> str:
    return f"{_NAMES[name]} {found.value:+.3f} [{found.low:+.3f} {found.high:+.3f}]"


def _of_final(run: Run) -> list[str]:
    """That a model of the run has learnt from its test photos, and which figures it has all the same."""
    fit = (run.info.get("options") or {}).get("fit")
    if run.evaluated is not None or not isinstance(fit, Mapping) or not fit.get("final"):
        return []
    photos, test = counted(len(run.photos), "photo"), counted(len(run.rows("test")), "test photo")
    by = f"by the figures of {run.info.get('best')}"
    return [f"{run.name}: models/final.joblib was fit on all {photos}; measured before on {test}, {by}."]


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


def confusions(predicted: Predicted) -> tuple[Confusion, ...]:
    """Confusion matrices of the single-valued attributes, at most `CONFUSION_VALUES` values each."""
    schema, matrices = predicted.schema, []
    true, known = known_cells(predicted.Y, predicted.mask, schema)
    for attribute, values, columns, single in zip(
        schema.attributes, schema.values, schema.slices, schema.single, strict=True
    ):
        real = [j for j, value in enumerate(values) if value != UNKNOWN]
        at = np.array(real, np.intp) + columns.start
        never = [j for j in predicted.unseen.columns(attribute) if predicted.unseen.Y[:, j].any()]
        rows, of_unseen = known[:, at].any(axis=1, keepdims=True) & true[:, at], predicted.unseen.Y[:, never]
        if not single or not (rows.any() or of_unseen.any()):
            continue
        D = predicted.D[:, at]
        decided = np.concatenate([D, ~D.any(axis=1, keepdims=True)], axis=1).astype(np.int64)
        counts, unseen = (cells.T.astype(np.int64) @ decided for cells in (rows, of_unseen))
        names, names_unseen = [values[j] for j in real], [predicted.unseen.labels[j][1] for j in never]
        matrices.append(_confusion(attribute, _Rows(names, counts), _Rows(names_unseen, unseen)))
    return tuple(matrices)


@dataclass(frozen=True)
class _Rows:
    """Rows of a confusion matrix: the true values' names, and counts (rows, V + 1) of what is decided."""

    names: list[str]
    counts: Int64

    def most_frequent(self, most: int) -> Positions:
        """Per row its place among those that stay, the last of which takes all the less frequent ones together."""
        if len(self.names) <= most:
            return np.arange(len(self.names))
        kept = np.sort(np.argsort(-self.counts.sum(axis=1), kind="stable")[: most - 1])
        goes_to = np.full(len(self.names), len(kept))
        goes_to[kept] = np.arange(len(kept))
        return goes_to

    def joined(self, rows: Positions, columns: Positions) -> _Rows:
        """The rows and columns that go to one place added up."""
        counts = np.zeros((rows.max(initial=-1) + 1, columns.max(initial=-1) + 1), np.int64)
        np.add.at(counts, (rows[:, None], columns[None, :]), self.counts)
        names = {int(at): name for at, name in zip(rows, self.names, strict=True)}
        several = np.bincount(rows) > 1
        return _Rows([OTHERS if several[at] else names[at] for at in range(len(counts))], counts)


def _confusion(attribute: str, trained: _Rows, unseen: _Rows) -> Confusion:
    places = trained.most_frequent(CONFUSION_VALUES)
    columns = np.append(places, places.max(initial=-1) + 1)
    few, few_unseen = trained.joined(places, columns), unseen.joined(unseen.most_frequent(CONFUSION_VALUES), columns)
    return Confusion(
        attribute,
        tuple(few.names),
        _whole(few.counts),
        _mistakes(trained, unseen),
        tuple(few_unseen.names),
        _whole(few_unseen.counts),
    )


def _mistakes(trained: _Rows, unseen: _Rows) -> tuple[tuple[str, str, int], ...]:
    wrong = np.concatenate([trained.counts, unseen.counts])
    right = np.arange(len(trained.names))
    wrong[right, right] = 0
    true, decided = [*trained.names, *unseen.names], [*trained.names, NOTHING]
    order = np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES]
    pairs = [divmod(int(at), len(decided)) for at in order]
    return tuple((true[i], decided[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j])


def _whole(counts: Int64) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(count) for count in row) for row in counts)


def reliabilities(P: Float32, Y: UInt8, mask: Bool, schema: LabelSchema) -> tuple[Reliability, ...]:
    """Calibration of every attribute that is known on some photo; arrays are (n, L)."""
    true, known = known_cells(Y, mask, schema)
    rows = []
    for attribute, columns, single in zip(schema.attributes, schema.slices, schema.single, strict=True):
        confidence, correct, count = reliability(P[:, columns], true[:, columns], known[:, columns], single)
        if count.sum():
            rows.append(Reliability(attribute, _optional(confidence), _optional(correct), tuple(int(c) for c in count)))
    return tuple(rows)


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
