"""A comparison as one long CSV table: a row per figure, with its interval, ready for a pivot table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.comparison.records import Candidate, Comparison, Difference, Interval, PhotoSet, ValueRow
from pipeline.evaluation.metrics import FEW
from pipeline.spreadsheet import write_rows
from pipeline.system import whole_file

COLUMNS = ("kind", "candidate", "against", "key", "value", "figure", "estimate", "low", "high", "verdict")
"""kind : overall, key (an attribute), value, calibration, pair, by (then key and value hold the field's two), coverage
(value is the precision), applies or photos (then key says on whose test photos: all, or the runs that have them)."""

Row = dict[str, Any]


def save_csv(comparison: Comparison, path: Path) -> None:
    """Write every figure of the comparison, whole or not at all; an empty cell is a figure that does not exist."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        write_rows(file, [COLUMNS, *([row.get(name, "") for name in COLUMNS] for row in rows(comparison))])


def rows(comparison: Comparison) -> Iterator[Row]:
    """The rows of the table, as dicts by column."""
    for candidate in (*comparison.candidates, comparison.majority):
        yield from _figures(candidate, "best on validation" if candidate.best else "")
    for value in comparison.values:
        note = _measured(value)
        base = {
            "kind": "value",
            "candidate": comparison.best,
            "key": value.attribute,
            "value": value.value,
            "verdict": note,
        }
        yield from _each(base, asdict(value), ("attribute", "value", "learnable"))
    for row in comparison.calibration:
        base = {"kind": "calibration", "candidate": comparison.best, "key": row.attribute, "verdict": row.method}
        yield from _each(base, asdict(row), ("attribute", "method"))
    for each in comparison.coverage:
        base = {"kind": "coverage", "candidate": each.candidate, "key": each.attribute, "value": f"{each.target:g}"}
        yield from _each(base, asdict(each), ("candidate", "attribute", "target"))
    for one in comparison.applies:
        base = {"kind": "applies", "candidate": one.candidate, "key": one.attribute}
        yield {**base, "figure": "balanced", "estimate": one.balanced, "low": one.low, "high": one.high}
        yield from _each(base, asdict(one), ("candidate", "attribute", "balanced", "low", "high"))
    for pair in comparison.pairs:
        base = {"kind": "pair", "candidate": pair.first, "against": pair.second, "verdict": pair.verdict}
        yield from _differences(base, pair.differences)
    for on in comparison.photo_sets:
        yield from _on_photos(on)
    for by in comparison.by_differences:
        base = {"kind": "by", "candidate": by.first, "against": by.second, "verdict": by.verdict}
        yield from _differences({**base, "key": by.first_value, "value": by.second_value}, by.differences)


def _on_photos(found: PhotoSet) -> Iterator[Row]:
    whose = "all" if found.everybody else " ".join(found.runs)
    for each in (*found.best, found.majority):
        for name, figure in asdict(each.metrics.overall).items():
            base = {"kind": "photos", "candidate": each.name, "key": whose, "figure": name, "estimate": figure}
            yield {**base, **_span(each.intervals.get(name))}
    for pair in found.pairs:
        base = {"kind": "photos", "candidate": pair.first, "against": pair.second, "verdict": pair.verdict}
        yield from _differences({**base, "key": whose}, pair.differences)


def _measured(value: ValueRow) -> str:
    """What keeps a value's figures from saying much; "" when nothing does."""
    few = "no test photo" if not value.support else f"fewer than {FEW} test photos" if value.support < FEW else ""
    return ", ".join(text for text in ("" if value.learnable else "not learnable", few) if text)


def _figures(candidate: Candidate, verdict: str) -> Iterator[Row]:
    base = {"kind": "overall", "candidate": candidate.name, "verdict": verdict}
    if candidate.validation_score is not None:
        yield {**base, "figure": "validation_score", "estimate": candidate.validation_score}
    for name, figure in asdict(candidate.metrics.overall).items():
        yield {**base, "figure": name, "estimate": figure, **_span(candidate.intervals.get(name))}
    for row in candidate.metrics.attributes:
        spans = candidate.attribute_intervals.get(row.attribute, {})
        for name, figure in asdict(row).items():
            if name not in ("attribute", "single"):
                cell = {"kind": "key", "candidate": candidate.name, "key": row.attribute, "figure": name}
                yield {**cell, "estimate": figure, **_span(spans.get(name))}


def _each(base: Row, figures: Mapping[str, Any], leave: tuple[str, ...]) -> Iterator[Row]:
    yield from ({**base, "figure": name, "estimate": figure} for name, figure in figures.items() if name not in leave)


def _differences(base: Row, differences: Mapping[str, Difference]) -> Iterator[Row]:
    for name, difference in differences.items():
        yield {**base, "figure": name, "estimate": difference.value, "low": difference.low, "high": difference.high}


def _span(interval: Interval | None) -> Row:
    return {} if interval is None else {"low": interval[0], "high": interval[1]}
