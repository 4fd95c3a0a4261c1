"""`compare --by FIELD`: the best configuration, by validation, for every value of one field of configs.csv."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.comparison import ByRow
from pipeline.errors import OptionError
from pipeline.runs import Run, number

RESULTS = ("config_id", "validation_", "best_epoch", "seconds", "not", "policy")
"""Fields, or beginnings of fields, that are outcomes rather than settings; not suggested for `--by`."""


def best_by_field(runs: Sequence[Run], field: str | None, judged: Mapping[tuple[Path, str], str]) -> tuple[ByRow, ...]:
    """One row per value of `field`; judged : (run, config_id) -> name of the candidate, where test figures exist."""
    if field is None:
        return ()
    known = dict.fromkeys(name for run in runs for row in run.configs.values() for name in row)
    if field not in known:
        near = difflib.get_close_matches(field, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        offered = ", ".join(name for name in known if not name.startswith(RESULTS))
        raise OptionError(f"--by {field}: configs.csv has no such field, it has {offered}{hint}")
    groups: dict[str, list[tuple[float, Run, str]]] = {}
    for run in runs:
        for config_id, row in run.configs.items():
            score = run.score(config_id)
            rank = -1.0 if score is None or score != score else score
            groups.setdefault(row.get(field) or "", []).append((rank, run, config_id))
    rows = []
    for value in sorted(groups, key=_by_number):
        _, run, config_id = max(groups[value], key=lambda entry: entry[0])
        name = judged.get((run.path, config_id))
        rows.append(ByRow(value, len(groups[value]), config_id, run.name, run.score(config_id), name))
    return tuple(rows)


def _by_number(value: str) -> tuple[bool, float, str]:
    found = number(value)
    return found is None, found or 0.0, value
