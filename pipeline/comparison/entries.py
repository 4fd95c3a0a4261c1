"""The configurations of runs that can be judged: what they are called, and which comes first by validation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.comparison.left_out import labels_of
from pipeline.errors import RunError
from pipeline.evaluation.goals import BALANCED
from pipeline.experiment.run_reader import Row, Run
from pipeline.names import REFIT, refit_of, spoken

RESULTS = ("config_id", "validation_", "best_epoch", "seconds", "not", "policy")
"""Fields of configs.csv, or beginnings of fields, that are outcomes rather than settings."""

ENSEMBLE = "ensemble"

Names = Mapping[tuple[Path, str], str]
"""(run, config_id) -> what the configuration is called."""


@dataclass(frozen=True)
class Entry:
    """One configuration of one run, not judged yet.

    Attributes:
        name: What it is called, unlike any other.
        choose: What is best, on validation.
    """

    name: str
    run: Run
    config_id: str
    choose: str

    @property
    def score(self) -> float | None:
        """Its validation score, where the run says it."""
        return self.run.score(self.config_id, self.choose)

    @property
    def rank(self) -> tuple[int, float, bool]:
        """Most attributes first, then the highest validation score; what a run chose stands before its own others.

        A run may choose an ensemble whose member is ahead within noise; of another choice than its own it says nothing.
        """
        chosen = self.run.info.get("best") == self.config_id and self.run.choose == self.choose
        rivals = self.run.predicted if chosen else (self.config_id,)
        scores = [self.run.score(name, self.choose) for name in rivals]
        best = max((score for score in scores if score is not None and not np.isnan(score)), default=-np.inf)
        return len(self.run.schema.attributes), best, chosen


def chosen_by(runs: Sequence[Run], asked: str | None) -> str:
    """What candidates are ranked by: what was asked for, else what all runs chose by.

    Raises:
        RunError: A run does not say how its configurations did by it.
    """
    fitted = [run for run in runs if run.evaluated is None]
    if asked is None:
        theirs = {run.choose for run in fitted}
        return theirs.pop() if len(theirs) == 1 else BALANCED
    for run in fitted:
        if all(run.score(config_id, asked) is None for config_id in run.predicted):
            raise RunError(f"{run.path} does not say how its heads did by {asked} on validation; fit it again")
    return asked


def entries(runs: Sequence[Run], names: Names, choose: str) -> list[Entry]:
    """Every configuration with predictions, the first by `Entry.rank` first.

    Raises:
        RunError: There is none.
    """
    found = [Entry(names[run.path, each], run, each, choose) for run in runs for each in run.predicted]
    if not found:
        raise RunError(f"{runs[0].path} holds no predictions; run fit-heads again (it keeps the best of each head)")
    return sorted(found, key=lambda entry: entry.rank, reverse=True)


def names_of(runs: Sequence[Run]) -> Names:
    """What every configuration is called, kept or not: what differs among them, after the run where there are several.

    A folder of an evaluation is one model, and has its name.
    """
    called = labels_of(runs)
    found: dict[tuple[Path, str], str] = {}
    fitted = {(run.path, each): run for run in runs if run.evaluated is None for each in _configurations(run)}
    said = spoken([_settings(run, config_id) for (_, config_id), run in fitted.items()])
    for ((path, config_id), run), name in zip(fitted.items(), said, strict=True):
        whole = refit_of(name) if config_id.endswith(REFIT) else name
        found[path, config_id] = whole if len(runs) == 1 else f"{called[run.path]}/{whole}"
    for run in runs:
        alone = len(runs) == 1 or called[run.path] == run.name
        if run.evaluated is not None:
            found |= {
                (run.path, each): each if alone else f"{called[run.path]}/{each}" for each in _configurations(run)
            }
    often = Counter(found.values())
    return {at: name if often[name] == 1 else f"{name} ({at[1]})" for at, name in found.items()}


def _configurations(run: Run) -> list[str]:
    return list(dict.fromkeys((*run.configs, *run.decisions)))


def _settings(run: Run, config_id: str) -> Row:
    """What a configuration is made of, in the order in which it is told from others."""
    of = config_id.removesuffix(REFIT)
    row = run.configs.get(config_id) or run.configs.get(of) or {}
    if row.get("head") == ENSEMBLE:
        # The rest of its row is of its first member.
        return {"head": of.replace("-", " of ", 1)}
    own = {name: cell for name, cell in row.items() if not name.startswith(RESULTS)}
    facts = {name: cell for name, cell in run.facts.items() if name != "run"}
    return {**own, **facts, "head": own.get("head") or of}
