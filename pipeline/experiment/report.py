"""What a fit gave, and what `fit-heads` tells of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.catalogue.findings import Finding
from pipeline.errors import counted
from pipeline.experiment.candidates import JudgedHead, Truth, doubts
from pipeline.experiment.rows import Experiment
from pipeline.heads import FittedHead
from pipeline.heads.config import NETWORK
from pipeline.names import REFIT, refit_of, spoken

_FINAL_NETWORK = "`finetune --final` trains a network on all photos, and --final-weights takes it"


@dataclass(frozen=True)
class FitReport:
    """What one `fit-heads` call did.

    Attributes:
        run: Its folder.
        best: config_id chosen on validation, its threshold policy and validation score, which is optimistic: the
            highest of many, or that of an ensemble of those.
        called: What people call the best one.
        choose: What the score is (`evaluation.goals`).
        configs: How many were fit.
        parts: Photos per part.
        notes: Sentences a person should read.
        findings: What was dropped or odd in the catalogue, its contents and its split.
    """

    run: Path
    best: str
    called: str
    policy: str
    score: float
    choose: str
    configs: int
    parts: Mapping[str, int]
    seconds: float
    notes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Sees:
    """What each fit of a run sees.

    Attributes:
        first: The fit that everything is chosen on.
        refitted: The refit, where one was asked for: the same labels, maybe vectors of another training of the network.
        everything: The final fit, where one was asked for.
    """

    first: Experiment
    refitted: Experiment | None
    everything: Experiment | None

    def __call__(self, candidate: JudgedHead) -> Experiment:
        """What a candidate that is judged was fit on."""
        return self.first if candidate.fitted_on == "train" or self.refitted is None else self.refitted


@dataclass(frozen=True)
class Outcome:
    """What a fit gave.

    Attributes:
        fitted: Every configuration.
        candidates: Those that were judged on validation, ensembles included.
        best: The one chosen; its refit where one was asked for.
        ahead: The one with the highest validation score.
        kept: Those whose predictions and models are written.
        final: The best one's recipe fit on every labelled photo, where that was asked for.
        later: What the fits saw.
    """

    fitted: Sequence[FittedHead]
    candidates: Sequence[JudgedHead]
    best: JudgedHead
    ahead: JudgedHead
    kept: Sequence[JudgedHead]
    final: JudgedHead | None
    later: Sees


def about_best(outcome: Outcome, experiment: Experiment, truths: Mapping[str, Truth]) -> tuple[str, ...]:
    """Why it is the best, and what stands against believing it."""
    test_groups = experiment.groups[experiment.split.rows("test")]
    doubtful = doubts(outcome.best, truths["train"], truths["validation"], test_groups)
    return (*_margin(outcome), *doubtful, *_left_alone(outcome.best, experiment.targets.schema.attributes))


def _left_alone(best: JudgedHead, attributes: Sequence[str]) -> tuple[str, ...]:
    """Where the best one's probabilities stay as they were, although calibration was asked for."""
    alone = () if best.calibration is None else best.calibration.left_alone
    if not alone:
        return ()
    named = ", ".join(attributes[i] for i in alone[:10]) + (" ..." if len(alone) > 10 else "")
    return (
        f"not calibrated ({len(alone)} of {counted(len(attributes), 'attribute')}): other validation photos were not"
        f" shown to gain by it: {named}",
    )


def called_of(outcome: Outcome) -> Callable[[str], str]:
    """What people call a configuration by its id; an ensemble has one that can be said."""
    configs = [head.config for head in outcome.fitted]
    names = dict(zip([c.config_id for c in configs], spoken([asdict(c) for c in configs]), strict=True))
    names |= {config_id + REFIT: refit_of(name) for config_id, name in names.items()}
    return lambda config_id: names.get(config_id, config_id)


def _margin(outcome: Outcome) -> tuple[str, ...]:
    """Why the best is not the one with the highest score, when it is not."""
    best, ahead = outcome.best, outcome.ahead
    gap = ahead.score - best.score
    if gap <= 0.0:
        return ()
    member = called_of(outcome)(ahead.config_id)
    return (f"{best.config_id} is taken: its member {member} is {gap:.4f} ahead on validation, within noise",)


def about_final(outcome: Outcome, experiment: Experiment) -> tuple[str, ...]:
    """What the final model is, and what it is not."""
    networks = [head.config.config_id for head in outcome.best.made_of if head.config.head == NETWORK]
    if outcome.final is None:
        none = f"no models/final.joblib: the heads of {outcome.best.config_id} are not fit again; {_FINAL_NETWORK}"
        return (none,) if outcome.later.everything is not None else ()
    photos, test = counted(len(experiment.ids), "photo"), counted(experiment.split.counts()["test"], "test photo")
    said = f"models/final.joblib is {outcome.best.config_id} fit on all {photos}; measured before on {test}"
    everything = outcome.later.everything
    same = everything is not None and everything.vectors is experiment.vectors
    older = f"{', '.join(networks)} in it has learnt from training photos alone; {_FINAL_NETWORK}"
    return (said, older) if networks and same else (said,)


def notes_of(experiment: Experiment, outcome: Outcome) -> tuple[str, ...]:
    """Sentences on the configurations, the values and the vectors."""
    fitted, called = outcome.fitted, called_of(outcome)
    notes = [f"{called(head.config.config_id)}: {head.note}" for head in fitted if head.note]
    names = experiment.targets.schema.column_names
    constant = sorted({names[column] for head in fitted for column in head.not_learnable})
    if constant:
        notes.append(
            f"not learnable ({counted(len(constant), 'value')}, one class in training): {', '.join(constant[:10])}"
        )
    lacking = experiment.split.not_measurable
    if lacking:
        notes.append(
            f"not measurable ({counted(len(lacking), 'value')}, too few photos for all parts):"
            f" {', '.join(lacking[:10])}"
        )
    if len(experiment.features.kinds) > 1:
        notes.append(f"vectors side by side: {experiment.features}")
    if any(info.notes.get("random_weights") for info in experiment.features.infos):
        notes.append("the vectors come from random weights: good for tests and speed only")
    return tuple(notes)
