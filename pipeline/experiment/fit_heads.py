"""The stage between the cache and the comparison: fit many heads on cached vectors, leave one run folder.

Who sees what: the split is made first, from the labels. Fitting, epochs, thresholds and the choice of the best
configuration see training and validation rows only; test rows enter as features alone, to be predicted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.catalogue import PARTS, Finding, column_name, count_kinds, write_split
from pipeline.errors import HeadError, OptionError
from pipeline.evaluation.thresholds import parse_policy
from pipeline.experiment.candidates import JudgedHead, Truth, best_of, choose, judge, worth_keeping
from pipeline.experiment.mlflow_log import MlflowStore
from pipeline.experiment.report import FitReport
from pipeline.experiment.rows import Experiment, load_experiment
from pipeline.experiment.run_writer import RunFolder
from pipeline.experiment.thumbnails import choose_photos, write_thumbnails
from pipeline.features.near_duplicates import Neighbour, Neighbours, across_parts, sentence
from pipeline.heads import FittedHead, HeadConfig, SweepOptions, Targets, bytes_copied, ensemble, fit_many, grid
from pipeline.heads.calibration import Calibration, calibrated, can_be_calibrated, fit_calibration, rows_to_look_at
from pipeline.heads.stacked.sweep import Features, SweepProgress
from pipeline.model.file import Decision, FeatureOrigin, Parts, build_model, save_model
from pipeline.options import CacheKeyOptions, DataOptions, FitOptions, SplitOptions
from pipeline.system import host_facts, memory_limit, package_versions, sync_tree


@dataclass(frozen=True)
class _Request:
    """The options of one call, as run.json records them."""

    data: DataOptions
    cache_key: CacheKeyOptions
    split: SplitOptions
    fit: FitOptions

    def to_json(self) -> dict[str, Any]:
        return {
            "data": asdict(self.data),
            "key": asdict(self.cache_key),
            "split": asdict(self.split),
            "fit": asdict(self.fit),
        }


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
    configs = _grid(options)
    folder = RunFolder.new(options.out or Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S"))
    experiment = load_experiment(data, cache_key, split, options)
    store = None if options.mlflow is None else MlflowStore.open(options.mlflow)
    # Before the fit, not after: a folder that cannot be made must not cost minutes of work.
    with folder.claimed():
        loaded = time.perf_counter()
        outcome = _fit(configs, experiment, options, progress)
        fit_done = time.perf_counter()
        experiment, near, near_notes = _write_folder(folder, experiment, outcome, (split, options))
        seconds = {"load": loaded - started, "fit": fit_done - loaded, "total": time.perf_counter() - started}
        request = _Request(data, cache_key, split, options)
        _write_run(folder, experiment, request, (outcome.best, near), seconds)
    best = outcome.best
    logged = () if store is None else (f"{store.log(folder.path)} configurations logged to MLflow in {store.folder}",)
    return FitReport(
        run=folder.path,
        best=best.config_id,
        policy=best.chosen,
        score=best.score,
        configs=len(outcome.fitted),
        parts=experiment.split.counts(),
        seconds=seconds["total"],
        notes=(*_margin(best, outcome.ahead), *near_notes, *_notes(experiment, outcome.fitted), *logged),
        findings=experiment.findings,
    )


@dataclass(frozen=True)
class _Outcome:
    """What a fit gave.

    Attributes:
        fitted: Every configuration.
        candidates: Those that were judged on validation, ensembles included.
        best: The one chosen; its refit where one was asked for.
        ahead: The one with the highest validation score.
        kept: Those whose predictions and models are written.
    """

    fitted: Sequence[FittedHead]
    candidates: Sequence[JudgedHead]
    best: JudgedHead
    ahead: JudgedHead
    kept: Sequence[JudgedHead]


def _write_folder(
    folder: RunFolder, experiment: Experiment, outcome: _Outcome, asked: tuple[SplitOptions, FitOptions]
) -> tuple[Experiment, Neighbours | None, tuple[str, ...]]:
    """Write all but run.json to the disk; the experiment with its findings, and what near-duplicates say."""
    (split, options), best = asked, outcome.best
    folder.create()
    experiment = _write_thumbnails(folder, experiment, options.thumbnails)
    near, near_notes = _write_neighbours(folder, experiment, split, memory_limit(options.memory))
    _write_rows(folder, experiment)
    _write_configs(folder, outcome.fitted, [best, *outcome.candidates] if options.refit else outcome.candidates)
    _write_predictions(folder, experiment, outcome.kept)
    _write_uncalibrated(folder, experiment, best)
    _write_models(folder, experiment, outcome.kept, best)
    sync_tree(folder.path)
    return experiment, near, near_notes


def _grid(options: FitOptions) -> tuple[HeadConfig, ...]:
    """The configurations to fit; OptionError or HeadError for options that cannot work."""
    configs = grid(options)
    if options.threshold != "auto":
        parse_policy(options.threshold)
    if options.ensemble < 0 or options.ensemble == 1:
        raise OptionError(f"--ensemble is {options.ensemble}; expected 0 (off), or 2 or more heads to average")
    if options.thumbnails < 0:
        raise OptionError(f"--thumbnails is {options.thumbnails}; expected 0 (none), or the most photos to keep")
    return configs


def _fit(
    configs: tuple[HeadConfig, ...], experiment: Experiment, options: FitOptions, progress: SweepProgress | None
) -> _Outcome:
    sweep = SweepOptions(
        device=options.device,
        halving=options.halving,
        seed=options.seed[0],
        max_labels=options.max_labels,
        progress=progress,
    )
    fitted = fit_many(configs, *_sides(experiment, options, configs, "train"), sweep)
    candidates = _judge_all(fitted, experiment, options)
    best, ahead = choose(candidates, _truth(experiment)), best_of(candidates)
    kept = list(candidates) if options.keep == "all" else worth_keeping(candidates)
    if options.refit:
        best = _refit(best, experiment, options, sweep)
        kept.insert(0, best)
    return _Outcome(fitted, candidates, best, ahead, kept)


def _truth(experiment: Experiment) -> Truth:
    at, targets = experiment.split.rows("validation"), experiment.targets
    return Truth(targets.schema, targets.Y[at], targets.known[at], experiment.groups[at])


def _judge_all(fitted: Sequence[FittedHead], experiment: Experiment, options: FitOptions) -> list[JudgedHead]:
    truth = _truth(experiment)
    sound = [head for head in fitted if not head.diverged]
    if not sound:
        raise HeadError("every configuration diverged; try smaller learning rates with --lr")

    def judged(config_id: str, head: FittedHead, made_of: tuple[FittedHead, ...]) -> JudgedHead:
        calibration = _calibration(head, experiment, truth) if options.calibrate == "on" else None
        head = head if calibration is None else calibrated(head, calibration)
        P = experiment.predict(head, "validation")
        return replace(judge((config_id, head, made_of), P, truth, options.threshold), calibration=calibration)

    candidates = [judged(head.config.config_id, head, (head,)) for head in sound]
    if options.ensemble > 1 and len(candidates) > 1:
        alike = [c for c in candidates if c.head.links == best_of(candidates).head.links]
        top = sorted(alike, key=lambda c: -c.score)[: options.ensemble]
        members = tuple(head for c in top for head in c.made_of)
        candidates.append(judged(f"ensemble-{len(top)}", ensemble(members), members))
    return candidates


def _calibration(head: FittedHead, experiment: Experiment, truth: Truth) -> Calibration | None:
    if not can_be_calibrated(head):
        return None
    at = rows_to_look_at(len(truth.Y))
    X = experiment.read(experiment.split.rows("validation")[at])
    return fit_calibration(head, X, truth.Y[at], truth.known[at])


def _sides(
    experiment: Experiment, options: FitOptions, configs: Sequence[HeadConfig], *training: str
) -> tuple[tuple[Features, Targets], tuple[Features, Targets]]:
    """What is trained on and what is judged on; --memory bounds both, and the copies that baselines make, together."""
    sides = (training, ("validation",))
    one_view = 4 * experiment.features.dim * len(experiment.split.rows(*training))
    in_use = sum(experiment.bytes_of(*parts) for parts in sides) + bytes_copied(configs, one_view)

    def side(parts: tuple[str, ...]) -> tuple[Features, Targets]:
        beside = in_use - experiment.bytes_of(*parts)
        source = experiment.source(*parts, limit=memory_limit(options.memory), beside=beside)
        return source, experiment.targets_of(*parts)

    return side(sides[0]), side(sides[1])


def _refit(best: JudgedHead, experiment: Experiment, options: FitOptions, sweep: SweepOptions) -> JudgedHead:
    """The best candidate fit once more, on training and validation rows, up to the epochs chosen before.

    Its thresholds and validation figures stay those of the fit it repeats: on rows it has now seen they would flatter.
    """
    configs = [head.config for head in best.made_of]
    stops = tuple(head.best_epoch for head in best.made_of)
    again = replace(sweep, halving=False, stop_at=stops)
    heads = fit_many(configs, *_sides(experiment, options, configs, "train", "validation"), again)
    if any(head.diverged for head in heads):
        raise HeadError(f"{best.config_id} diverged when fit again on train + validation; leave out --refit")
    head = ensemble(heads) if len(heads) > 1 else heads[0]
    head = head if best.calibration is None else calibrated(head, best.calibration)
    note = f"{best.config_id} fit again on train + validation; validation figures are those before"
    blank = replace(head, validation_loss=best.head.validation_loss, history=[], note=note)
    seen = "train + validation"
    return replace(best, config_id=f"{best.config_id}-refit", head=blank, made_of=tuple(heads), fitted_on=seen)


def _write_rows(folder: RunFolder, experiment: Experiment) -> None:
    names, targets, unseen = experiment.catalogue.filenames, experiment.truth, experiment.unseen
    write_split(folder.path / "split.csv", names, experiment.ids, experiment.groups, experiment.split)
    columns = [*targets.schema.column_names, *(column_name(attribute, value) for attribute, value in unseen.labels)]
    Y = np.concatenate([targets.Y, unseen.Y.astype(np.uint8)], axis=1)
    known = np.concatenate([targets.known, experiment.known_of([a for a, _ in unseen.labels])], axis=1)
    folder.write_labels(names, columns, (Y, known))
    folder.write_csv(
        "dropped.csv",
        [{"kind": f.kind, "photo": f.filename, "detail": f.detail} for f in experiment.findings],
        ("kind", "photo", "detail"),
    )


def _write_thumbnails(folder: RunFolder, experiment: Experiment, limit: int) -> Experiment:
    """Thumbnails of test photos; the experiment with one finding more when some photos have none."""
    test = experiment.split.rows("test")
    rows = test[choose_photos(experiment.ids[test], limit)]
    names, paths = experiment.catalogue.filenames, experiment.catalogue.paths
    problems = write_thumbnails(folder.path, [names[i] for i in rows], [paths[i] for i in rows])
    if not problems:
        return experiment
    first, why = next(iter(problems.items()))
    detail = f"{len(problems)} of {len(rows)} test photos have no thumbnail, such as this one: {why}"
    return replace(experiment, findings=(*experiment.findings, Finding("no-thumbnail", first, detail)))


def _write_neighbours(
    folder: RunFolder, experiment: Experiment, options: SplitOptions, limit: int
) -> tuple[Neighbours | None, tuple[str, ...]]:
    """Near-duplicates across the parts, and what a person should know of them."""
    if not options.near_duplicates:
        return None, ()
    try:
        rows, X = experiment.pooled(limit)
    except OptionError as error:
        return None, (f"no neighbours.csv: {error}",)
    names = [experiment.catalogue.filenames[i] for i in rows]
    near = across_parts(names, experiment.split.parts[rows], X, PARTS, options.near_duplicates)
    folder.write_csv("neighbours.csv", [asdict(pair) for pair in near.closest], [f.name for f in fields(Neighbour)])
    note = sentence(near.to_json())
    return near, (note,) if note else ()


def _write_configs(folder: RunFolder, fitted: Sequence[FittedHead], candidates: Sequence[JudgedHead]) -> None:
    judged = {candidate.config_id: candidate for candidate in candidates}
    heads = {head.config.config_id: head for head in fitted} | {c.config_id: c.head for c in candidates}
    rows, history = [], []
    for config_id, head in heads.items():
        row: dict[str, Any] = {"config_id": config_id, **asdict(head.config)}
        if len(head.members) > 1:
            row |= {"head": "ensemble", "optimizer": ""}
        row |= {"validation_loss": head.validation_loss, "best_epoch": head.best_epoch, "seconds": head.seconds}
        if config_id in judged:
            candidate = judged[config_id]
            row |= {"policy": candidate.chosen, "validation_score": candidate.score}
            row |= {f"validation_{name}": value for name, value in candidate.metrics.items()}
        row |= {"not_learnable": len(head.not_learnable), "note": head.note}
        rows.append(row)
        history += [{"config_id": config_id, **record} for record in head.history]
    folder.write_csv("configs.csv", rows)
    folder.write_csv("history.csv", history, None if history else ("config_id", "epoch", "split", "loss"))


def _write_predictions(folder: RunFolder, experiment: Experiment, kept: Sequence[JudgedHead]) -> None:
    split, names = experiment.split, experiment.catalogue.filenames
    validation, test = split.rows("validation"), split.rows("test")
    rows = ([names[i] for i in (*validation, *test)], split.parts[np.concatenate([validation, test])].tolist())
    columns = experiment.targets.schema.column_names
    decisions: dict[str, Any] = {}
    for candidate in kept:
        P = np.concatenate([candidate.P, experiment.predict(candidate.head, "test")])
        folder.write_predictions(candidate.config_id, rows, P, columns)
        policies = {
            name: {"thresholds": policy.thresholds.tolist(), "validation_score": policy.score}
            for name, policy in candidate.policies.items()
        }
        decisions[candidate.config_id] = {
            "links": list(candidate.head.links),
            "policies": policies,
            "chosen": candidate.chosen,
        }
        if candidate.calibration is not None:
            decisions[candidate.config_id]["calibration"] = candidate.calibration.to_json()
    folder.write_json("decisions.json", decisions)


def _write_uncalibrated(folder: RunFolder, experiment: Experiment, best: JudgedHead) -> None:
    """The best candidate's test probabilities before calibration, so that `compare` can show what it changed."""
    if best.calibration is None:
        return
    at = experiment.split.rows("test")
    rows = [experiment.catalogue.filenames[i] for i in at], experiment.split.parts[at].tolist()
    P = experiment.predict(best.uncalibrated, "test")
    folder.write_predictions(f"uncalibrated/{best.config_id}", rows, P, experiment.targets.schema.column_names)


