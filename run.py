#!/usr/bin/env python
"""Selvedge on the command line: the only place that parses options, prints and exits."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_origin

from cyclopts import App, Argument, CycloptsError, Parameter
from cyclopts.config import Dict

from pipeline.errors import PipelineError
from pipeline.options import (
    BackboneOptions,
    CompareOptions,
    DataOptions,
    ExtractOptions,
    FitOptions,
    KeyOptions,
    PredictOptions,
    SampleOptions,
    SplitOptions,
)

if TYPE_CHECKING:
    from tqdm import tqdm

    from pipeline.catalogue import Finding
    from pipeline.comparison import Comparison
    from pipeline.extract import ExtractReport, Progress
    from pipeline.fit_heads import FitReport

Flat = Parameter(name="*")
NO_NEGATIVE = Parameter(negative=())
COMMANDS = ("demo", "sample", "extract", "fit-heads", "compare", "predict")


@dataclass(frozen=True)
class FileOptions:
    """Options from files.

    Attributes:
        config: YAML file with options for the whole flow; the command line wins over it.
        preset: A named set of options from the configs folder, such as best; --config and the command line win.
    """

    config: Path | None = None
    preset: str | None = None


@dataclass(frozen=True)
class DemoOptions:
    """What the demo does.

    Attributes:
        out: Folder for everything the demo makes.
        images: Number of photos in the generated catalogue.
        seed: Seed of the generated catalogue.
    """

    out: Path = Path("demo")
    images: int = 600
    seed: int = 0


app = App(
    name="run.py",
    help="Garment photos to catalogue attributes: one frozen pass, cached vectors, many light heads, compared.",
    default_parameter=NO_NEGATIVE,
    version_flags=[],
)
cache_app = App(name="cache", help="Look after the embedding cache.", default_parameter=NO_NEGATIVE)
app.command(cache_app)


@app.command
def demo(
    *,
    options: Annotated[DemoOptions, Flat] = DemoOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Do the whole job on a generated catalogue: sample, extract, fit-heads, compare, predict."""
    from pipeline.fit_heads import fit_heads
    from pipeline.predict import load_model, write_predictions

    out = options.out
    catalogue = out / "catalogue"
    sample(catalogue, SampleOptions(images=options.images, seed=options.seed))
    data = DataOptions(data=catalogue)
    backbone = BackboneOptions(backbone="tf_efficientnet_lite0", weights="package")
    cache = out / "features"
    if files.preset:
        settings = _preset_settings(files.preset)
        recipe = replace(settings["fit"], cache=cache, out=out / "runs" / files.preset)
        extracting, variants = replace(settings["extract"], cache=cache), [recipe]
        backbone = settings["backbone"]
    else:
        extracting = ExtractOptions(cache=cache, features=("pooled", "levels"))
        common = FitOptions(cache=cache)
        variants = [
            replace(common, use=("pooled",), out=out / "runs" / "pooled"),
            replace(common, use=("pooled", "levels"), out=out / "runs" / "pooled-levels"),
        ]
    _extract(data, backbone, extracting)
    runs = []
    for variant in variants:
        report = fit_heads(data, KeyOptions(), SplitOptions(), variant, say)
        _say_fit(report)
        runs.append(report.run)
    comparison = _compare(runs, CompareOptions(report=out / "report.html"))
    best = Path(comparison.best_run) / "models" / "best.joblib"
    photos = sorted((catalogue / "images").glob("*-1.jpg"))[:8]
    frame = load_model(best).predict(photos)
    write_predictions(frame, out / "predictions.csv")
    say(f"table        above, and in {out / 'report.html'}")
    say(f"report page  {out / 'report.html'}")
    say(f"model file   {best}")
    say(f"predictions  {out / 'predictions.csv'} ({len(frame)} photos)")


@app.command
def sample(out: Path, *, options: Annotated[SampleOptions, Flat] = SampleOptions()) -> None:
    """Write a catalogue of drawn T-shirt photos with every wart of a real one.

    Args:
        out: Folder to write to.
    """
    from pipeline.sample import write_sample

    report = write_sample(out, options.format, options.images, options.seed)
    odd = ", ".join(f"{what} {name}" for what, name in report.odd.items())
    say(f"sample: {report.photos} photos of {report.products} products, {report.rows} rows -> {report.data}")
    say(f"  {report.repeated} repeated rows, {report.without_photo} rows without a photo, and odd ones: {odd}")


