"""What the commands say of their reports: lines of text, no printing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import counted

if TYPE_CHECKING:
    from cache import KeyInfo
    from cache.repair import RepairReport
    from cache.verify import VerifyReport
    from pipeline.catalogue import Finding
    from pipeline.catalogue.generated.sample import SampleReport
    from pipeline.experiment.report import FitReport
    from pipeline.features.report import ExtractReport
    from pipeline.finetuning.report import FinetuneReport
    from pipeline.model.prediction import Prediction
    from pipeline.options import EvaluateOptions, PredictOptions
    from pipeline.trial.evaluate import EvaluateReport

EXAMPLES = 3
REJECTS = 20
_MOST_NAMED = 8


def sample_lines(report: SampleReport) -> Iterator[str]:
    """The sample catalogue that was written."""
    odd = ", ".join(f"{what} {name}" for what, name in report.odd.items())
    yield (
        f"sample: {counted(report.photos, 'photo')} of {counted(report.products, 'product')}, "
        f"{counted(report.rows, 'row')} -> {report.data}"
    )
    yield (
        f"  {counted(report.repeated, 'repeated row')}, {counted(report.without_photo, 'row')} without a photo; "
        f"odd files: {odd}"
    )


def finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """What was dropped or odd in a catalogue: a count, a meaning and a few examples per kind."""
    from pipeline.catalogue import KINDS, count_kinds

    for kind, count in count_kinds(findings).items():
        yield f"  {kind} ({count}): {KINDS.get(kind, '')}"
        for finding in [f for f in findings if f.kind == kind][:EXAMPLES]:
            yield f"    {finding.filename or '-'}: {finding.detail}"


def extract_lines(report: ExtractReport) -> Iterator[str]:
    """What was computed, how fast, and what was rejected."""
    widths = " + ".join(f"{block}/{view} {dim}" for block, view, dim in report.columns)
    yield (
        f"extract: {counted(report.photos, 'photo')}, {counted(report.unique, 'distinct content')}: "
        f"{report.written} computed{_extended(report)}, "
        f"{report.reused} already cached, {counted(report.duplicates, 'repeats', 'repeat')} another photo's bytes, "
        f"{len(report.rejects)} rejected"
    )
    yield f"  vectors {widths}; cache key {report.key[:16]}"
    if report.written:
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items())
        yield f"  {report.images_per_second:.1f} images/s on {report.runtime}; {parts}"
        if report.efficiency is not None:
            yield f"  {report.efficiency:.0%} of the forward pass alone ({report.forward_per_second:.1f} images/s)"
        elif report.forward_per_second:
            alone = f"{report.forward_per_second:.1f} images/s"
            yield f"  the forward pass alone, measured afterwards, was slower ({alone}): the machine was busy then"
    yield from (f"  note: {note}" for note in report.notes)
    yield from _rejects((str(r.path), r.reason) for r in report.rejects)


def _extended(report: ExtractReport) -> str:
    if not report.extended:
        return ""
    of_them = "all" if report.extended == report.written else str(report.extended)
    return f" ({of_them} of them had other blocks or views of these already)"


def fit_lines(report: FitReport) -> Iterator[str]:
    """What was dropped or odd, what was fit and what was best on validation."""
    yield from finding_lines(report.findings)
    counts = ", ".join(f"{count} {part}" for part, count in report.parts.items())
    fits = f"{counted(report.configs, 'configuration')} on {counts} photos"
    yield f"fit-heads: {fits} in {report.seconds:.1f} s -> {report.run}"
    files = "" if report.called == report.best else f" ({report.best})"
    named = f"{report.called}{files} with thresholds {report.policy}"
    yield f"  best on validation: {named}, {report.choose} score {report.score:.4f} (optimistic: the highest of many)"
    yield from (f"  note: {note}" for note in report.notes[:REJECTS])
    if len(report.notes) > REJECTS:
        yield f"  ... and {len(report.notes) - REJECTS} more notes, in configs.csv"


def _listed(attributes: Sequence[str]) -> str:
    """Names, or how many there are of them."""
    return ", ".join(attributes) if len(attributes) <= _MOST_NAMED else f"{len(attributes)} attributes"


def finetune_lines(report: FinetuneReport) -> Iterator[str]:
    """What was trained, how good its best epoch is on validation, and the commands that compare it."""
    yield from finding_lines(report.findings)
    used, best, resumed = report.used, report.best, report.resumed_from
    how = "finished before" if report.finished_before else f"resumed after epoch {resumed}" if resumed else "done"
    yield (
        f"finetune: {how}; {report.trains} of the backbone on {_listed(report.attributes)} "
        f"({counted(report.values, 'value')}), "
        f"{counted(used['train'], 'photo')} to train, {used['validation']} to choose the epoch -> {report.weights}"
    )
    yield (
        f"  epoch {int(best['epoch'])} of {report.epochs} kept: validation loss {best['validation_loss']:.4f}, "
        f"score {best['validation_score']:.4f}"
    )
    yield "  validation, per attribute: " + ", ".join(f"{name} {score:.3f}" for name, score in report.scores.items())
    yield f"  its own heads as a model file: {report.own_heads}"
    yield from (f"  note: {note}" for note in report.notes)
    yield "  next, frozen against fine-tuned on this split:"
    yield from (f"    {command}" for command in report.next_commands)


def prediction_lines(prediction: Prediction, options: PredictOptions) -> Iterator[str]:
    """How many photos were predicted, and which were rejected."""
    cached = "" if options.cache is None else f", vectors of {prediction.cached} from {options.cache}"
    photos = counted(len(prediction.frame), "photo")
    yield f"predict: {photos}, {len(prediction.rejects)} rejected{cached} -> {options.out}"
    yield from (f"  note: {note}" for note in prediction.notes)
    yield from _rejects(prediction.rejects)


def evaluate_lines(report: EvaluateReport, options: EvaluateOptions) -> Iterator[str]:
    """On how many photos the models were tried, what was left out, and where the figures are."""
    yield from finding_lines(report.findings)
    cached = "" if options.cache is None else f", vectors of {report.cached} from {options.cache}"
    models, photos = counted(len(report.folders), "model"), counted(report.photos, "labelled photo")
    yield f"evaluate: {models} on {photos}{cached} -> {report.folders[0].parent}"
    yield from (f"  note: {note}" for note in report.notes)


def cache_lines(infos: Sequence[KeyInfo], root: object) -> Iterator[str]:
    """What a cache holds, one paragraph per key."""
    yield f"{root}: {counted(len(infos), 'cache key')}, {sum(info.bytes for info in infos) / 1e6:.1f} MB"
    for info in infos:
        key = info.key
        random = ", RANDOM WEIGHTS" if info.notes.get("random_weights") else ""
        source = info.notes.get("weights_source", "?")
        others = [str(other) for other in info.notes.get("weights_sources", ()) if other != source]
        also = f" (also given as {', '.join(others)})" if others else ""
        yield f"{info.digest[:16]}  {key.architecture}, weights {source}{also}{random}"
        yield f"  {key.size} px, {key.fit}, {key.interpolation}, {key.precision}; {key.decoder}"
        for column in info.columns:
            rows = counted(info.column_rows[column], "row")
            yield f"  {column.block.name}/{column.view}: {rows} of {counted(column.block.dim, 'number')}"
        yield (
            f"  {counted(info.shards, 'shard')}, {info.bytes / 1e6:.1f} MB, made {info.created:%Y-%m-%d %H:%M}, "
            f"last written {info.modified:%Y-%m-%d %H:%M} UTC"
        )


def verify_lines(report: VerifyReport) -> Iterator[str]:
    """What a check of the cache saw."""
    how = "every byte read" if report.deep else "names, sizes, keys, ids; --deep reads every byte"
    verdict = "clean" if report.ok else counted(len(report.problems), "problem")
    yield (
        f"cache verify: {verdict}; {counted(report.keys, 'cache key')}, {counted(report.shards, 'shard')}, "
        f"{counted(report.rows, 'row')}, "
        f"{report.bytes / 1e6:.1f} MB ({how})"
    )
    if report.duplicate_rows:
        yield f"  {_lie(report.duplicate_rows, 'row')} in two shards: harmless, `cache compact` joins the copies"
    yield from (f"  {problem.kind} {problem.path}: {problem.detail}" for problem in report.problems)
    if report.quarantined:
        files = _lie(report.quarantined, "file")
        yield f"  {files} in quarantine: `cache prune --quarantine --yes` deletes what is there"


def repair_lines(done: RepairReport) -> Iterator[str]:
    """What a repair of the cache moved, removed, wrote again and left alone."""
    yield (
        f"repaired: {len(done.moved)} moved to quarantine, {counted(len(done.removed), 'temporary file')} removed, "
        f"{len(done.rewritten)} written again, {counted(done.rows_lost, 'row')} to extract"
    )
    yield from (f"  moved {item.source} -> {item.target}" for item in done.moved)
    yield from (f"  written again {path}" for path in done.rewritten)
    yield from (f"  left alone {problem.path}: {problem.detail}" for problem in done.left)
    if done.moved:
        yield "  `cache prune --quarantine --yes` deletes what lies in quarantine"


def _lie(count: int, noun: str) -> str:
    return f"{counted(count, noun)} {'lies' if count == 1 else 'lie'}"


def _rejects(rejects: Iterable[tuple[str, str]]) -> Iterator[str]:
    every = list(rejects)
    yield from (f"  rejected {path}: {reason}" for path, reason in every[:REJECTS])
    if len(every) > REJECTS:
        yield f"  ... and {len(every) - REJECTS} more"
