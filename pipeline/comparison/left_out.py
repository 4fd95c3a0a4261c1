"""What a comparison of several runs leaves out, or must be read with, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.catalogue.labels import UNKNOWN
from pipeline.errors import counted
from pipeline.experiment.run_reader import Run

NAMED = 8
"""Values that a sentence names; more are counted."""


def labels_of(runs: Sequence[Run]) -> dict[Path, str]:
    """What each run is called beside the others: its folder's name, or its path where two have one name."""
    names = Counter(run.name for run in runs)
    return {run.path: run.name if names[run.name] == 1 else str(run.path) for run in runs}


def labels_differ(count: int, photo: str, attribute: str) -> str:
    """Photos on which the runs do not agree on an attribute."""
    return (
        f"{counted(count, 'photo')}: another label for {attribute} in one run than in another; {attribute} is not"
        f" judged there (first: {photo})"
    )


def apart(count: int, some: Sequence[Run], runs: Sequence[Run]) -> str:
    """Test photos that other runs do not know."""
    names = ", ".join(labels_of(runs)[run.path] for run in some)
    return f"{counted(count, 'photo')}: in the test part of {names} alone, unknown to the others; judged apart"


def of_nobody(photos: Sequence[str], why: str) -> str:
    """Photos that judge nobody."""
    return f"{counted(len(photos), 'photo')}: {why}; not judged on (first: {photos[0]})"


def fitted_on(runs: Sequence[Run]) -> list[str]:
    """That runs were fit, or chosen, on other photos, which is a difference beside their settings."""
    found, called = [], labels_of(runs)
    for part, said in (
        ("train", "were not fit on the same photos: a difference may come from these"),
        ("validation", "chose on other validation photos: their validation scores say nothing of each other"),
    ):
        photos = {run.path: frozenset(run.photos[i] for i in run.rows(part)) for run in runs}
        if len(set(photos.values())) > 1:
            counts = ", ".join(f"{called[run.path]} {len(photos[run.path]):,}" for run in runs)
            found.append(f"the runs {said} ({counts})")
    return found


def attributes(runs: Sequence[Run]) -> list[str]:
    """The attributes that not every run has."""
    found, called = [], labels_of(runs)
    for attribute in dict.fromkeys(name for run in runs for name in run.schema.attributes):
        having = [called[run.path] for run in runs if attribute in run.schema.attributes]
        if len(having) < len(runs):
            found.append(f"{attribute}: an attribute of {', '.join(having)} alone, in no difference to the others")
    return found


def values(runs: Sequence[Run]) -> list[str]:
    """The values that some runs can decide and others cannot."""
    found, called = [], labels_of(runs)
    for attribute in dict.fromkeys(name for run in runs for name in run.schema.attributes):
        having = [run for run in runs if attribute in run.schema.attributes]
        able = {run.path: run.schema.values[run.schema.attributes.index(attribute)] for run in having}
        for value in dict.fromkeys(value for values in able.values() for value in values if value != UNKNOWN):
            some = [called[run.path] for run in having if value in able[run.path]]
            if len(some) < len(having):
                found.append((attribute, value, ", ".join(some)))
    return [_only(*where, [v for a, v, who in found if (a, who) == where])
            for where in dict.fromkeys((a, who) for a, _, who in found)]  # fmt: skip


def _only(attribute: str, names: str, values: Sequence[str]) -> str:
    more = f" and {len(values) - NAMED} more" if len(values) > NAMED else ""
    return (
        f"{attribute}: only {names} can decide {', '.join(values[:NAMED])}{more}; where it is true the others miss it, "
        "where it is not deciding it is a mistake"
    )
