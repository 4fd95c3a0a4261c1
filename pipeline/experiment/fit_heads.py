"""The stage between the cache and the comparison: fit many heads on cached vectors, leave one run folder.

Who sees what: the split is made first, from the labels. Fitting, epochs, thresholds and the choice of the best
configuration see training and validation rows only; test rows enter as features alone, to be predicted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pipeline.catalogue import PARTS
from pipeline.errors import HeadError, OptionError, counted
from pipeline.evaluation.thresholds import parse_policy
from pipeline.experiment.candidates import (
    Fit,
    JudgedHead,
    Truth,
    best_of,
    choose,
    folds_of,
    judge,
    worth_keeping,
)
from pipeline.experiment.kinds.again import final_experiment, refit_experiment
from pipeline.experiment.kinds.averaging import averaged
from pipeline.experiment.kinds.fitting import fit_on_kinds, on_kinds
from pipeline.experiment.kinds.models import write_final_model, write_models
from pipeline.experiment.kinds.own_heads import require_own_heads, with_own_heads
from pipeline.experiment.mlflow_log import MlflowStore
from pipeline.experiment.report import FitReport, Outcome, Sees, about_best, about_final, called_of, notes_of
from pipeline.experiment.rows import Experiment, load_experiment
from pipeline.experiment.run_writer import (
    Request,
    RunFolder,
    write_configs,
    write_neighbours,
    write_pictures,
    write_predictions,
    write_rows,
    write_run,
    write_uncalibrated,
)
from pipeline.features.backbone.blocks import BLOCKS
from pipeline.features.near_duplicates import Neighbours
from pipeline.heads import FittedHead, HeadConfig, SweepOptions, ensemble, grid
from pipeline.heads.calibration import Calibration, calibrated, can_be_calibrated, fit_calibration, rows_to_look_at
from pipeline.heads.config import NETWORK
from pipeline.heads.fitted import with_far_off_marked
from pipeline.heads.idle import idle_options
from pipeline.heads.kernel import parse_block_weights
from pipeline.heads.stacked.sweep import SweepProgress
from pipeline.machine import memory_limit
from pipeline.names import REFIT
from pipeline.options import CacheKeyOptions, DataOptions, FitOptions, SplitOptions
from pipeline.system import sync_tree


def fit_heads(
    data: DataOptions,
    cache_key: CacheKeyOptions,
    split: SplitOptions,
    options: FitOptions,
    progress: SweepProgress | None = None,
) -> FitReport:
    """Fit every configuration the options name and write a run folder (`pipeline.experiment.run_writer`).

    Raises:
        PipelineError: For options that cannot work, before anything is fit or written.
        CacheError: For a cache that cannot be read.
    """
    started = time.perf_counter()
    configs = _grid(options, len(cache_key.kinds()))
    folder = RunFolder.new(options.out or Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S"))
    experiment = load_experiment(data, cache_key, split, options)
    configs = with_own_heads(configs, experiment)
    later = _later(experiment, cache_key, options)
    for each in (later.refitted, later.everything):
        if each is not None:
            require_own_heads(configs, each)
    store = None if options.mlflow is None else MlflowStore.open(options.mlflow)
    # Before the fit, not after: a folder that cannot be made must not cost minutes of work.
    with folder.claimed():
        loaded = time.perf_counter()
        outcome = _fit(configs, experiment, later, options, progress)
        fit_done = time.perf_counter()
        experiment, near, near_notes = _write_folder(folder, experiment, outcome, split, options)
        seconds = {"load": loaded - started, "fit": fit_done - loaded, "total": time.perf_counter() - started}
        request = Request(data, cache_key, split, options)
        write_run(folder, experiment, request, outcome.best, near, seconds)
    best = outcome.best
    truths = {part: _truth(experiment, options, part) for part in ("train", "validation")}
    about = (*about_final(outcome, experiment), *about_best(outcome, experiment, truths))
    logged = (
        ()
        if store is None
        else (f"{counted(store.log(folder.path), 'configuration')} logged to MLflow in {store.folder}",)
    )
    return FitReport(
        run=folder.path,
        best=best.config_id,
        called=called_of(outcome)(best.config_id),
        policy=best.chosen,
        score=best.score,
        choose=options.choose,
        configs=len(outcome.fitted),
        parts=experiment.split.counts(),
        seconds=seconds["total"],
        notes=(*about, *idle_options(options, configs), *near_notes, *notes_of(experiment, outcome), *logged),
        findings=experiment.findings,
    )


def _write_folder(
    folder: RunFolder, experiment: Experiment, outcome: Outcome, split: SplitOptions, options: FitOptions
) -> tuple[Experiment, Neighbours | None, tuple[str, ...]]:
    """Write all but run.json to the disk; the experiment with its findings, and what near-duplicates say."""
    best = outcome.best
    folder.create()
    experiment = write_pictures(folder, experiment, options.thumbnails)
    near, near_notes = write_neighbours(folder, experiment, split, memory_limit(options.memory))
    write_rows(folder, experiment)
    judged = [best, *outcome.candidates] if options.refit else outcome.candidates
    write_configs(folder, outcome.fitted, judged, len(experiment.features.kinds))
    write_predictions(folder, outcome.kept, outcome.later)
    write_uncalibrated(folder, outcome.later(best), best)
    write_models(folder, outcome.later, outcome.kept, best)
    if outcome.final is not None and outcome.later.everything is not None:
        write_final_model(folder, outcome.later.everything, outcome.final)
    sync_tree(folder.path)
    return experiment, near, near_notes


def _grid(options: FitOptions, kinds: int) -> tuple[HeadConfig, ...]:
    """The configurations to fit; OptionError or HeadError for options that cannot work."""
    configs = on_kinds(grid(options), options.vectors, kinds)
    _check_blocks(parse_block_weights(options.block_weights))
    if options.threshold != "auto":
        parse_policy(options.threshold)
    if options.ensemble < 0 or options.ensemble == 1:
        raise OptionError(f"--ensemble is {options.ensemble}; expected 0 (off), or 2 or more heads to average")
    if options.thumbnails < 0:
        raise OptionError(f"--thumbnails is {options.thumbnails}; expected 0 (none), or the most photos to keep")
    return configs


def _check_blocks(names: Iterable[str]) -> None:
    for name in names:
        if name not in BLOCKS:
            raise OptionError(f"--block-weights names {name!r}; the feature blocks are {', '.join(BLOCKS)}")


def _later(experiment: Experiment, cache_key: CacheKeyOptions, options: FitOptions) -> Sees:
    """What the later fits see, asked for before anything is fit, so that what lacks does not cost the fits."""
    for name in ("refit", "final"):
        if getattr(options, f"{name}_weights") and not getattr(options, name):
            raise OptionError(f"--{name}-weights are those of a {name} model; add --{name}, or leave them out")
    refitted = refit_experiment(experiment, cache_key, options) if options.refit else None
    everything = final_experiment(experiment, cache_key, options) if options.final else None
    return Sees(experiment, refitted, everything)


def _fit(
    configs: tuple[HeadConfig, ...],
    experiment: Experiment,
    later: Sees,
    options: FitOptions,
    progress: SweepProgress | None,
) -> Outcome:
    sweep = SweepOptions(
        device=options.device,
        halving=options.halving,
        halving_pace=options.halving_pace,
        products=options.products,
        seed=options.seed[0],
        max_labels=options.max_labels,
        progress=progress,
    )
    fitted = with_far_off_marked(fit_on_kinds(configs, experiment, ("train",), options, sweep))
    candidates = _judge_all(fitted, experiment, options)
    best, ahead = choose(candidates, _truth(experiment, options)), best_of(candidates)
    kept = list(candidates) if options.keep == "all" else worth_keeping(candidates)
    if later.refitted is not None and _can_be_fit_again(best, experiment, later.refitted):
        best = _refit(best, later.refitted, options, sweep)
        kept.insert(0, best)
    # Here alone test labels are learnt from, when everything has been chosen and no figure will be computed of it.
    everything, final = later.everything, None
    if everything is not None and _can_be_fit_again(best, experiment, everything):
        final = _fit_again(best, everything, options, sweep, PARTS)
    return Outcome(fitted, candidates, best, ahead, kept, final, later)


def _can_be_fit_again(best: JudgedHead, first: Experiment, again: Experiment) -> bool:
    """Whether anything would change: a network's heads are what finetune made them."""
    return again.vectors is not first.vectors or any(head.config.head != NETWORK for head in best.made_of)


