"""Candidates, and values of a field, against each other: paired differences and what they show, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.comparison.page.data import PageData
from pipeline.comparison.page.markup import Child, Look, Markup, el, table
from pipeline.comparison.pairs import DECIDING, NO_DIFFERENCE
from pipeline.comparison.records import ByRow, Comparison, Difference, Pair
from pipeline.comparison.table import decimal

FIGURES = dict(zip(DECIDING, ("attribute accuracy", "macro F1"), strict=True))
OPEN = 6
"""Pairs that are shown as they are; more are folded away, behind a matrix."""

WIDEST = 24
LISTED = 300
NAMED = 6
MARKS = {"first better": "▲", "second better": "▼", NO_DIFFERENCE: "≈", "mixed": "±"}
MIRRORED = {"first better": "second better", "second better": "first better"}
WORDS = {
    "first better": "is shown to be better than",
    "second better": "is shown to be worse than",
    NO_DIFFERENCE: "shows no difference from",
    "mixed": "is better in one figure and worse in the other than",
}
NO_COMMON_ATTRIBUTE = "no attribute in common"


def pairs(comparison: Comparison, data: PageData) -> Markup | None:
    """Every two candidates; None when there is only one."""
    if not comparison.pairs:
        return None
    names = list(dict.fromkeys(name for pair in comparison.pairs for name in (pair.first, pair.second)))
    left_out = len(comparison.candidates) - len(names)
    more = f" Only the first {len(names)} by validation are set against each other." if left_out > 0 else ""
    told = (
        "Both sides of a pair meet the same resampled test products. A verdict needs an interval of attribute accuracy"
        f" or macro F1 without 0; about one such interval in twenty leaves out 0 by chance alone.{more}"
    )
    return el(
        "section",
        el("h2", "Against each other"),
        [el("p", sentence) for sentence in _best_against_others(comparison)],
        el("p", told, class_="soft"),
        _every_two(comparison.pairs, names, "candidates"),
        id="against",
    )


def by_field(comparison: Comparison, data: PageData) -> Markup | None:
    """The best configuration per value of the field given to `--by`, and every two of them against each other."""
    field = comparison.by
    if field is None:
        return None
    judged = {c.name: c.metrics.overall for c in comparison.candidates}
    rows = []
    for row in comparison.by_rows:
        figures = judged.get(row.candidate or "")
        shown = [decimal(figures.accuracy), decimal(figures.key_macro_f1)] if figures else ["-", "-"]
        rows.append([_named(row.value), str(row.configurations), row.config_id, decimal(row.validation_score), *shown])
    heads = [field, "configurations", "best of them", "validation", "mean attribute accuracy", "macro F1"]
    caption = f"Best configuration by validation per {field}; a dash: its test predictions were not kept"
    found = [
        Pair(_named(each.first_value), _named(each.second_value), each.differences, each.verdict)
        for each in comparison.by_differences
    ]
    names = [_named(row.value) for row in comparison.by_rows if row.candidate is not None]
    return el(
        "section",
        el("h2", f"By {field}"),
        el("p", _first_against_others(field, comparison.by_rows, found)) if found else None,
        table(heads, rows, caption, Look(words=(2,), sortable=True)),
        el("h3", f"{field} against {field}") if found else None,
        _every_two(found, names, f"values of {field}") if found else None,
        id="by-field",
    )


def _best_against_others(comparison: Comparison) -> list[str]:
    best, following = comparison.best, comparison.candidates[1].name
    first = next((p for p in comparison.pairs if {p.first, p.second} == {best, following}), None)
    told = []
    if first is not None:
        if not first.differences:
            told.append(f"{best} and the runner-up by validation, {following}, have no attribute in common.")
        else:
            said = f"{best} {WORDS[first.verdict]} the runner-up by validation, {following}"
            told.append(f"{said}: {_figures_in_words(first.differences)}.")
    others = [pair for pair in comparison.pairs if pair.first == best and pair.differences]
    if len(others) > 1:
        even = sum(pair.verdict == NO_DIFFERENCE for pair in others)
        one = even == 1
        told.append(
            f"{even} of the {len(others)} others set against the best show{'s' * one} no difference from it."
            if even
            else f"A difference from the best is shown for all {len(others)} others set against it."
        )
    return told


def _first_against_others(field: str, rows: Sequence[ByRow], found: Sequence[Pair]) -> str:
    """Which value leads by validation, and what its best configuration shows against those of the other values."""
    leader = max(rows, key=lambda row: -1.0 if row.validation_score is None else row.validation_score)
    name = _named(leader.value)
    lead = f"By validation {field} {name} comes first"
    if leader.candidate is None:
        return f"{lead}; its test predictions were not kept."
    said: dict[str, list[str]] = {}
    for pair in found:
        if name in (pair.first, pair.second) and pair.differences:
            turned = pair.second == name
            verdict = MIRRORED.get(pair.verdict, pair.verdict) if turned else pair.verdict
            said.setdefault(WORDS[verdict], []).append(pair.first if turned else pair.second)
    shown = "; it ".join(f"{words} {_list(values)}" for words, values in said.items())
    return f"{lead}. On the test photos it {shown}, each by its best configuration." if shown else f"{lead}."


def _every_two(found: Sequence[Pair], names: Sequence[str], what: str) -> Markup:
    """All pairs: as a table when they are few, else folded away below a matrix of their verdicts."""
    heads = ["first", "second", "verdict", *FIGURES.values()]
    rows: list[list[Child]] = [
        [p.first, p.second, _verdict(p), *(_difference(p.differences.get(name)) for name in FIGURES)]
        for p in found[:LISTED]
    ]
    caption = f"Every two {what}: the first minus the second, with 95 % intervals"
    shown = table(heads, rows, caption, Look(words=(1, 2), sortable=True))
    if len(found) <= OPEN:
        return shown
    rest = len(found) - LISTED
    more = el("p", f"{rest:,} more pairs are in the files of --json and --csv.", class_="soft") if rest > 0 else None
    summary = el("summary", f"All {len(found):,} pairs with their intervals")
    return el("div", _matrix(found, names, what), el("details", summary, shown, more))


def _matrix(found: Sequence[Pair], names: Sequence[str], what: str) -> Markup | None:
    if len(names) > WIDEST:
        return None
    at = {(pair.first, pair.second): pair for pair in found}
    body = []
    for i, name in enumerate(names, 1):
        cells = [_cell(name, other, at) for other in names]
        body.append(el("tr", el("th", el("b", f"{i} "), name, scope="row", title=name), cells))
    heads = [el("th", str(i), scope="col", title=name) for i, name in enumerate(names, 1)]
    caption = "Row against column: ▲ row better, ▼ column better, ≈ no difference shown, ± one figure each"
    whole = el(
        "table",
        el("caption", el("span", caption)),
        el("thead", el("tr", el("th", "", scope="col"), heads)),
        el("tbody", body),
        class_="matrix verdicts",
    )
    return el("div", whole, class_="scroll", tabindex="0", role="region", aria_label=f"Verdicts on every two {what}")


def _cell(row: str, column: str, at: Mapping[tuple[str, str], Pair]) -> Markup:
    pair = at.get((row, column)) or at.get((column, row))
    if pair is None:
        return el("td", "")
    if not pair.differences:
        return el("td", "-", title=f"{row}, {column}: {NO_COMMON_ATTRIBUTE}")
    verdict = pair.verdict if pair.first == row else MIRRORED.get(pair.verdict, pair.verdict)
    kind = {"first better": "better", "second better": "worse"}.get(verdict)
    told = f"{pair.first} − {pair.second}: {_figures_in_words(pair.differences)}"
    return el("td", MARKS[verdict], class_=kind, title=told)


def _difference(found: Difference | None) -> Child:
    if found is None:
        return "-"
    return [f"{found.value:+.3f} ", el("span", f"[{found.low:+.3f} {found.high:+.3f}]", class_="ci")]


def _verdict(pair: Pair) -> Child:
    if not pair.differences:
        return NO_COMMON_ATTRIBUTE
    return pair.verdict if pair.verdict == NO_DIFFERENCE else el("b", pair.verdict)


def _figures_in_words(differences: Mapping[str, Difference]) -> str:
    known = [(name, found) for at, name in FIGURES.items() if (found := differences.get(at)) is not None]
    return ", ".join(f"{name} {found.value:+.3f} [{found.low:+.3f} {found.high:+.3f}]" for name, found in known)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} other values"


def _named(value: str) -> str:
    return value or "(none)"