def _write_models(folder: RunFolder, experiment: Experiment, kept: Sequence[JudgedHead], best: JudgedHead) -> None:
    features = experiment.features
    origin = FeatureOrigin(
        blocks=_blocks(experiment),
        cache_key=features.info.key.to_json(),
        weights_source=str(features.info.notes.get("weights_source", "")),
        views=features.views,
    )
    rows = experiment.sample(4)
    for candidate in kept:
        info = {"config_id": candidate.config_id, "run": folder.path.name, "fitted_on": candidate.fitted_on}
        parts = Parts(candidate.head.members, candidate.head.links, info)
        decision = Decision(candidate.thresholds, candidate.chosen)
        model = build_model(experiment.targets.schema, parts, decision, origin, rows)
        save_model(model, folder.model_path(candidate.config_id))
        if candidate.config_id == best.config_id:
            save_model(model, folder.model_path("best"))


def _write_run(
    folder: RunFolder,
    experiment: Experiment,
    request: _Request,
    found: tuple[JudgedHead, Neighbours | None],
    seconds: Mapping[str, float],
) -> None:
    info = experiment.features.info
    best, near = found
    folder.write_json(
        "run.json",
        {
            "format": "selvedge-run",
            "version": 1,
            "name": folder.path.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": request.to_json(),
            "versions": package_versions(),
            "host": host_facts(),
            "data_digest": experiment.catalogue.digest,
            "split_digest": folder.digest("split.csv"),
            "cache_key": info.key.to_json(),
            "cache_digest": info.digest,
            "blocks": _blocks(experiment),
            "views": experiment.features.views,
            "weights_source": info.notes.get("weights_source"),
            "random_weights": bool(info.notes.get("random_weights", False)),
            "fine_tuned": info.notes.get("fine_tuned"),
            "schema": experiment.targets.schema.to_json(),
            "unseen": experiment.unseen.labels,
            "seeds": {"split": request.split.split_seed, "fit": list(request.fit.seed)},
            "parts": experiment.split.counts(),
            "timings": dict(seconds),
            "best": best.config_id,
            "policy": best.chosen,
            "not_measurable": list(experiment.split.not_measurable),
            "findings": count_kinds(experiment.findings),
            "near_duplicates": near.to_json() if near else None,
        },
    )