def _truth(experiment: Experiment, options: FitOptions, part: str = "validation") -> Truth:
    at, targets = experiment.split.rows(part), experiment.targets
    return Truth(targets.schema, targets.Y[at], targets.known[at], experiment.groups[at], options.choose)


def _judge_all(fitted: Sequence[FittedHead], experiment: Experiment, options: FitOptions) -> list[JudgedHead]:
    truth = _truth(experiment, options)
    sound = [head for head in fitted if not head.diverged]
    if not sound:
        raise HeadError("every configuration diverged; try smaller learning rates with --lr")

    def judged(config_id: str, head: FittedHead, made_of: tuple[FittedHead, ...]) -> JudgedHead:
        calibration = _calibration(head, experiment, truth) if options.calibrate == "on" else None
        head = head if calibration is None else calibrated(head, calibration)
        P = experiment.predict(head, "validation")
        return replace(judge(Fit(config_id, head, made_of), P, truth, options.threshold), calibration=calibration)

    candidates = [judged(head.config.config_id, head, (head,)) for head in sound]
    if options.ensemble > 1 and len(candidates) > 1:
        members, shares = averaged(candidates, options.ensemble, options.ensemble_from, truth)
        of_all = judged(f"ensemble-{len(members)}", ensemble(members, shares), members)
        candidates.append(replace(of_all, shares=shares))
    return candidates


