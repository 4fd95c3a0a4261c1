"""The commands: each binds its options, calls one stage and prints what it returns."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from pipeline.cli.commands.audit import audit, vocabulary
from pipeline.cli.commands.cache import cache_app
from pipeline.cli.commands.exchange import export
from pipeline.cli.commands.labelling import labels, next_command
from pipeline.cli.commands.neighbours import draw_map, similar
from pipeline.cli.commands.serving import serve
from pipeline.cli.output import Bar, News, say, say_all
from pipeline.cli.parameters import (
    NO_NEGATIVE,
    NOTHING_TYPED,
    DemoOptions,
    FileOptions,
    Flat,
    StepOptions,
    TrainOptions,
    Typed,
)
from pipeline.cli.steps import Steps
from pipeline.cli.summaries.stages import (
    evaluate_lines,
    extract_lines,
    finding_lines,
    finetune_lines,
    fit_lines,
    prediction_lines,
    sample_lines,
)
from pipeline.errors import BadImage, OptionError
from pipeline.options import (
    BackboneOptions,
    CacheKeyOptions,
    CompareOptions,
    DataOptions,
    EngineOptions,
    EvaluateOptions,
    ExtractOptions,
    FinetuneOptions,
    FitOptions,
    PredictOptions,
    ReproduceOptions,
    SampleOptions,
    SplitOptions,
)
from pipeline.options.forms.words import PROGRAM, changed, words_of
from pipeline.remote import RemotePhoto

app = App(
    name=PROGRAM.split()[-1],
    help="Garment photos to catalogue attributes: one frozen pass, cached vectors, many light heads, compared.",
    default_parameter=NO_NEGATIVE,
    help_format="plaintext",
    version_flags=[],
)
STEPS = Steps(app)


@app.command
def train(
    *,
    options: Annotated[TrainOptions, Flat] = TrainOptions(),
    steps: Annotated[StepOptions, Flat] = StepOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
    typed: Typed = NOTHING_TYPED,
) -> None:
    """From photos and labels to a model: extract, fit-heads, compare, a final fit on all photos; run again to go on."""
    from pipeline.cli.training.catalogue_file import write_catalogue_file
    from pipeline.cli.training.plan import Request
    from pipeline.cli.training.train import train as run_train

    request = Request(options, files, typed)
    if options.init:
        say_all(write_catalogue_file(request, STEPS))
    else:
        run_train(request, STEPS)


@app.command
def demo(
    *,
    options: Annotated[DemoOptions, Flat] = DemoOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Do the whole job on a generated catalogue: sample, then train."""
    out, catalogue = options.out, options.out / "catalogue"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OptionError(f"{out} already exists and is not empty; name another folder with --out, or remove it")
    STEPS.run("sample", str(catalogue), "--images", str(options.images), "--seed", str(options.seed))
    recipe = words_of({"preset": files.preset or (None if files.config else "quick"), "config": files.config})
    places = words_of({"data": catalogue, "cache": out / "features", "out": out / "train"})
    STEPS.run("train", *recipe, *places)


