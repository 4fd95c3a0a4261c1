"""What `compare` finds: plain records that become the text table, the JSON file and the report page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.evaluation.categories.applies import Applies
from pipeline.evaluation.coverage import Coverage
from pipeline.evaluation.figures import Metrics, published
from pipeline.evaluation.goals import BALANCED
from pipeline.system import write_text

Interval = tuple[float, float]

AT_PRECISION = (0.95,)
"""How much of what is filled in must be right, where nobody said it."""

OTHERS = "all others"
NOTHING = "nothing"


@dataclass(frozen=True)
class Difference:
    """A candidate's figure minus the best candidate's, on the same resamples and on the attributes both have.

    Attributes:
        low, high: 95 % interval.
        within_noise: The interval holds 0.
    """

    value: float
    low: float
    high: float
    within_noise: bool


@dataclass(frozen=True)
class Candidate:
    """One configuration of one run, judged on the test rows.

    Attributes:
        name: What people call it, unique among the candidates.
        config_id: What its files are called.
        settings: Its row of configs.csv.
        policy: Its threshold policy, chosen on validation.
        intervals: 95 % per overall figure; key_intervals : per attribute and figure.
        differences: To the best candidate (none for itself).
        model: Its model file, "" when the run kept none.
    """

    name: str
    run: str
    config_id: str
    settings: Mapping[str, str]
    backbone: str
    random_weights: bool
    policy: str
    validation_score: float | None
    seconds: float | None
    metrics: Metrics
    intervals: Mapping[str, Interval]
    attribute_intervals: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[str, Difference]
    best: bool
    model: str

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes it predicts."""
        return tuple(row.attribute for row in self.metrics.attributes)


@dataclass(frozen=True)
class ByRow:
    """The best configuration, by validation, among those that are alike and have one value of a field.

    Attributes:
        configurations: How many these are.
        name: What it is called.
        candidate: Its name among the candidates, None when it was not judged.
        among: In what they are alike, where others of the comparison differ: head, features, photos and so on.
        settings: Its own settings, of those in which configurations differ.
    """

    value: str
    configurations: int
    config_id: str
    run: str
    validation_score: float | None
    candidate: str | None
    among: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class PolicyRow:
    """The best candidate under one of its stored threshold policies."""

    policy: str
    chosen: bool
    validation_score: float
    metrics: Metrics


@dataclass(frozen=True)
class Confusion:
    """Photos of one single-valued attribute: counts[true][decided]; the last column is "nothing decided".

    An attribute of very many values has its most frequent ones and, last, `OTHERS` for all the rest together.

    Attributes:
        mistakes: The most frequent (true, decided, photos), over all values, those that training never saw included.
        unseen: True values that training never saw, which are never decided; at most as many, too.
        unseen_counts: Their rows, with the columns of `counts`.
    """

    attribute: str
    values: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    mistakes: tuple[tuple[str, str, int], ...] = ()
    unseen: tuple[str, ...] = ()
    unseen_counts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Reliability:
    """Calibration of one attribute: per bin the mean confidence, the share correct (None when empty) and the count."""

    attribute: str
    confidence: tuple[float | None, ...]
    correct: tuple[float | None, ...]
    count: tuple[int, ...]


@dataclass(frozen=True)
class Curve:
    """Loss per epoch of one configuration; best_epoch is the one its model was taken from."""

    name: str
    train: tuple[tuple[float, float], ...]
    validation: tuple[tuple[float, float], ...]
    best_epoch: float | None


@dataclass(frozen=True)
class Pair:
    """Two candidates on the same resamples: the first's figures minus the second's, on the attributes both have.

    Attributes:
        verdict: "first better" or "second better" when accuracy or macro F1 says so and the other does not contradict,
            "mixed" when they contradict each other, else "no difference shown".
    """

    first: str
    second: str
    differences: Mapping[str, Difference]
    verdict: str


@dataclass(frozen=True)
class ByDifference:
    """The best like configurations, by validation, of two values of the `--by` field, as a `Pair` of candidates.

    Attributes:
        among: In what the two are alike, where others of the comparison differ.
    """

    field: str
    first_value: str
    second_value: str
    first: str
    second: str
    differences: Mapping[str, Difference]
    verdict: str
    among: str = ""


@dataclass(frozen=True)
class OnPhotos:
    """What one candidate, or the majority baseline, reaches on some photos."""

    name: str
    metrics: Metrics
    intervals: Mapping[str, Interval]


@dataclass(frozen=True)
class PhotoSet:
    """The best configuration of each run, by its own validation, on test photos that these runs have.

    Attributes:
        groups: Products among the photos.
        runs: Names of the runs, the newest first.
        everybody: Whether these are the test photos of all runs; else the other runs do not know the photos.
        best: One per run, in their order.
        majority: The baseline, from the training photos of the first run.
        pairs: Every two of `best`, the newer minus the older.
    """

    photos: int
    groups: int
    runs: tuple[str, ...]
    everybody: bool
    best: tuple[OnPhotos, ...]
    majority: OnPhotos
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class ValueRow:
    """One value under the best candidate; None where nothing could be measured.

    Attributes:
        train, support: Known training and test photos that have it.
        decided: Known test photos on which it is decided.
        learnable: Whether any training photo has it; a value that only test photos have is no column of any head.
    """

    attribute: str
    value: str
    train: int
    support: int
    decided: int
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None
    learnable: bool


