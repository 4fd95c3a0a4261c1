"""What the tables and matrices of the page hold beyond the figures of the comparison itself."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.catalogue import split_column
from pipeline.catalogue.findings import KINDS
from pipeline.comparison.page.data import PageData
from pipeline.comparison.page.photos import NEVER
from pipeline.comparison.records import NOTHING, OTHERS, Candidate, Comparison, Confusion, Interval, ValueRow
from pipeline.evaluation.bootstrap import MACRO_INTERVALS
from pipeline.evaluation.figures import AttributeMetrics
from pipeline.evaluation.goals import MEANINGS
from pipeline.evaluation.metrics import FEW
from pipeline.options import CompareOptions
from pipeline.options.forms.words import PROGRAM, changed, words_of

SETTINGS = ("head", "optimizer", "lr", "weight_decay", "hidden", "dropout", "loss", "seed")
"""Settings that get a column in the table of all configurations, where they differ."""

MISTAKES = 12
"""Most frequent mistakes that stand beside a confusion matrix."""


@dataclass(frozen=True)
class Calibrated:
    """Mean calibration errors before and after, over `count` attributes; on `lower` of them it is lower after.

    Attributes:
        alone: Attributes that were left alone.
    """

    before: float
    after: float
    lower: int
    count: int
    alone: int


@dataclass(frozen=True)
class Count:
    """A cell of a confusion matrix: photos, their share of the row, and whether they were decided as they are."""

    count: int
    share: float
    right: bool


@dataclass(frozen=True)
class ConfusionTable:
    """One confusion matrix.

    Attributes:
        rows: True value to its cells.
        unseen: The same of values that training never saw.
        others: What the less frequent values together are called, "" when there are none.
    """

    attribute: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, list[Count]]]
    unseen: Sequence[tuple[str, list[Count]]]
    others: str
    mistakes: Sequence[tuple[str, str, str]]


def prepare(comparison: Comparison, data: PageData, options: CompareOptions) -> dict[str, object]:
    """What the templates of the sections name beside the comparison, the page's data and the options of both."""
    return {
        "scale": _scale(comparison.candidates),
        "per_attribute": _per_attribute(comparison),
        "values": _values(comparison.values),
        "settings": [name for name in SETTINGS if len({each.settings.get(name) for each in data.tried}) > 1],
        "ranked": sorted(data.tried, key=lambda each: -1.0 if each.score is None else each.score, reverse=True),
        "calibration": _calibration(comparison),
        "confusions": [_confusion(confusion) for confusion in comparison.confusions],
        "kinds": KINDS,
        "too_rare": _too_rare(comparison),
        "command": _command(comparison, options),
        "never": NEVER,
        "loading": _loading(comparison.best_candidate.model),
        "several_rates": _several_rates(data),
        "few": FEW,
        "chosen_by": MEANINGS[comparison.choose],
        "macro_intervals": MACRO_INTERVALS,
    }


def _several_rates(data: PageData) -> bool:
    """Whether any head was tried at several learning rates under one optimizer; else there is no line to draw."""
    rates: dict[tuple[str, str], set[str]] = {}
    for each in data.tried:
        head, optimizer, rate = (each.settings.get(name) or "" for name in ("head", "optimizer", "lr"))
        if optimizer and rate and each.score is not None:
            rates.setdefault((head, optimizer), set()).add(rate)
    return any(len(tried) > 1 for tried in rates.values())


def _scale(candidates: Sequence[Candidate]) -> Interval:
    """A common scale that holds every interval of the attribute accuracy, a little wider."""
    ends = [each.metrics.overall.accuracy for each in candidates]
    ends += [end for each in candidates for end in each.intervals.get("accuracy", ())]
    measured = [end for end in ends if end is not None]
    if not measured:
        return 0.0, 1.0
    margin = 0.04 * (max(measured) - min(measured)) or 0.05
    return max(0.0, min(measured) - margin), min(1.0, max(measured) + margin)


def _per_attribute(
    comparison: Comparison,
) -> list[tuple[AttributeMetrics, AttributeMetrics, list[float | None]]]:
    """Per attribute: figures of the best candidate and of the majority, and the accuracies of the others."""
    others = [
        {row.attribute: row.accuracy for row in each.metrics.attributes}
        for each in comparison.candidates
        if not each.best
    ]
    both = zip(comparison.best_candidate.metrics.attributes, comparison.majority.metrics.attributes, strict=True)
    return [(mine, base, [accuracy.get(mine.attribute) for accuracy in others]) for mine, base in both]


def _values(rows: Sequence[ValueRow]) -> list[tuple[str, list[ValueRow]]]:
    """The values of each attribute, the most frequent first."""
    of_attribute: dict[str, list[ValueRow]] = {}
    for row in rows:
        of_attribute.setdefault(row.attribute, []).append(row)
    return [
        (attribute, sorted(values, key=lambda row: (-row.support, -row.train)))
        for attribute, values in of_attribute.items()
    ]


def _calibration(comparison: Comparison) -> Calibrated | None:
    """None when nothing is known of before."""
    errors = [
        (row.error_before, row.error_after)
        for row in comparison.calibration
        if row.error_before is not None and row.error_after is not None
    ]
    if not errors:
        return None
    before, after = (sum(column) / len(errors) for column in zip(*errors, strict=True))
    alone = sum(row.method == "none" for row in comparison.calibration)
    return Calibrated(before, after, sum(after < before for before, after in errors), len(errors), alone)


def _confusion(confusion: Confusion) -> ConfusionTable:
    values = confusion.values
    columns = [*values, NOTHING]
    every = (*confusion.counts, *confusion.unseen_counts)
    drawn = [j for j in range(len(columns)) if j < len(values) or any(row[j] for row in every)]

    def cells(row: Sequence[int], right: int | None) -> list[Count]:
        return [Count(row[j], row[j] / max(1, sum(row)), j == right) for j in drawn]

    return ConfusionTable(
        attribute=confusion.attribute,
        columns=[columns[j] for j in drawn],
        rows=[
            (value, cells(row, None if value == OTHERS else i))
            for i, (value, row) in enumerate(zip(values, confusion.counts, strict=True))
        ],
        unseen=[
            (value, cells(row, None)) for value, row in zip(confusion.unseen, confusion.unseen_counts, strict=True)
        ],
        others=OTHERS if OTHERS in (*values, *confusion.unseen) else "",
        mistakes=[(true, decided, f"{count:,}") for true, decided, count in confusion.mistakes[:MISTAKES]],
    )


def _too_rare(comparison: Comparison) -> dict[str, list[str]]:
    """Per attribute the values that no run could measure, each once."""
    of_attribute: dict[str, list[str]] = {}
    for label in dict.fromkeys(label for run in comparison.runs for label in run.not_measurable):
        attribute, value = split_column(label)
        of_attribute.setdefault(attribute, []).append(value)
    return of_attribute


def _command(comparison: Comparison, options: CompareOptions) -> str:
    """The comparison's own command."""
    runs = [run.path for run in comparison.runs]
    return f"{PROGRAM} compare {shlex.join([*runs, *words_of(changed(options))])}"


def _loading(model: str) -> tuple[str, str, str]:
    """How to use a model file: from a shell, from Python, and without this package."""
    return (
        f"{PROGRAM} predict --model {shlex.quote(model)} PHOTOS --out predictions.csv",
        f"import pipeline\n\npredictor = pipeline.load_model({model!r})\nframe = predictor.predict(['photo.jpg'])",
        f"import joblib\n\nmodel = joblib.load({model!r})  # a dict of NumPy arrays; docs/MODEL_FILE.md shows the rest",
    )
