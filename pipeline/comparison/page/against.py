"""Candidates, and values of a field, against each other: paired differences and what they show, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.comparison.pairs import DECIDING, NO_DIFFERENCE, WORDS
from pipeline.comparison.records import ByRow, Comparison, Difference, Pair
from pipeline.comparison.table import decimal, in_words, settings_text, title_of

FIGURES = dict(zip(DECIDING, ("attribute accuracy", "attribute F1"), strict=True))
OPEN = 6
"""Pairs that are shown as they are; more are folded away, behind a matrix."""

WIDEST = 24
LISTED = 300
NAMED = 6
MARKS = {"first better": "▲", "second better": "▼", NO_DIFFERENCE: "≈", "mixed": "±"}
MIRRORED = {"first better": "second better", "second better": "first better"}
KINDS = {"first better": "better", "second better": "worse"}


@dataclass(frozen=True)
class Cell:
    """A verdict in a matrix: its mark, the class that colours it ("" for none), and the figures behind it in words."""

    mark: str = ""
    kind: str = ""
    title: str = ""


@dataclass(frozen=True)
class EveryTwo:
    """Every two of some things against each other.

    Attributes:
        what: The things, in the plural.
        names: How many they are.
        total: How many pairs they make.
        listed: The first of these pairs.
        folded: Whether the pairs are too many to be shown as they are.
        matrix: Per thing its cell against every thing; empty when that would be too wide.
    """

    what: str
    names: int
    total: int
    listed: Sequence[Pair]
    folded: bool
    matrix: Sequence[tuple[str, list[Cell]]]


def prepare(comparison: Comparison) -> dict[str, object]:
    """What `candidates.html` names of pairs: of candidates, and of the values of the field given to `--by`."""
    candidates = list(dict.fromkeys(name for pair in comparison.pairs for name in (pair.first, pair.second)))
    by_pairs = [
        Pair(named(each.first_value, each.among), named(each.second_value, each.among), each.differences, each.verdict)
        for each in comparison.by_differences
    ]
    values = [named(row.value, row.among) for row in comparison.by_rows if row.candidate is not None]
    field = comparison.by or ""
    return {
        "title_of": title_of,
        "in_words": in_words,
        "judged": {candidate.name: candidate.metrics.overall for candidate in comparison.candidates},
        "best_against_others": _best_against_others(comparison) if comparison.pairs else [],
        "candidate_pairs": _every_two(comparison.pairs, candidates, "candidates"),
        "first_against_others": _per_kind(field, comparison.by_rows, by_pairs),
        "settings_text": settings_text,
        "field_pairs": _every_two(by_pairs, values, f"values of {field}"),
    }


def named(value: str, among: str = "") -> str:
    """A value of a field as the page shows it, with the kind of configurations it was tried among."""
    return (value or "(none)") + (f" ({among})" if among else "")


def _best_against_others(comparison: Comparison) -> list[str]:
    best, following = comparison.best, comparison.candidates[1].name
    runner_up = next((pair for pair in comparison.pairs if {pair.first, pair.second} == {best, following}), None)
    sentences = []
    second, comma = f"the runner-up by validation, {following}", ","
    if (ahead := comparison.ahead) is not None:
        sentences.append(
            f"By validation {ahead.name} is ahead of {best}, {decimal(ahead.validation_score)} against"
            f" {decimal(comparison.best_candidate.validation_score)}, but within noise, and then an ensemble is"
            " preferred to its member: the best of many is ahead partly by luck."
        )
        second, comma = following, ""
    if runner_up is not None and not runner_up.differences:
        sentences.append(f"{best} and {second}{comma} have no attribute in common.")
    elif runner_up is not None:
        verdict = f"{best} {WORDS[runner_up.verdict]} {second}"
        sentences.append(f"{verdict}: {_in_words(runner_up.differences)}.")
    others = [pair for pair in comparison.pairs if pair.first == best and pair.differences]
    even = sum(pair.verdict == NO_DIFFERENCE for pair in others)
    if len(others) > 1 and even:
        show = "shows" if even == 1 else "show"
        sentences.append(f"{even} of the {len(others)} others set against the best {show} no difference from it.")
    elif len(others) > 1:
        sentences.append(f"A difference from the best is shown for all {len(others)} others set against it.")
    return sentences


def _per_kind(field: str, rows: Sequence[ByRow], pairs: Sequence[Pair]) -> list[str]:
    """One sentence per kind of configurations among which several values were tried."""
    kinds: dict[str, list[ByRow]] = {}
    for row in rows:
        kinds.setdefault(row.among, []).append(row)
    return [_first_against_others(field, of_kind, pairs) for of_kind in kinds.values() if len(of_kind) > 1]


def _first_against_others(field: str, rows: Sequence[ByRow], pairs: Sequence[Pair]) -> str:
    """Which value leads by validation, and what its best configuration shows against those of the other values."""
    leader = max(rows, key=lambda row: -1.0 if row.validation_score is None else row.validation_score)
    name = named(leader.value, leader.among)
    lead = f"By validation {field} {name} comes first"
    if leader.candidate is None:
        return f"{lead}; its test predictions were not kept."
    others: dict[str, list[str]] = {}
    for pair in pairs:
        if name in (pair.first, pair.second) and pair.differences:
            other = pair.second if pair.first == name else pair.first
            others.setdefault(WORDS[_verdict_of(name, pair)], []).append(other)
    verdicts = "; it ".join(f"{words} {_list(values)}" for words, values in others.items())
    return f"{lead}. On the test photos it {verdicts}, each by its best configuration." if verdicts else f"{lead}."


def _every_two(pairs: Sequence[Pair], names: Sequence[str], what: str) -> EveryTwo:
    folded = len(pairs) > OPEN
    at = {names: pair for pair in pairs for names in ((pair.first, pair.second), (pair.second, pair.first))}
    drawn = names if folded and len(names) <= WIDEST else ()
    matrix = [(row, [_cell(row, column, at.get((row, column))) for column in drawn]) for row in drawn]
    return EveryTwo(what, len(names), len(pairs), pairs[:LISTED], folded, matrix)


def _cell(row: str, column: str, pair: Pair | None) -> Cell:
    if pair is None:
        return Cell()
    if not pair.differences:
        return Cell("-", title=f"{row}, {column}: no attribute in common")
    verdict = _verdict_of(row, pair)
    title = f"{pair.first} − {pair.second}: {_in_words(pair.differences)}"
    return Cell(MARKS[verdict], KINDS.get(verdict, ""), title)


def _verdict_of(name: str, pair: Pair) -> str:
    """The verdict with `name`, one of the two, as the first."""
    return pair.verdict if pair.first == name else MIRRORED.get(pair.verdict, pair.verdict)


def _in_words(differences: Mapping[str, Difference]) -> str:
    return ", ".join(
        f"{name} {difference.value:+.3f} [{difference.low:+.3f} {difference.high:+.3f}]"
        for figure, name in FIGURES.items()
        if (difference := differences.get(figure)) is not None
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} other values"
