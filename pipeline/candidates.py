"""Fitted configurations judged on validation: thresholds per policy, one score, the best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.catalogue.labels import LabelSchema
from pipeline.heads import FittedHead
from pipeline.metrics import evaluate, validation_score
from pipeline.thresholds import POLICIES, decide, tune

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What a part's rows are known to be: Y (n, L) uint8, known (n, L) bool."""

    schema: LabelSchema
    Y: npt.NDArray[np.uint8]
    known: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Policy:
    """Thresholds (L,) that one policy chose on validation, and the validation score they reach."""

    thresholds: Float64
    score: float


@dataclass(frozen=True)
class Candidate:
    """One fitted head with its probabilities P (n, L) of the validation rows and its threshold policies.

    made_of : the fitted configurations behind it: itself, or those an ensemble averages. After a refit P, policies and
    metrics are still those of the fit on training rows alone.
    """

    config_id: str
    head: FittedHead
    made_of: tuple[FittedHead, ...]
    P: Float32
    policies: Mapping[str, Policy]
    chosen: str
    metrics: Mapping[str, Any]

    @property
    def score(self) -> float:
        """Validation score under the chosen policy."""
        return self.policies[self.chosen].score

    @property
    def thresholds(self) -> Float64:
        """Thresholds (L,) of the chosen policy."""
        return self.policies[self.chosen].thresholds


def judge(fit: tuple[str, FittedHead, tuple[FittedHead, ...]], P: Float32, truth: Truth, threshold: str) -> Candidate:
    """Tune thresholds on the head's probabilities P (n, L) of the validation rows and choose among the policies.

    fit : config_id, head, and what the head is made of.

    threshold : a policy, or auto for the best of `POLICIES` by score (the simplest of equals).
    """
    policies = {}
    for policy in POLICIES if threshold == "auto" else (threshold,):
        limits = tune(P, truth.Y, truth.known, truth.schema, policy)
        D = decide(P, truth.schema, limits)
        policies[policy] = Policy(limits, validation_score(P, D, truth.Y, truth.known, truth.schema))
    chosen = max(policies, key=lambda policy: policies[policy].score)
    D = decide(P, truth.schema, policies[chosen].thresholds)
    overall = evaluate(P, D, truth.Y, truth.known, truth.schema).to_json()["overall"]
    return Candidate(*fit, P, policies, chosen, overall)


def best_of(candidates: Iterable[Candidate]) -> Candidate:
    """The highest validation score; the first of equals."""
    return max(candidates, key=lambda candidate: candidate.score)


def best_per_head_and_optimizer(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The best of each pair of head and optimizer, in order of first appearance."""
    groups: dict[tuple[str, str, int], list[Candidate]] = {}
    for candidate in candidates:
        config = candidate.head.config
        groups.setdefault((config.head, config.optimizer, len(candidate.head.members)), []).append(candidate)
    return [best_of(group) for group in groups.values()]
