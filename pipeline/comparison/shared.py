"""What runs share: the test photos on which each of them may be judged, and what is left out of that and why.

A photo judges runs in which it is a test photo, and no others: one that a run was fit on or chosen by says nothing of
it. A label counts where all the runs that have its attribute give the photo the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Float32, Positions, UInt8
from pipeline.catalogue.labels import UNKNOWN, LabelSchema
from pipeline.comparison import left_out
from pipeline.comparison.pairs import Predicted
from pipeline.errors import RunError, counted
from pipeline.evaluation.unseen import Unseen
from pipeline.experiment.run_reader import Run


@dataclass(frozen=True)
class RunRows:
    """The rows of one run that judge it, t of them in the order of their photos' names.

    Attributes:
        rows: intp (t,), positions among all rows of the run.
        order: intp (t,), positions among its test rows.
        Y: uint8 (t, L), the labels.
        mask: Bool (t, L), where they are known and count.
        unseen: The values that only test photos have, on these photos.
    """

    rows: Positions
    order: Positions
    Y: UInt8
    mask: Bool
    unseen: Unseen

    def predicted(self, P: Float32, D: Bool, schema: LabelSchema) -> Predicted:
        """What is said of these photos, (t, L) each, beside what is true of them."""
        return Predicted(P, D, self.Y, self.mask, schema, self.unseen)


@dataclass(frozen=True)
class JudgingPhotos:
    """Photos that are test photos of all of some runs.

    Attributes:
        runs: These runs, as they were given.
        photos: Their names, ascending.
        of: Path of a run -> its rows.
        odd: Per attribute whose labels differ between the runs: on how many photos, the first of them, its name.
    """

    runs: tuple[Run, ...]
    photos: tuple[str, ...]
    of: Mapping[Path, RunRows]
    odd: tuple[tuple[int, str, str], ...] = ()


@dataclass(frozen=True)
class Shared:
    """The photos that judge all runs, and those that judge some.

    Attributes:
        common: Test photos of every run.
        apart: Test photos of some runs that the other runs do not know at all, such as next month's.
        left_out: What judges nobody, or not everybody, and why, in sentences.
    """

    common: JudgingPhotos
    apart: tuple[JudgingPhotos, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Known:
    """Which photos a run knows, and how."""

    run: Run

    @cached_property
    def parts(self) -> dict[str, str]:
        return dict(zip(self.run.photos, self.run.parts.tolist(), strict=True))

    @cached_property
    def bytes(self) -> dict[str, str]:
        return dict(zip(self.run.photos, self.run.contents, strict=True))

    @cached_property
    def contents(self) -> frozenset[str]:
        return frozenset(filter(None, self.run.contents))


def share(runs: Sequence[Run]) -> Shared:
    """Sort the test photos of runs by whom they may judge.

    Raises:
        RunError: A run has no test photos, or there is no test photo of all runs.
    """
    empty = next((run for run in runs if not len(run.rows("test"))), None)
    if empty is not None:
        raise RunError(f"{empty.path} has no test photos, so nothing can be compared")
    known = [_Known(run) for run in runs]
    common: list[str] = []
    apart: dict[tuple[int, ...], list[str]] = {}
    reasons: dict[str, list[str]] = {}
    for photo in sorted({photo for each in known for photo, part in each.parts.items() if part == "test"}):
        tested, why = _judges(photo, known)
        if why:
            reasons.setdefault(why, []).append(photo)
        elif len(tested) == len(runs):
            common.append(photo)
        else:
            apart.setdefault(tested, []).append(photo)
    if not common:
        raise RunError(_nothing(known))
    everyone = _test_set(runs, common)
    sets = tuple(_test_set([runs[i] for i in some], photos) for some, photos in apart.items())
    if len(runs) == 1:
        return Shared(everyone, (), ())
    said = (
        *(left_out.of_nobody(photos, why) for why, photos in reasons.items()),
        *(left_out.apart(len(each.photos), each.runs, runs) for each in sets),
        *(left_out.labels_differ(*each) for each in everyone.odd),
        *left_out.fitted_on(runs),
        *left_out.attributes(runs),
        *left_out.values(runs),
    )
    return Shared(everyone, sets, said)


def _judges(photo: str, known: Sequence[_Known]) -> tuple[tuple[int, ...], str]:
    """The runs that a photo may judge, and why it judges nobody, "" when it does."""
    tested = tuple(i for i, each in enumerate(known) if each.parts.get(photo) == "test")
    if any(each.parts.get(photo, "test") != "test" for each in known):
        return tested, "in the test part of one run and in another part of another run, which learnt from them"
    contents = {content for i in tested if (content := known[i].bytes[photo])}
    if len(contents) > 1:
        return tested, "other bytes in one run than in another"
    others = [each for each in known if photo not in each.parts]
    if any(contents & each.contents for each in others):
        return tested, "known to another run under another name"
    return tested, ""


def _nothing(known: Sequence[_Known]) -> str:
    """Why there is no test photo of all runs."""
    first = known[0]
    for other in known[1:]:
        same = first.parts.keys() & other.parts.keys()
        if not same:
            return (
                f"{first.run.path} and {other.run.path} have no photo in common (such as {first.run.photos[0]} and "
                f"{other.run.photos[0]}): they are runs on two catalogues, and nothing can be compared"
            )
        tested = [photo for photo in same if first.parts[photo] == other.parts[photo] == "test"]
        if not tested:
            return (
                f"{first.run.path} and {other.run.path} have {counted(len(same), 'photo')} in common, but "
                "none that is in the test part of both, so nothing can judge both: fit one of them again with "
                f"--split-from {first.run.path}"
            )
    return (
        f"no photo is in the test part of all {len(known)} runs, with the same bytes; compare fewer of them, or fit "
        f"them again with --split-from {first.run.path}"
    )


def _test_set(runs: Sequence[Run], photos: Sequence[str]) -> JudgingPhotos:
    rows = [_rows(run, photos) for run in runs]
    counts, odd = _agreed(runs, rows, photos)
    of = {}
    for run, at in zip(runs, rows, strict=True):
        mask, unseen = run.mask[at], run.unseen.take(at)
        for attribute, columns in zip(run.schema.attributes, run.schema.slices, strict=True):
            if attribute in counts:
                mask[:, columns] &= counts[attribute][:, None]
                unseen.Y[:, unseen.columns(attribute)] &= counts[attribute][:, None]
        order = np.searchsorted(run.rows("test"), at)
        of[run.path] = RunRows(at, order, run.Y[at], mask, unseen)
    return JudgingPhotos(tuple(runs), tuple(photos), of, odd)


def _rows(run: Run, photos: Sequence[str]) -> Positions:
    where = {photo: i for i, photo in enumerate(run.photos)}
    return np.fromiter((where[photo] for photo in photos), np.intp, len(photos))


def _agreed(
    runs: Sequence[Run], rows: Sequence[Positions], photos: Sequence[str]
) -> tuple[dict[str, Bool], tuple[tuple[int, str, str], ...]]:
    """Per attribute of several runs the photos (t,) with one label in all of them, and what differs."""
    agreed: dict[str, Bool] = {}
    odd = []
    for attribute in dict.fromkeys(name for run in runs for name in run.schema.attributes):
        having = [(run, at) for run, at in zip(runs, rows, strict=True) if attribute in run.schema.attributes]
        if len(having) < 2:
            continue
        values = list(dict.fromkeys(value for run, _ in having for value in _known_values(run, attribute)))
        first, *others = (_truth(run, at, attribute, values) for run, at in having)
        same = np.ones(len(photos), np.bool_)
        for other in others:
            same &= (first == other).all(axis=1)
        if not same.all():
            agreed[attribute] = same
            odd.append((int((~same).sum()), photos[int(np.argmin(same))], attribute))
    return agreed, tuple(odd)


def _known_values(run: Run, attribute: str) -> list[str]:
    """The values of an attribute that a run's labels have, those that only its test photos have last."""
    own = run.schema.values[run.schema.attributes.index(attribute)]
    return [*(value for value in own if value != UNKNOWN), *(v for a, v in run.unseen.labels if a == attribute)]


def _truth(run: Run, rows: Positions, attribute: str, values: Sequence[str]) -> npt.NDArray[np.int8]:
    """int8 (t, values): 1 true, 0 not, -1 unknown; a value that the run never met is one that no photo has."""
    at = run.schema.attributes.index(attribute)
    columns = run.schema.slices[at]
    Y, mask = run.Y[rows, columns], run.mask[rows, columns]
    truth = np.where(mask.any(axis=1), 0, -1).astype(np.int8)[:, None].repeat(len(values), axis=1)
    for j, value in enumerate(run.schema.values[at]):
        if value != UNKNOWN:
            truth[:, values.index(value)] = np.where(mask[:, j], Y[:, j] > 0, -1)
    for j in run.unseen.columns(attribute):
        has = run.unseen.Y[rows, j]
        truth[has, values.index(run.unseen.labels[j][1])] = 1
    return truth