def _blocks(experiment: Experiment) -> list[dict[str, Any]]:
    info, columns = experiment.features.info, experiment.features.columns[0]
    return [{"name": c.block.name, "dim": c.block.dim, "digest": c.block.digest(info.key)} for c in columns]


def _margin(best: JudgedHead, ahead: JudgedHead) -> tuple[str, ...]:
    """Why the best is not the one with the highest score, when it is not."""
    gap = ahead.score - best.score
    if gap <= 0.0:
        return ()
    return (f"{best.config_id} is taken: its member {ahead.config_id} is {gap:.4f} ahead on validation, within noise",)


def _notes(experiment: Experiment, fitted: Sequence[FittedHead]) -> tuple[str, ...]:
    notes = [f"{head.config.config_id}: {head.note}" for head in fitted if head.note]
    names = experiment.targets.schema.column_names
    constant = sorted({names[column] for head in fitted for column in head.not_learnable})
    if constant:
        notes.append(f"not learnable ({len(constant)} values, one class in training): {', '.join(constant[:10])}")
    lacking = experiment.split.not_measurable
    if lacking:
        notes.append(f"not measurable ({len(lacking)} values, too few photos for all parts): {', '.join(lacking[:10])}")
    if experiment.features.info.notes.get("random_weights"):
        notes.append("the vectors come from random weights: good for tests and speed only")
    return tuple(notes)
