"""`compare --by FIELD`: the best configuration, by validation, for every value of one field, set against each other.

Like is compared with like: an optimizer of a linear head says nothing of that of an MLP. So configurations are taken
together that agree in head, features, treatment of unknown labels, attributes and photos; all other settings, such as
rates, are each one's own best.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from pipeline.comparison.entries import RESULTS, Names
from pipeline.comparison.left_out import labels_of
from pipeline.comparison.pairs import PairedComparison
from pipeline.comparison.records import ByDifference, ByRow
from pipeline.errors import OptionError, nearest
from pipeline.experiment.run_reader import Run, number
from pipeline.names import REFIT
from pipeline.options.forms.words import now_named

ALIKE = ("head", "backbone", "weights", "size", "resize", "precision", "use", "views", "na", "calibrate")
"""What configurations must agree in, beside the attributes and the photos."""

FOLLOWS: Mapping[str, tuple[str, ...]] = {
    "backbone": ("weights", "size"),
    "vectors": ("backbone", "weights", "size", "resize", "precision", "use"),
}
"""What another value of a field brings with it: each backbone has its own weights and its own size."""


@dataclass(frozen=True)
class _Tried:
    """One configuration of one run, and what it has in common with those it may be set against."""

    run: Run
    config_id: str
    settings: Mapping[str, str]
    alike: tuple[tuple[str, str], ...]
    score: float | None

    @property
    def rank(self) -> float:
        return -1.0 if self.score is None or self.score != self.score else self.score


def best_by_field(runs: Sequence[Run], field: str | None, names: Names, choose: str) -> tuple[ByRow, ...]:
    """One row per value of `field` among configurations that are alike, those with several values first.

    The field is a column of configs.csv or a fact of the runs (backbone, size, na, use, ...). Whole runs (`run`) are
    compared whatever they are made of.

    Args:
        names: What configurations are called.
        choose: What is best, on validation.
    """
    if field is None:
        return ()
    known = dict.fromkeys(name for run in runs for config_id in run.configs for name in run.settings(config_id))
    field = _field(field, known)
    tried = _tried(runs, field, choose)
    varying = _varying(tried, field)
    differing = {name for name, values in _values([each.alike for each in tried]).items() if len(values) > 1}
    groups: dict[tuple[tuple[str, str], ...], list[_Tried]] = {}
    for each in tried:
        groups.setdefault(each.alike, []).append(each)
    ranked = sorted(groups.items(), key=lambda pair: (-_count(pair[1], field), -max(each.rank for each in pair[1])))
    rows = []
    for alike, members in ranked:
        among = ", ".join(f"{name} {value or '(none)'}" for name, value in alike if name in differing)
        for value in sorted({each.settings.get(field) or "" for each in members}, key=_by_number):
            of_value = [each for each in members if (each.settings.get(field) or "") == value]
            best = max(of_value, key=lambda each: each.rank)
            own = {name: best.settings[name] for name in varying if best.settings.get(name)}
            name = names[best.run.path, best.config_id]
            judged = name if best.config_id in best.run.predicted else None
            of = (best.config_id, best.run.name, best.score)
            rows.append(ByRow(value, len(of_value), *of, judged, among, own, name))
    return tuple(rows)


def differences_by_field(
    field: str | None, rows: Sequence[ByRow], paired: PairedComparison
) -> tuple[ByDifference, ...]:
    """Every two values of the field among like configurations, the best of each compared on the same resamples."""
    found = []
    for one, other in combinations(rows, 2):
        alike = field is not None and one.among == other.among
        if alike and field is not None and one.candidate is not None and other.candidate is not None:
            pair = paired.pair(one.candidate, other.candidate)
            values = (one.value, other.value)
            found.append(
                ByDifference(field, *values, pair.first, pair.second, pair.differences, pair.verdict, one.among)
            )
    return tuple(found)


def nothing_alike(field: str | None, rows: Sequence[ByRow]) -> str:
    """That no two values of the field can be compared, and why; "" when two can, or no field was asked for."""
    if not rows or len({row.among for row in rows}) < len(rows):
        return ""
    if len(rows) == 1:
        return f"nothing comparable: {rows[0].value or '(none)'} is the only value of {field}"
    tried = "; ".join(f"{row.value or '(none)'} with {row.among}" for row in rows)
    return (
        f"nothing comparable: no two values of {field} were tried with the same head, features and photos ({tried}). "
        "Fit them in one run"
    )


def _field(field: str, known: Mapping[str, None]) -> str:
    field = now_named(field).replace("-", "_") if field not in known else field
    if field not in known:
        near = nearest(field, known)
        hint = f"; did you mean {near!r}?" if near else ""
        offered = ", ".join(name for name in known if not name.startswith(RESULTS))
        raise OptionError(f"--by {field}: configs.csv has no such field, it has {offered}{hint}")
    return field


def _tried(runs: Sequence[Run], field: str, choose: str) -> list[_Tried]:
    free = (field, *FOLLOWS.get(field, ()))
    called, splits = labels_of(runs), _splits(runs)
    found = []
    for run in runs:
        whole = (("attributes", " + ".join(run.schema.attributes)), ("photos", f"of {called[splits[run.path].path]}"))
        for config_id in run.configs:
            if field != "run" and config_id.endswith(REFIT) and config_id.removesuffix(REFIT) in run.configs:
                continue
            settings = run.settings(config_id)
            own = ((name, settings.get(name) or "") for name in ALIKE if name not in free)
            alike = () if field == "run" else (*own, *whole)
            found.append(_Tried(run, config_id, settings, alike, run.score(config_id, choose)))
    return found


def _splits(runs: Sequence[Run]) -> dict[Path, Run]:
    """Per run the first of the runs that has the same photos in the same parts."""
    first: dict[bytes, Run] = {}
    found = {}
    for run in runs:
        parts = sorted(zip(run.photos, run.parts.tolist(), strict=True))
        found[run.path] = first.setdefault(hashlib.sha256(repr(parts).encode()).digest(), run)
    return found


def _varying(tried: Sequence[_Tried], field: str) -> list[str]:
    """The settings in which the configurations differ, beside the field and what `among` says."""
    values = _values([tuple(each.settings.items()) for each in tried])
    said = {name for each in tried for name, _ in each.alike}
    return [
        name
        for name, found in values.items()
        if len(found) > 1 and name not in (field, "run", *said) and not name.startswith(RESULTS)
    ]


def _values(settings: Sequence[tuple[tuple[str, str], ...]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in settings:
        for name, value in each:
            found.setdefault(name, set()).add(value)
    return found


def _count(members: Sequence[_Tried], field: str) -> int:
    """2 where several values of the field can be compared, else 1."""
    return min(2, len({each.settings.get(field) or "" for each in members}))


def _by_number(value: str) -> tuple[bool, float, str]:
    figure = number(value)
    return figure is None, figure or 0.0, value
