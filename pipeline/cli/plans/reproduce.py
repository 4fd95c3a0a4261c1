"""Carries out a plan: what is not finished of it, then one table of all that is."""

from __future__ import annotations

from pathlib import Path

from pipeline.cli.output import say, say_all
from pipeline.cli.plans.plan import Plan, Step
from pipeline.cli.plans.state import PlanState
from pipeline.cli.steps import Steps
from pipeline.errors import BackboneError, HeadError, RunError, counted
from pipeline.system import only_writer


def reproduce(path: Path, plan: Plan, steps: Steps) -> None:
    """Run what is not finished of a plan, then compare all that is.

    Args:
        path: Its file, to be named.
        plan: What to run.
        steps: Runs the commands.

    Raises:
        RunError: Another process is at it, the folder holds something else, or not one run could be made.
    """
    # A wrong option of the last run is said now, not after the hours that the others take.
    for step in plan.finetunings:
        steps.parsed("finetune", *step.words, *plan.split)
    for step in plan.extractions:
        steps.parsed("extract", *step.words)
    for step in plan.runs:
        steps.parsed("fit-heads", *step.words, *plan.split)
    plan.out.mkdir(parents=True, exist_ok=True)
    with only_writer(plan.out, RunError):
        _carry_out(path, plan, PlanState(plan), steps)


def _carry_out(path: Path, plan: Plan, state: PlanState, steps: Steps) -> None:
    not_run = list(plan.not_run)
    for extraction in plan.extractions:
        pending = [run for run in plan.runs_on(extraction) if not state.finished(run)]
        lacking = _vectors(plan, extraction, state, steps) if pending else ""
        for run in pending:
            if reason := lacking or _attempt(steps, "fit-heads", *state.begin(run)):
                not_run.append(f"row not run: {run.name}: {reason}")
    done = [str(folder) for folder in state.folders()]
    if not done:
        raise RunError(f"not one run of {path} could be made here:\n" + "\n".join(not_run))
    report, table = plan.out / "report.html", plan.out / "comparison.json"
    notes = str(state.write_notes(not_run))
    steps.run("compare", *done, "--notes", notes, "--report", str(report), "--json", str(table))
    say(f"\nreproduce: {counted(len(done), 'row')} in one table -> {report}; {len(not_run)} not run")
    say_all(f"  {line}" for line in not_run)


def _vectors(plan: Plan, extraction: Step, state: PlanState, steps: Steps) -> str:
    """Train the networks that an extraction needs, then extract; the reason when that cannot be done here."""
    for network in plan.trained_for(extraction):
        # All are judged on the photos of the first run; a training that is done says so.
        if lacking := _attempt(steps, "finetune", *network.words, *state.split()):
            return lacking
    return _attempt(steps, "extract", *extraction.words)


def _attempt(steps: Steps, *words: str) -> str:
    """Run one command; the reason when it cannot be run on this machine."""
    try:
        steps.run(*words)
    except (BackboneError, HeadError) as error:
        say(f"cannot be run here: {error}")
        return str(error)
    return ""