@app.command
def extract(
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    backbone: Annotated[BackboneOptions, Flat] = BackboneOptions(),
    options: Annotated[ExtractOptions, Flat] = ExtractOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """See every photo once with a frozen backbone; its vectors go into the embedding cache."""
    _extract(data, backbone, options)


@app.command(name="fit-heads")
def fit_heads_command(
    *,
    data: Annotated[DataOptions, Flat] = DataOptions(),
    key: Annotated[KeyOptions, Flat] = KeyOptions(),
    split: Annotated[SplitOptions, Flat] = SplitOptions(),
    options: Annotated[FitOptions, Flat] = FitOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Fit many light heads on the cached vectors and write a run folder."""
    from pipeline.fit_heads import fit_heads

    _say_fit(fit_heads(data, key, split, options, say))


@app.command
def compare(
    runs: list[Path],
    *,
    options: Annotated[CompareOptions, Flat] = CompareOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Which head, optimizer and threshold is best, by how much, and whether that is more than noise.

    Args:
        runs: Run folders written by fit-heads, with the same split.
    """
    _compare(runs, options)


@app.command
def predict(
    photos: list[Path],
    *,
    model: Annotated[Path, Parameter(help="Model file written by fit-heads.")],
    options: Annotated[PredictOptions, Flat] = PredictOptions(),
    files: Annotated[FileOptions, Flat] = FileOptions(),
) -> None:
    """Apply a fitted model to new photos.

    Args:
        photos: Photos, or folders of photos.
        model: Model file written by fit-heads.
    """
    from pipeline.predict import predict_photos

    report = predict_photos(model, photos, options, _progress("predict"))
    say(f"predict: {report.photos} photos, {len(report.rejects)} rejected -> {options.out}")
    for path, reason in report.rejects[:20]:
        say(f"  rejected {path}: {reason}")


def _extract(data: DataOptions, backbone: BackboneOptions, options: ExtractOptions) -> ExtractReport:
    from pipeline.catalogue import read_catalogue
    from pipeline.extract import extract as run_extract

    catalogue = read_catalogue(data)
    _say_findings(catalogue.findings)
    with Bar("extract", "photo") as bar:
        report = run_extract(catalogue.paths, backbone, options, bar.show)
    _say_extract(report)
    return report


def _say_findings(findings: Sequence[Finding], limit: int = 20) -> None:
    from pipeline.catalogue import KINDS, count_kinds

    for kind, count in count_kinds(findings).items():
        say(f"  {kind} ({count}): {KINDS.get(kind, 'see below')}")
        for finding in [f for f in findings if f.kind == kind][:3]:
            say(f"    {finding.filename or '-'}: {finding.detail}")


def _say_extract(report: ExtractReport) -> None:
    widths = " + ".join(f"{block}/{view} {dim}" for block, view, dim in report.columns)
    say(
        f"extract: {report.photos} photos, {report.unique} distinct contents: {report.written} computed, "
        f"{report.reused} already cached, {report.duplicates} repeat another photo's bytes, "
        f"{len(report.rejects)} rejected"
    )
    say(f"  vectors {widths}, key {report.key[:16]}")
    if report.written:
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items())
        say(f"  {report.images_per_second:.1f} images/s on {report.runtime}; {parts}")
        if report.efficiency is not None:
            say(f"  {report.efficiency:.0%} of the forward pass alone ({report.forward_per_second:.1f} images/s)")
    for note in report.notes:
        say(f"  note: {note}")
    for reject in report.rejects[:20]:
        say(f"  rejected {reject.path}: {reject.reason}")
    if len(report.rejects) > 20:
        say(f"  ... and {len(report.rejects) - 20} more rejects")


def _say_fit(report: FitReport) -> None:
    counts = ", ".join(f"{count} {part}" for part, count in report.parts.items())
    say(f"fit-heads: {report.configs} configurations on {counts} photos in {report.seconds:.1f} s -> {report.run}")
    say(f"  best on validation: {report.best} with thresholds {report.policy}, score {report.score:.4f}")
    for note in report.notes:
        say(f"  note: {note}")


def _compare(runs: Sequence[Path], options: CompareOptions) -> Comparison:
    from pipeline.compare import compare as run_compare
    from pipeline.comparison import save_json
    from pipeline.comparison_table import table
    from pipeline.report import write_report

    comparison = run_compare(runs, options)
    say(table(comparison))
    page = options.report or Path(runs[0]) / "report.html"
    write_report(comparison, page)
    say(f"report: {page}")
    if options.json:
        save_json(comparison, options.json)
        say(f"json: {options.json}")
    return comparison


class Bar:
    """Progress of long work: a bar on a terminal, a plain line every ten seconds in a log."""

    def __init__(self, what: str, unit: str) -> None:
        self.what, self.unit = what, unit
        self.told = time.monotonic()
        self.bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, progress: Progress) -> None:
        """Say how far the work is."""
        done, total = progress.done, progress.total
        if sys.stderr.isatty():
            if self.bar is None:
                from tqdm import tqdm

                self.bar = tqdm(total=total, desc=self.what, unit=self.unit)
            self.bar.update(done - self.bar.n)
            return
        now = time.monotonic()
        if now - self.told >= 10:
            self.told = now
            rate, left = progress.per_second, progress.seconds_left
            say(f"{self.what}: {done}/{total} {self.unit}s, {rate:.1f}/s, {left:.0f} s left")