def _calibration(head: FittedHead, experiment: Experiment, truth: Truth) -> Calibration | None:
    if not can_be_calibrated(head):
        return None
    at = rows_to_look_at(len(truth.Y))
    X = experiment.read(experiment.split.rows("validation")[at])
    return fit_calibration(head, X, truth.Y[at], truth.known[at], folds_of(truth.groups)[at])


def _refit(best: JudgedHead, experiment: Experiment, options: FitOptions, sweep: SweepOptions) -> JudgedHead:
    """The best candidate fit once more, on training and validation rows, up to the epochs chosen before.

    Its thresholds and validation figures stay those of the fit it repeats: on rows it has now seen they would flatter.
    """
    again = _fit_again(best, experiment, options, sweep, ("train", "validation"))
    note = f"{best.config_id} fit again on {again.fitted_on}; validation figures are those before"
    blank = replace(again.head, validation_loss=best.head.validation_loss, history=[], note=note)
    return replace(again, config_id=best.config_id + REFIT, head=blank)


def _fit_again(
    best: JudgedHead, experiment: Experiment, options: FitOptions, sweep: SweepOptions, parts: tuple[str, ...]
) -> JudgedHead:
    """A candidate with heads fit on these parts, every choice as made before."""
    configs = [head.config for head in best.made_of]
    stops = tuple(head.best_epoch for head in best.made_of)
    on = " + ".join(parts)
    again = replace(sweep, halving=False, stop_at=stops, progress=_as_refit(sweep.progress, on))
    heads = fit_on_kinds(configs, experiment, parts, options, again)
    if any(head.diverged for head in heads):
        raise HeadError(f"{best.config_id} diverged when fit again on {on}; leave out --refit and --final")
    head = ensemble(heads, best.shares) if len(heads) > 1 else heads[0]
    head = head if best.calibration is None else calibrated(head, best.calibration)
    return replace(best, head=head, made_of=tuple(heads), fitted_on=on)


def _as_refit(progress: SweepProgress | None, parts: str) -> SweepProgress | None:
    """Lines that say they are of a refit: they name configurations again, and losses of rows now trained on."""
    return None if progress is None else lambda text: progress(f"refit on {parts}: {text}")
