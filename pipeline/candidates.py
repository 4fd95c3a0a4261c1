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
    fitted_on : the parts of the split its head has learnt from.
    """

    config_id: str
    head: FittedHead
    made_of: tuple[FittedHead, ...]
    P: Float32
    policies: Mapping[str, Policy]
    chosen: str
    metrics: Mapping[str, Any]
    fitted_on: str = "train"

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


ASKED = ("loss", "label_smoothing", "logit_adjust", "schedule", "batch_size", "hidden", "dropout")
"""Fields of which `compare --by` is asked; rates, decays and seeds are searched, their best is enough."""


def worth_keeping(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The best of each pair of head and optimizer, then the best of each value of every other field in `ASKED` that
    was varied, in order of first appearance: what a comparison needs to answer a question on test photos.
    """
    listed = list(candidates)
    groups: dict[tuple[Any, ...], list[Candidate]] = {}
    for candidate in listed:
        config = candidate.head.config
        groups.setdefault((config.head, config.optimizer, len(candidate.made_of)), []).append(candidate)
    for name in ASKED:
        for candidate in listed:
            config = candidate.head.config
            if len(candidate.made_of) == 1 and name in config.spec.uses:
                groups.setdefault((name, getattr(config, name)), []).append(candidate)
    return list({candidate.config_id: candidate for candidate in map(best_of, groups.values())}.values())
