"""Carries out a training: what is not finished of it, one command after the other, each shown as it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.catalogue import Catalogue, read_catalogue, read_split
from pipeline.cli.output import say, say_all, step_of
from pipeline.cli.plans.plan import Step, Words
from pipeline.cli.plans.state import PlanState
from pipeline.cli.steps import Steps
from pipeline.cli.training.plan import (
    BASELINES,
    HEADS,
    Request,
    Training,
    catalogue_options,
    default_out,
    plan_training,
)
from pipeline.cli.training.progress import StepTime, Whole, in_words
from pipeline.cli.training.recipe import choose_recipe
from pipeline.cli.training.state import TrainingState, begun_with, digest_of
from pipeline.errors import PipelineError, RunError, counted
from pipeline.options import SplitOptions
from pipeline.options.forms.words import command, words_of
from pipeline.system import only_writer

EXAMPLES = 8
"""Photos that the finished model is tried on, from their files."""

FINETUNE = "finetune"
"""What the step that trains a network is called."""

Todo = list[tuple[str, Callable[[], None]]]
"""Steps by name."""


def train(request: Request, steps: Steps) -> None:
    """Run what is not finished of a training.

    Args:
        request: What was asked for.
        steps: Runs the commands.

    Raises:
        RunError: The folder holds something else, a training of other options, or another process is at it.
        PipelineError: Whatever a step raises; what was finished before it is kept.
    """
    began = time.monotonic()
    data = catalogue_options(request, steps)
    catalogue = read_catalogue(data)
    begun = begun_with(request.options.out or default_out(data))
    training = plan_training(request, choose_recipe(request.files, catalogue, begun), steps)
    photos, attributes = counted(len(catalogue), "photo"), counted(len(catalogue.attributes), "attribute")
    say(f"train: {photos} with {attributes} -> {training.out}")
    say(f"  recipe: {training.recipe.name} ({training.recipe.why})")
    training.out.mkdir(parents=True, exist_ok=True)
    with only_writer(training.out, RunError):
        state = TrainingState(training)
        earlier = state.begin(digest_of(catalogue, training.extractions[0][1].cache))
        if earlier is not None:
            say(f"  photos or labels have changed: the runs before are now in {earlier}")
            tuned = training.out / "finetuned" / "backbone.safetensors"
            if training.finetune and state.done("finetune", tuned):
                say("  the fine-tuned network stays the one from before and has not seen the change; to train it anew,")
                say(f"  name another folder with --out, or remove {tuned.parent}")
        whole = _carry_out(_Work(training, state, PlanState(training.plan), catalogue, steps), began)
        _tell(training, whole, time.monotonic() - began, earlier)


def fit_of(run: str) -> str:
    """What the step that makes a run is called."""
    return f"fit-heads, {run}"


class _Work:
    """The steps of one training that are left to do."""

    def __init__(
        self, training: Training, state: TrainingState, plan: PlanState, catalogue: Catalogue, steps: Steps
    ) -> None:
        self.training, self.state, self.plan, self.catalogue, self.steps = training, state, plan, catalogue, steps
        self.report, self.table = training.out / "report.html", training.out / "comparison.json"
        self.predictions = training.out / "predictions.csv"

    def todo(self) -> Todo:
        """What is left: the network, extractions where a fit is left, the fits, the table, the trial of the model."""
        todo: Todo = []
        if not self.tuned:
            todo.append((FINETUNE, self._finetune))
        fits = [run for run in self.training.plan.runs if not self.plan.finished(run)]
        extractions = self.training.plan.extractions if fits else ()
        todo += [(step.name, self._runner("extract", step.words)) for step in extractions]
        todo += [(fit_of(run.name), self._fit(run)) for run in fits]
        if fits or not (self.state.done("compare", self.report) and self.table.is_file()):
            todo.append(("compare", self._compare))
        if fits or not self.state.done("predict", self.predictions):
            todo.append(("predict", self._predict))
        return todo

    @property
    def tuned(self) -> bool:
        """Whether there is no network left to train."""
        return not self.training.finetune or self.state.done(FINETUNE, self._weights)

    @property
    def _weights(self) -> Path:
        return self.training.out / "finetuned" / "backbone.safetensors"

    def _finetune(self) -> None:
        self.steps.run("finetune", *self.training.finetune)
        self.state.finish(FINETUNE, self._weights)

    def _runner(self, name: str, words: Words) -> Callable[[], None]:
        return lambda: self.steps.run(name, *words)

    def _fit(self, run: Step) -> Callable[[], None]:
        return lambda: self.steps.run("fit-heads", *self.plan.begin(run))

    def _compare(self) -> None:
        runs, config = map(str, self.plan.folders()), words_of({"config": self.training.config})
        self.steps.run("compare", *runs, *config, "--report", str(self.report), "--json", str(self.table))
        self.state.finish("compare", self.report)

    def _predict(self) -> None:
        """Read the model, which tests itself, and see some photos with it from their files, as a new photo is seen."""
        known = dict(zip(self.catalogue.filenames, self.catalogue.paths, strict=True))
        names = read_split(self.training.plan.folder(self.training.plan.runs[0])).photos
        photos = [str(known[name]) for name in names if name in known][:EXAMPLES]
        model, out = str(self.training.model), str(self.predictions)
        self.steps.run("predict", *photos, "--model", model, "--out", out)
        self.state.finish("predict", self.predictions)


def _carry_out(work: _Work, began: float) -> Whole:
    """Estimate, then run."""
    todo = work.todo()
    try:
        expected = _expected(work, [name for name, _ in todo])
    except PipelineError:
        work.state.withdraw()
        raise
    whole = Whole(expected, before=time.monotonic() - began)
    if todo:
        say_all(_estimate_lines(whole))
    for _, run in todo:
        say(f"\n{whole.begin()}")
        with step_of(whole.said):
            run()
        whole.end()
    return whole


def _expected(work: _Work, names: list[str]) -> list[StepTime]:
    """What each step will take; the first photos of an extraction are made here, and are in the cache thereafter."""
    if not names:
        return []
    from pipeline.cli.training import estimate
    from pipeline.cli.training.tuning_speed import training_speed
    from pipeline.features.extract import extract

    training = work.training
    if "extract" not in names:
        return [StepTime(name, estimate.PREDICT) for name in names]
    paths = work.catalogue.paths
    now = training.extractions[: training.frozen] if FINETUNE in names else training.extractions
    first = [extract(paths, backbone, options, most=estimate.PHOTOS) for backbone, options in now]
    expected, speed = [estimate.begun(report) for report in first], 0.0
    if training.start is not None and FINETUNE in names:
        speed = training_speed(paths, *training.start)
        later = len(training.extractions) - len(now)
        expected += [estimate.to_be_tuned(first[0], len(paths), speed)] * later
    extractions = {step.name: each for step, each in zip(training.plan.extractions, expected, strict=True)}
    # A final network's vectors take the place of others, they are not beside them.
    beside = expected[: training.frozen + (training.start is not None)]
    sizes = estimate.sizes_of(work.catalogue, beside, _split_of(work).split)
    fits = {fit_of(run.name): options for run, options in zip(training.plan.runs, training.fits, strict=True)}

    def seconds(name: str) -> float:
        if name == FINETUNE and training.start is not None:
            backbone, options = training.start
            return estimate.finetune_seconds(options, backbone.size, speed, sizes.parts)
        if name in extractions:
            return extractions[name].seconds
        if name in fits:
            return estimate.fit_seconds(fits[name], sizes)
        return estimate.compare_seconds(sizes, len(fits)) if name == "compare" else estimate.PREDICT

    return [StepTime(name, seconds(name)) for name in names]


def _split_of(work: _Work) -> SplitOptions:
    """The split as the first fit will make it."""
    words = (*work.training.plan.runs[0].words, *work.training.plan.split)
    split: SplitOptions = work.steps.parsed("fit-heads", *words).keywords.get("split", SplitOptions())
    return split


def _estimate_lines(whole: Whole) -> list[str]:
    parts = ", ".join(f"{step.name} {in_words(step.expected)}" for step in whole.steps)
    lines = [f"  about {in_words(whole.expected)} from here on this machine, as it is now ({parts})"]
    beside = sum(step.expected for step in whole.steps if step.name == fit_of(BASELINES))
    if beside > whole.expected / 2:
        lines.append("  most of it for the baselines, which are to be compared with; --baselines none leaves them out")
    return lines


def _tell(training: Training, whole: Whole, seconds: float, earlier: Path | None) -> None:
    """What it took, what came out, what to do next, and where everything is."""
    if whole.steps:
        took = ", ".join(f"{step.name} {in_words(step.took or 0.0)}" for step in whole.steps)
        real, expected = in_words(whole.took), in_words(whole.expected)
        say(f"\ntrain: {real}, estimated {expected} ({took}); {in_words(seconds)} in all")
    else:
        say("\ntrain: everything was done before; new photos or labels make it begin again")
    say_all(_about_best(training))
    say("Next:")
    say(f"  {command('predict')} PHOTOS --model {training.model} --out predictions.csv")
    if earlier is not None:
        say(f"  {command('compare')} {earlier / HEADS} {training.plan.folder(training.plan.runs[0])}")
    say(f"report       {training.out / 'report.html'}")
    say(f"table        {training.out / 'comparison.json'}")
    say(f"predictions  {training.out / 'predictions.csv'}")
    say(f"model        {training.model}")


def _about_best(training: Training) -> list[str]:
    """That the model is not of the best run, where a baseline is ahead of the recipe on validation."""
    candidates = json.loads((training.out / "comparison.json").read_text(encoding="utf-8"))["candidates"]
    best = next(each for each in candidates if each["best"])
    if Path(best["model"]).is_relative_to(training.plan.folder(training.plan.runs[0])):
        return []
    return [f"  {best['name']} is ahead of the recipe on validation; its model, fit on fewer photos: {best['model']}"]