@dataclass(frozen=True)
class CalibrationRow:
    """One attribute of the best candidate before and after calibration, on test.

    Attributes:
        method: Temperature (logits times scale), platt (logits times scale plus shift), or none, as it did not help.
        error_*, loss_*: Calibration error and log loss; before is None when the run kept no uncalibrated probabilities.
    """

    attribute: str
    method: str
    scale: float
    shift: float
    error_before: float | None
    error_after: float | None
    loss_before: float | None
    loss_after: float | None


@dataclass(frozen=True)
class Evaluated:
    """A model file that `evaluate` tried.

    Attributes:
        run: The folder of its figures.
        knows_training: Whether the file says how common its values were in training, where the majority comes from.
    """

    run: str
    model: str
    sha256: str
    knows_training: bool


@dataclass(frozen=True)
class RunFacts:
    """What one run says of itself.

    Attributes:
        findings: Kind -> count of dropped or odd rows.
    """

    name: str
    path: str
    created: str
    data: str
    backbone: str
    weights_source: str
    random_weights: bool
    blocks: tuple[str, ...]
    attributes: tuple[str, ...]
    findings: Mapping[str, int]
    not_measurable: tuple[str, ...]
    configurations: int


@dataclass(frozen=True)
class Comparison:
    """Every candidate on the same test photos, best first by validation score.

    Attributes:
        parts: Photos per part of the best candidate's run; of test those that judge all candidates.
        groups: Products among the test photos, the unit of resampling.
        majority: The baseline that never looks at a photo, from the training rows of the run with the most attributes.
        best: Name of the candidate with the highest validation score among those with the most attributes.
        pairs: Every two of the first candidates, best first.
        by_differences: Every two values of `by` whose best configurations were judged and are alike in all else.
        by_note: That no two values of `by` can be compared, and why; "" when some can.
        left_out: What the runs do not share, and what became of it, in sentences.
        photo_sets: The best of each run on the photos of all runs, then on those of some; none when all have the same.
        against_majority: The best one and the baseline, paired; None in what was made before there was one.
        headline: What must be said before any figure, such as that the best is no better than the majority.
        choose: What is best, on validation (`evaluation.goals`): what validation scores are.
        evaluated: The models that `evaluate` tried; none where all runs are of `fit-heads`.
        coverage: How much these, or the best one, can fill in.
        applies: Whether the best one speaks of attributes where the category has them alone; none without categories.
    """

    created: str
    runs: tuple[RunFacts, ...]
    parts: Mapping[str, int]
    groups: int
    resamples: int
    candidates: tuple[Candidate, ...]
    majority: Candidate
    best: str
    by: str | None
    by_rows: tuple[ByRow, ...]
    policies: tuple[PolicyRow, ...]
    confusions: tuple[Confusion, ...]
    reliability: tuple[Reliability, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]
    pairs: tuple[Pair, ...] = ()
    by_differences: tuple[ByDifference, ...] = ()
    values: tuple[ValueRow, ...] = ()
    calibration: tuple[CalibrationRow, ...] = ()
    by_note: str = ""
    left_out: tuple[str, ...] = ()
    photo_sets: tuple[PhotoSet, ...] = ()
    evaluated: tuple[Evaluated, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    against_majority: Pair | None = None
    headline: tuple[str, ...] = ()
    choose: str = BALANCED
    applies: tuple[Applies, ...] = ()

    @property
    def best_candidate(self) -> Candidate:
        """The candidate chosen on validation."""
        return next(candidate for candidate in self.candidates if candidate.best)

    @property
    def ahead(self) -> Candidate | None:
        """The member, with a higher validation score, to which the best one's run preferred it; None as a rule.

        A run prefers an ensemble to a member of it that is ahead within noise, the only way in which the highest
        validation score among the candidates for as many attributes is not that of the best.
        """
        best = self.best_candidate
        rivals = [
            (each.validation_score, each.run == best.run, each)
            for each in self.candidates
            if each.validation_score is not None and len(each.attributes) == len(best.attributes)
        ]
        first = max(rivals, key=lambda rival: rival[:2])[2] if rivals else best
        return None if (first.validation_score or 0.0) <= (best.validation_score or 0.0) else first

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; figures that do not exist are null."""
        result: dict[str, Any] = published(self)
        if not self.evaluated:
            del result["evaluated"]
        return result


def save_json(comparison: Comparison, path: Path) -> None:
    """Write the whole comparison as JSON, whole or not at all."""
    write_text(path, json.dumps(comparison.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
