"""`compare --by FIELD`: the best configuration, by validation, for every value of one field, set against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from pipeline.comparison.pairs import PairedComparison
from pipeline.comparison.records import ByDifference, ByRow
from pipeline.errors import OptionError, nearest
from pipeline.experiment.run_reader import Run, number
from pipeline.options.words import now_named

RESULTS = ("config_id", "validation_", "best_epoch", "seconds", "not", "policy")
"""Fields, or beginnings of fields, that are outcomes rather than settings; not suggested for `--by`."""


_Configuration = tuple[Path, str]
"""A run folder, and the config_id of one of its configurations."""


def best_by_field(runs: Sequence[Run], field: str | None, judged: Mapping[_Configuration, str]) -> tuple[ByRow, ...]:
    """One row per value of `field`.

    The field is a column of configs.csv or a fact of the runs (backbone, size, na, use, ...).

    Args:
        judged: (run, config_id) -> name of the candidate, where test figures exist.
    """
    if field is None:
        return ()
    settings = dict.fromkeys(name for run in runs for config_id in run.configs for name in run.settings(config_id))
    field = now_named(field).replace("-", "_") if field not in settings else field
    if field not in settings:
        near = nearest(field, settings)
        hint = f"; did you mean {near!r}?" if near else ""
        offered = ", ".join(name for name in settings if not name.startswith(RESULTS))
        raise OptionError(f"--by {field}: configs.csv has no such field, it has {offered}{hint}")
    groups: dict[str, list[tuple[float, Run, str]]] = {}
    for run in runs:
        for config_id in run.configs:
            score = run.score(config_id)
            rank = -1.0 if score is None or score != score else score
            groups.setdefault(run.settings(config_id).get(field) or "", []).append((rank, run, config_id))
    rows = []
    for value in sorted(groups, key=_by_number):
        _, run, config_id = max(groups[value], key=lambda entry: entry[0])
        name = judged.get((run.path, config_id))
        rows.append(ByRow(value, len(groups[value]), config_id, run.name, run.score(config_id), name))
    return tuple(rows)


def differences_by_field(
    field: str | None, rows: Sequence[ByRow], paired: PairedComparison
) -> tuple[ByDifference, ...]:
    """Every two values of the field, their best configurations compared on the same resamples."""
    differences = []
    for one, other in combinations(rows, 2):
        if field is not None and one.candidate is not None and other.candidate is not None:
            pair = paired.pair(one.candidate, other.candidate)
            differences.append(
                ByDifference(field, one.value, other.value, pair.first, pair.second, pair.differences, pair.verdict)
            )
    return tuple(differences)


def _by_number(value: str) -> tuple[bool, float, str]:
    figure = number(value)
    return figure is None, figure or 0.0, value