def say(text: str) -> None:
    """Print one message to standard output at once."""
    print(text, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 expected error, 2 wrong usage, 130 interrupted."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        parse(tokens)()
    except CycloptsError as error:
        print(f"{error}\nTry: python run.py {' '.join(tokens[:1])} --help", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not _expected(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parse(tokens: Sequence[str]) -> Callable[[], Any]:
    """The command that these words name, ready to be called; CycloptsError for wrong usage."""
    words = list(tokens)
    command = words[0] if words else ""
    app.config = []
    if command in COMMANDS:
        words = _split_commas(words, command)
        app.config = [Dict(_file_settings(words, command), source="config", use_commands_as_keys=False)]
    chosen, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    return partial(chosen, *bound.args, **bound.kwargs)


def _expected(error: Exception) -> bool:
    """Whether an error is one that the user can act on; the cache is imported only when something went wrong."""
    from cache.errors import CacheError

    return isinstance(error, PipelineError | CacheError)


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _file_settings(tokens: Sequence[str], command: str) -> dict[str, Any]:
    """Options of one command from --preset and --config; the latter wins."""
    settings: dict[str, Any] = {}
    preset, config = _value_of(tokens, "--preset"), _value_of(tokens, "--config")
    if preset or config:
        from pipeline.config_file import find_preset, read_config

        known = {name: [a.name.removeprefix("--") for a in _arguments(name)] for name in COMMANDS}
        for path in ([find_preset(preset)] if preset else []) + ([Path(config)] if config else []):
            settings |= read_config(path, known)[command]
    return settings


def _value_of(tokens: Sequence[str], option: str) -> str | None:
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token == option:
            return following
        if token.startswith(option + "="):
            return token.partition("=")[2]
    return None


def _arguments(command: str) -> list[Argument]:
    """The named options of a command."""
    return [a for a in app[command].assemble_argument_collection() if a.name.startswith("--")]


def _split_commas(tokens: Sequence[str], command: str) -> list[str]:
    """`--heads linear,mlp` as the repeated option that the parser knows."""
    several = {a.name for a in _arguments(command) if get_origin(a.hint) is tuple}
    result: list[str] = []
    option: str | None = None
    for token in tokens:
        name, equals, value = token.partition("=")
        if option is None and name in several and not equals:
            option = name
        elif option is not None or (name in several and equals):
            for part in (token if option is not None else value).split(","):
                result += [name if option is None else option, part]
            option = None
        else:
            result.append(token)
    return result if option is None else [*result, option]


if __name__ == "__main__":
    sys.exit(main())
