"""The best candidate closer: every value it may decide, and its probabilities before and after calibration."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.comparison.page.data import PageData
from pipeline.comparison.page.markup import Child, Look, Markup, el, table
from pipeline.comparison.records import CalibrationRow, Comparison, ValueRow
from pipeline.comparison.table import decimal

NAMED = 30
"""Values without a training photo that the page names in a sentence; the tables mark all of them."""


def values(comparison: Comparison, data: PageData) -> Markup | None:
    """One folded table per attribute, the most frequent values first; None when there are no values."""
    if not comparison.values:
        return None
    of_attribute: dict[str, list[ValueRow]] = {}
    for row in comparison.values:
        of_attribute.setdefault(row.attribute, []).append(row)
    return el(
        "section",
        el("h2", f"Value by value: {comparison.best}"),
        el(
            "p",
            "Training and test photos that have a value, test photos on which it is decided, and how well. A dash:"
            " nothing to measure, because no test photo has the value, or it is never decided.",
            class_="soft",
        ),
        _not_learnable([row for row in comparison.values if not row.learnable]),
        [_of_attribute(attribute, rows) for attribute, rows in of_attribute.items()],
        id="values",
        class_="values",
    )


def calibration(comparison: Comparison, data: PageData) -> Markup | None:
    """Calibration error and loss per attribute before and after; None when nothing is known of before."""
    known = [row for row in comparison.calibration if row.error_before is not None and row.error_after is not None]
    if not known:
        return None
    before, after = (sum(getattr(row, name) for row in known) / len(known) for name in ("error_before", "error_after"))
    lower = sum(row.error_after < row.error_before for row in known)  # type: ignore[operator]
    attributes = "the one attribute" if len(known) == 1 else f"{lower} of {len(known)} attributes"
    heads = [
        "attribute",
        "method",
        "scale",
        "shift",
        "error before",
        "error after",
        "log loss before",
        "log loss after",
    ]
    caption = "Calibration error and log loss per attribute on test; a scale below 1: it was too sure of itself"
    return el(
        "section",
        el("h2", f"Calibration: {comparison.best}"),
        el(
            "p",
            f"Mean calibration error over attributes: {before:.3f} before, {after:.3f} after; lower for {attributes}.",
        ),
        table(heads, [_calibrated(row) for row in comparison.calibration], caption, Look(words=(1,), sortable=True)),
        id="calibration",
    )


def _not_learnable(rows: Sequence[ValueRow]) -> Markup | None:
    if not rows:
        return None
    one = len(rows) == 1
    named = ", ".join(f"{row.attribute}={row.value} ({row.support:,} in test)" for row in rows[:NAMED])
    more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
    lead = "Not learnable, as no training photo has it: " if one else "Not learnable, as no training photo has them: "
    return el("p", el("b", lead), f"{named}{more}.")


def _of_attribute(attribute: str, rows: Sequence[ValueRow]) -> Markup:
    count, tested = len(rows), sum(row.support > 0 for row in rows)
    lost = sum(not row.learnable for row in rows)
    told = f" {count:,} value{'s' * (count != 1)}, {tested:,} with a test photo" + (
        f", {lost:,} not learnable" if lost else ""
    )
    heads = ["value", "train", "test", "decided", "precision", "recall", "F1", "AP"]
    ranked = sorted(rows, key=lambda row: (-row.support, -row.train))
    shown = table(heads, [_value(row) for row in ranked], f"Values of {attribute} on test", Look(sortable=True))
    return el("details", el("summary", el("b", attribute), el("span", told, class_="soft")), shown)


def _value(row: ValueRow) -> list[Child]:
    name: Child = row.value if row.learnable else [row.value, el("span", "not learnable", class_="badge warn")]
    figures = (row.precision, row.recall, row.f1, row.average_precision)
    return [name, f"{row.train:,}", f"{row.support:,}", f"{row.decided:,}", *(decimal(figure) for figure in figures)]


def _calibrated(row: CalibrationRow) -> list[Child]:
    figures = (row.error_before, row.error_after, row.loss_before, row.loss_after)
    return [
        row.attribute,
        row.method,
        decimal(row.scale),
        f"{row.shift:+.3f}",
        *(decimal(figure) for figure in figures),
    ]
