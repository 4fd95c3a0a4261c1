"""Fitted configurations judged on validation: thresholds per policy, one score, the best.

Thresholds that were tuned on rows look better on these rows than on others, the more of them the better. So a policy's
score is that of decisions made by thresholds which the row's fold did not tune (`cross_fitted`); the thresholds kept
are tuned on all validation rows. The score of what is chosen stays optimistic: it is the highest of many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pipeline.arrays import Bool, Float32, Float64, Int64, Positions, UInt8
from pipeline.catalogue.labels import LabelSchema
from pipeline.errors import counted
from pipeline.evaluation import goals
from pipeline.evaluation.bootstrap import FEW_PRODUCTS, interval
from pipeline.evaluation.majority import majority_baseline
from pipeline.evaluation.metrics import evaluate
from pipeline.evaluation.thresholds import EXTRA, POLICIES, decide, full_name, is_tuned, tune
from pipeline.heads import FittedHead, ensemble
from pipeline.heads.calibration import Calibration

FOLDS = 5
"""Parts of the validation rows, each judged by thresholds that the others tuned."""


@dataclass(frozen=True)
class Truth:
    """What a part's rows are known to be: Y (n, L) uint8, known (n, L) bool, groups (n,): photos of one product.

    Attributes:
        choose: The figure of these rows that says what is best, of `goals.MEANINGS`.
    """

    schema: LabelSchema
    Y: UInt8
    known: Bool
    groups: Int64
    choose: str = goals.BALANCED

    def score(self, P: Float32, D: Bool) -> float:
        """The figure, of probabilities and decisions (n, L)."""
        return goals.score(self.choose, P, D, self.Y, self.known, self.schema)


@dataclass(frozen=True)
class Policy:
    """Thresholds (L,) that one policy tuned on validation.

    Attributes:
        score: Of its decisions on rows that did not tune them.
    """

    thresholds: Float64
    score: float


@dataclass(frozen=True)
class JudgedHead:
    """One fitted head with its probabilities P (n, L) of the validation rows and its threshold policies.

    Attributes:
        decided: (n, L), what the chosen policy decides on validation rows, those that score and metrics are of.
        metrics: Overall figures of them by name, `goals.BALANCED` among them, whatever was chosen by.
        made_of: The fitted configurations behind it: itself, or those an ensemble averages. After a refit P, policies
            and metrics are still those of the fit on training rows alone.
        calibration: What `head` has folded in, `made_of` not.
        shares: How much each of `made_of` counts in the average; empty: all alike.
        fitted_on: The parts of the split its head has learnt from.
    """

    config_id: str
    head: FittedHead
    made_of: tuple[FittedHead, ...]
    P: Float32
    decided: Bool
    policies: Mapping[str, Policy]
    chosen: str
    metrics: Mapping[str, Any]
    calibration: Calibration | None = None
    shares: tuple[float, ...] = ()
    fitted_on: str = "train"

    @property
    def score(self) -> float:
        """Validation score under the chosen policy."""
        return self.policies[self.chosen].score

    @property
    def uncalibrated(self) -> FittedHead:
        """The head before calibration."""
        return self.made_of[0] if len(self.made_of) == 1 else ensemble(self.made_of, self.shares)

    @property
    def thresholds(self) -> Float64:
        """Thresholds (L,) of the chosen policy."""
        return self.policies[self.chosen].thresholds


@dataclass(frozen=True)
class Fit:
    """One fitted head to be judged, and what it is made of: itself, or the configurations that an ensemble averages."""

    config_id: str
    head: FittedHead
    made_of: tuple[FittedHead, ...]


def judge(fit: Fit, P: Float32, truth: Truth, threshold: str) -> JudgedHead:
    """Tune thresholds on the head's probabilities P (n, L) of the validation rows and choose among the policies.

    Args:
        fit: What made these probabilities.
        threshold: A policy, or auto for the best of `POLICIES` by score (the simplest of equals); it also stores
            `EXTRA`.
    """
    policies, decided = {}, {}
    for policy in (*POLICIES, *EXTRA) if threshold == "auto" else (full_name(threshold),):
        limits = tune(P, truth.Y, truth.known, truth.schema, policy)
        D = cross_fitted(P, truth, policy) if is_tuned(policy) else decide(P, truth.schema, limits)
        policies[policy] = Policy(limits, truth.score(P, D))
        decided[policy] = D
    eligible = [policy for policy in policies if policy not in EXTRA] or list(policies)
    chosen = max(eligible, key=lambda policy: policies[policy].score)
    overall = evaluate(P, decided[chosen], truth.Y, truth.known, truth.schema).to_json()["overall"]
    overall[goals.BALANCED] = replace(truth, choose=goals.BALANCED).score(P, decided[chosen])
    return JudgedHead(fit.config_id, fit.head, fit.made_of, P, decided[chosen], policies, chosen, overall)


def cross_fitted(P: Float32, truth: Truth, policy: str) -> Bool:
    """Decisions (n, L) of validation rows, each by thresholds tuned on the other folds alone.

    Args:
        P: Probabilities (n, L) of the rows.
        truth: What the rows are; products stay in one fold.
        policy: The threshold policy.
    """
    folds = folds_of(truth.groups)
    D = np.zeros(P.shape, np.bool_)
    for fold in range(FOLDS):
        at, rest = folds == fold, folds != fold
        # A single product has no others to learn from.
        rest = rest if rest.any() else at
        limits = tune(P[rest], truth.Y[rest], truth.known[rest], truth.schema, policy)
        D[at] = decide(P[at], truth.schema, limits)
    return D


def folds_of(groups: Int64) -> Positions:
    """The fold of each row, the same for every candidate; a product is in one."""
    names, at = np.unique(groups, return_inverse=True)
    return (np.random.default_rng(0).permutation(len(names)) % FOLDS)[at]


def best_of(candidates: Iterable[JudgedHead]) -> JudgedHead:
    """The highest validation score; the first of equals."""
    return max(candidates, key=lambda candidate: candidate.score)


def choose(candidates: Sequence[JudgedHead], truth: Truth) -> JudgedHead:
    """The highest validation score, but an ensemble rather than a member of it that is ahead within noise.

    The best of many is ahead partly by luck; an average of them is not picked, and as a rule serves new photos better.
    Noise is the 95 % interval of the difference of validation scores over resampled products, paired.
    """
    best = best_of(candidates)
    for candidate in candidates:
        if len(candidate.made_of) > 1 and any(member is best.made_of[0] for member in candidate.made_of):
            return best if candidate is best or _surely_better(best, candidate, truth) else candidate
    return best


def _surely_better(first: JudgedHead, second: JudgedHead, truth: Truth) -> bool:
    said = [(candidate.P, candidate.decided) for candidate in (first, second)]
    one, other = goals.resampled(truth.choose, said, (truth.Y, truth.known, truth.groups), truth.schema)
    span = interval(one - other)
    return span is not None and span[0] > 0.0


def doubts(best: JudgedHead, train: Truth, validation: Truth, test_groups: Int64) -> tuple[str, ...]:
    """What stands against believing the best, in sentences.

    Args:
        best: The chosen one.
        train: What training photos are known to be, where the majority comes from.
        validation: What it was judged by.
        test_groups: The product of each test photo, (n,).
    """
    base = majority_baseline(train.Y, train.known, train.schema).predict(len(validation.Y))
    score = validation.score(*base)
    sentences = []
    if best.score <= score:
        sentences.append(
            f"the best is no better on validation than always naming the most common value (score {score:.4f})"
        )
    products = len(np.unique(test_groups))
    if products < FEW_PRODUCTS:
        sentences.append(
            f"{counted(len(test_groups), 'test photo')} of {counted(products, 'product')} can hardly tell heads from"
            " each other, or from always naming the most common value"
        )
    return tuple(sentences)


def worth_keeping(candidates: Sequence[JudgedHead]) -> list[JudgedHead]:
    """The best of each pair of head and optimizer, and of each value of every other setting that varies.

    These are the ones that `compare --by FIELD` asks for. In the order of the candidates.
    """
    kept: set[str] = set()
    settings = [_settings(candidate) for candidate in candidates]
    for field in dict.fromkeys(name for setting in settings for name in setting):
        groups: dict[str, list[JudgedHead]] = {}
        for candidate, setting in zip(candidates, settings, strict=True):
            if field in setting:
                groups.setdefault(setting[field], []).append(candidate)
        if len(groups) <= MOST_VALUES:
            kept |= {best_of(group).config_id for group in groups.values()}
    return [candidate for candidate in candidates if candidate.config_id in kept]


MOST_VALUES = 64
"""A setting with more values than this is a random search: its best per value are not kept."""


def _settings(candidate: JudgedHead) -> dict[str, str]:
    """What a candidate is, as `compare --by` sees it; an ensemble is a head of its own."""
    used = candidate.head.config.used
    config = {name: str(value) for name, value in asdict(candidate.head.config).items() if name in used}
    config.setdefault("optimizer", "")
    if len(candidate.made_of) > 1:
        config |= {"head": "ensemble", "optimizer": "", "vectors": ""}
    return {"pair": f"{config['head']} {config['optimizer']}", **config}
