"""Whether runs may be compared: the same photos in the same parts, and the same truth about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.catalogue.labels import UNKNOWN, column_name
from pipeline.errors import RunError, counted
from pipeline.experiment.run_reader import Run


def check_same_rows(runs: Sequence[Run]) -> None:
    """Raises RunError naming how a run differs from the first in its split or in the truth of its test photos."""
    first = runs[0]
    if not len(first.rows("test")):
        raise RunError(f"{first.path} has no test photos, so nothing can be compared")
    for other in runs[1:]:
        _check_split(first, other)
        _check_truth(first, other)


def _check_split(first: Run, other: Run) -> None:
    ours = dict(zip(first.photos, first.parts.tolist(), strict=True))
    theirs = dict(zip(other.photos, other.parts.tolist(), strict=True))
    if ours == theirs:
        return
    moved = sorted(photo for photo in ours.keys() & theirs.keys() if ours[photo] != theirs[photo])
    details = []
    if moved:
        photo = moved[0]
        details.append(
            f"{counted(len(moved), 'photo')} in other parts (first: {photo}, {ours[photo]} and {theirs[photo]})"
        )
    for run, photos in ((first, ours.keys() - theirs.keys()), (other, theirs.keys() - ours.keys())):
        if photos:
            details.append(f"{counted(len(photos), 'photo')} in {run.path} only (first: {min(photos)})")
    raise RunError(
        f"{first.path} and {other.path} have different splits: {'; '.join(details)}. Only runs on the same split can "
        f"be compared: fit the second again with --split-from {first.path}"
    )


def _check_truth(first: Run, other: Run) -> None:
    """The same test photo must have the same known values in both, for every attribute and value that both have."""
    ours, theirs = first.rows("test"), other.rows("test")
    ours = ours[np.argsort([first.photos[i] for i in ours])]
    theirs = theirs[np.argsort([other.photos[i] for i in theirs])]
    columns = {name: j for j, name in enumerate(other.schema.column_names)}
    for attribute, values in zip(first.schema.attributes, first.schema.values, strict=True):
        if attribute not in other.schema.attributes:
            continue
        theirs_too = other.schema.values[other.schema.attributes.index(attribute)]
        odd = (set(values) ^ set(theirs_too)) - {UNKNOWN}
        if odd:
            raise RunError(
                f"{first.path} and {other.path} know different values of {attribute!r} ({len(odd)} differ, such as"
                f" {min(odd)!r}): they were fitted on different labels"
            )
        for value in values:
            if value == UNKNOWN:
                continue
            name = column_name(attribute, value)
            i, j = first.schema.column_names.index(name), columns[name]
            same = (first.mask[ours, i] == other.mask[theirs, j]) & (first.Y[ours, i] == other.Y[theirs, j])
            if not same.all():
                count = counted(int((~same).sum()), "photo")
                photo = first.photos[int(ours[int(np.argmin(same))])]
                raise RunError(
                    f"{first.path} and {other.path} disagree on {name!r} of {count} of the test"
                    f" part (first: {photo}): their labels differ"
                )