@app.command
def sample(
    out: Path,
    *,
    options: Annotated[SampleOptions, Flat] = SampleOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Write a catalogue of drawn T-shirt photos with every wart of a real one.

    Args:
        out: Folder to write to.
    """
    from pipeline.catalogue.generated.sample import write_sample

    say_all(sample_lines(write_sample(out, options.format, options.images, options.seed)))


@app.command
def extract(
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    backbone: Annotated[BackboneOptions, Flat] = BackboneOptions(),
    options: Annotated[ExtractOptions, Flat] = ExtractOptions(),
    machines: Annotated[EngineOptions, Flat] = EngineOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """See every photo once with a frozen backbone; its vectors go into the embedding cache."""
    machines.require_ray()
    share = machines.share()
    names, photos = _photos(data, options)
    # Seconds of imports, which a wrong path should not cost.
    from pipeline.cluster.engine import ray_engine
    from pipeline.cluster.part import rows_of_part
    from pipeline.features.extract import extract as run_extract

    if share is not None:
        photos = [photos[row] for row in rows_of_part(names, *share).tolist()]
        say(f"part {machines.part}: {len(photos)} of {len(names)} photos")
    engine = ray_engine(machines) if machines.engine == "ray" else None
    with Bar("extract", "photo", say) as bar:
        report = run_extract(photos, backbone, options, lambda p: bar.at(p.done, p.total), engine=engine)
    say_all(extract_lines(report))


def _photos(data: DataOptions, options: ExtractOptions) -> tuple[Sequence[str], Sequence[Path | RemotePhoto]]:
    """Names and photos of the catalogue, and of the pool those that the catalogue does not have."""
    names: Sequence[str] = []
    photos: Sequence[Path | RemotePhoto] = []
    if data.data is not None or not options.pool:
        from pipeline.catalogue import read_catalogue

        catalogue = read_catalogue(data)
        say_all(finding_lines(catalogue.findings))
        names, photos = catalogue.filenames, catalogue.paths
    if options.pool:
        from pipeline.labelling.pool import pool_photos

        there = set(map(str, photos))
        more = [photo for photo in pool_photos(options.pool, data.images) if str(photo) not in there]
        names, photos = [*names, *(photo.name for photo in more)], [*photos, *more]
    return names, photos


@app.command(name="fit-heads")
def fit_heads_command(
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    cache_key: Annotated[CacheKeyOptions, Flat] = CacheKeyOptions(),
    split: Annotated[SplitOptions, Flat] = SplitOptions(),
    options: Annotated[FitOptions, Flat] = FitOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Fit many light heads on the cached vectors and write a run folder."""
    from pipeline.experiment.fit_heads import fit_heads

    say_all(fit_lines(fit_heads(data, cache_key, split, options, News())))


@app.command
def compare(
    runs: list[Path],
    *,
    options: Annotated[CompareOptions, Flat] = CompareOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Which head, optimizer and threshold is best, by how much, and whether that is more than noise.

    Args:
        runs: Run folders written by fit-heads, or a folder of them; judged on the test photos that all of them have.
    """
    from pipeline.comparison.compare import compare as run_compare
    from pipeline.comparison.csv_file import save_csv
    from pipeline.comparison.page import write_report
    from pipeline.comparison.page.data import page_data
    from pipeline.comparison.records import save_json
    from pipeline.comparison.table import table

    comparison = run_compare(runs, options)
    say(table(comparison, color=sys.stdout.isatty()))
    page = options.report or Path(runs[0]) / "report.html"
    write_report(comparison, page_data(comparison), page, replace(options, report=page))
    say(f"report: {page}")
    if options.json:
        save_json(comparison, options.json)
        say(f"json: {options.json}")
    if options.csv:
        save_csv(comparison, options.csv)
        say(f"csv: {options.csv}")


@app.command
def predict(
    photos: list[str],
    *,
    model: Annotated[Path, Parameter(help="Model file written by fit-heads.")],
    options: Annotated[PredictOptions, Flat] = PredictOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Apply a fitted model to new photos.

    Args:
        photos: Photos, folders of photos, or URLs (s3://, gs://, az://, https://).
        model: Model file written by fit-heads.
    """
    from pipeline.model.predict import predict as run_predict

    with Bar("predict", "photo", say) as bar:
        done = run_predict(photos, model, options, bar.at)
        say_all(prediction_lines(done, options))
    if len(done.rejects) == done.photos:
        raise BadImage(f"every photo was rejected ({done.photos} of {done.photos}); {options.out} says #N/A of each")


@app.command
def evaluate(
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    options: Annotated[EvaluateOptions, Flat] = EvaluateOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Try fitted models on labelled photos they have not seen: figures, intervals, and how much can be filled in."""
    from pipeline.trial.evaluate import evaluate as run_evaluate

    with Bar("evaluate", "photo", say) as bar:
        report = run_evaluate(data, options, bar.at)
    say_all(evaluate_lines(report, options))
    page = options.report or report.folders[0].parent / "report.html"
    shared = {name: getattr(options, name) for name in ("json", "csv", "bootstrap", "seed")}
    compare(list(report.folders), options=CompareOptions(report=page, **shared))


@app.command
def finetune(
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    backbone: Annotated[BackboneOptions, Flat] = BackboneOptions(),
    split: Annotated[SplitOptions, Flat] = SplitOptions(),
    options: Annotated[FinetuneOptions, Flat] = FinetuneOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Train the network on every attribute, then freeze its backbone for extract; resumes where it was killed."""
    from pipeline.finetuning.finetune import finetune as run_finetune
    from pipeline.finetuning.outcome import Callbacks

    with Bar("decode", "photo", say, step=False) as decoding, Bar("finetune", "photo", say, step=False) as bar:
        report = run_finetune(data, backbone, split, options, Callbacks(say, decoding.at, bar.at))
    say_all(finetune_lines(report))


@app.command
def reproduce(
    plan: Path,
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    options: Annotated[ReproduceOptions, Flat] = ReproduceOptions(),
) -> None:
    """Run everything a plan names, one table of all: extractions, fits on one split, comparison; run again to go on.

    Args:
        plan: YAML file with extractions and runs, such as configs/tshirt-notebook.yaml.
    """
    from pipeline.cli.plans.plan import Overrides, read_plan
    from pipeline.cli.plans.reproduce import reproduce as run_reproduce

    given = {name.replace("_", "-"): value for name, value in changed(data).items()}
    run_reproduce(plan, read_plan(plan, Overrides(given, **vars(options))), STEPS)


app.command(vocabulary)
app.command(audit)
app.command(next_command, name="next")
app.command(labels)
app.command(similar)
app.command(draw_map, name="map")
app.command(export)
app.command(serve)
app.command(cache_app)
