"""A comparison as tables for the terminal, drawn by rich."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.comparison.pairs import DECIDING, NO_DIFFERENCE, WORDS
from pipeline.comparison.records import ByRow, Candidate, Comparison, Difference, Interval, Pair, PhotoSet
from pipeline.errors import counted
from pipeline.evaluation.bootstrap import MACRO_INTERVALS
from pipeline.evaluation.goals import MEANINGS
from pipeline.evaluation.metrics import FEW

if TYPE_CHECKING:
    from rich.console import RenderableType

NONE = "-"
NAMES = {"accuracy": "attribute acc", "key_macro_f1": "attribute F1"}
"""Means over attributes; `macro F1` is the mean over values."""
PAIRS = 10
"""Pairs shown; all are in the JSON and CSV files."""

CHOSEN = (
    "* chosen on validation by {choose}: {meaning}. Its validation score (valid.) is therefore optimistic: it is the"
    " highest of many, or that of the ensemble of those. Differences are paired: the same resampled products for both."
)

GIVEN = (
    "* the first model named, of those with the most attributes: nothing was chosen here. Differences are paired: the"
    " same resampled products for both."
)

Cell = Callable[[Candidate], str]


def table(comparison: Comparison, color: bool = False) -> str:
    """Every candidate, what the paired differences show, the best per value of `--by`, the attributes, and the notes.

    Args:
        color: With terminal colours.
    """
    head = (
        f"{_photos(comparison)} ({counted(comparison.groups, 'product')}). Test figures with 95 % intervals over"
        f" products ({counted(comparison.resamples, 'resample')}); known labels only."
    )
    best = comparison.best_candidate
    warned = (f"ATTENTION: {each}" for each in comparison.headline)
    blocks: list[RenderableType] = [*warned, head, *(f"not shared: {each}" for each in comparison.left_out), ""]
    blocks.append(_overall(comparison))
    if comparison.pairs:
        blocks.append(_pairs(comparison))
    blocks += [block for each in comparison.photo_sets for block in _on_photos(each)]
    if comparison.by is not None:
        blocks.append(_by(comparison))
    blocks.append(_per_attribute(comparison))
    lost = [f"{row.attribute}={row.value}" for row in comparison.values if not row.learnable]
    if lost:
        named = f"{', '.join(lost[:10])}{_more(len(lost) - 10)}"
        blocks.append(f"not learnable (never seen in training), counted as missed where true: {named}")
    calibrated = [row for row in comparison.calibration if row.error_before is not None]
    if calibrated:
        before, after = (
            sum(figure for row in calibrated if (figure := getattr(row, name)) is not None) / len(calibrated)
            for name in ("error_before", "error_after")
        )
        blocks.append(f"calibration error of {best.name}, mean over attributes: {before:.3f} before, {after:.3f} after")
    if comparison.applies:
        blocks.append(_applies(comparison))
    if comparison.coverage:
        blocks.append(_coverage(comparison))
    chosen = CHOSEN.format(choose=comparison.choose, meaning=MEANINGS[comparison.choose])
    blocks += [_about_macro_f1(best), GIVEN if comparison.evaluated else chosen]
    return _text([*blocks, *comparison.notes], color)


def _photos(comparison: Comparison) -> str:
    train, validation, test = (comparison.parts.get(part, 0) for part in ("train", "validation", "test"))
    if comparison.evaluated:
        return f"{counted(test, 'labelled photo')} that fitted models are tried on"
    return f"{counted(train, 'photo')} to train, {validation} to choose, {test} to test"


def _coverage(comparison: Comparison) -> RenderableType:
    from rich.console import Group

    heads = ["attribute", "to be right", "can be filled", "where the probability is", "right there"]
    heads += ["filled, held out", "right, held out"]
    rows = []
    for row in (each for each in comparison.coverage if each.candidate == comparison.best):
        limit = "never" if row.threshold is None else f">= {row.threshold:.3f}"
        shares = [share(figure) for figure in (row.precision, row.held_out_coverage, row.held_out_precision)]
        rows.append([row.attribute, share(row.target), share(row.coverage), limit, *shares])
    title = f"How much {comparison.best} can fill in when so much of it must be right"
    told = "held out: by thresholds that other products gave; a threshold chosen on the very photos flatters a little"
    return Group(_grid(title, heads, rows, left=(0,)), told, "")


def _applies(comparison: Comparison) -> RenderableType:
    heads = ["attribute", "applies", "named there", "does not apply", "silent there", "mean", "majority"]
    rows = []
    for row in comparison.applies:
        span = None if row.low is None or row.high is None else (row.low, row.high)
        shares = [str(row.applying), share(row.spoken), str(row.not_applying), share(row.silent)]
        rows.append([row.attribute, *shares, with_interval(row.balanced, span), decimal(row.majority)])
    title = (
        f"Does {comparison.best} name attributes where the category has them, and only there? (photos; 0.5 is chance)"
    )
    return _grid(title, heads, rows, left=(0,))


def _text(blocks: Sequence[RenderableType], color: bool) -> str:
    from rich.console import Console
    from rich.text import Text

    texts = [Text(one_line(block)) if isinstance(block, str) else block for block in blocks]
    console = Console(file=io.StringIO(), width=10_000, force_terminal=color, no_color=not color, legacy_windows=False)
    with console.capture() as captured:
        for block in texts:
            console.print(block, soft_wrap=isinstance(block, Text))
    return "\n".join(line.rstrip() for line in captured.get().split("\n"))


def _grid(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> RenderableType:
    """A table whose columns in `left` are aligned to the left, the others to the right; nothing in it is markup."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=SIMPLE, title=Text(one_line(title)) if title else None, title_justify="left", padding=(0, 1))
    for i, name in enumerate(heads):
        grid.add_column(Text(one_line(name)), justify="left" if i in left else "right", no_wrap=True)
    for row in rows:
        style = "bold" if row[0] == "*" else ("dim" if row[-1] == NO_DIFFERENCE else None)
        grid.add_row(*(Text(one_line(cell)) for cell in row), style=style)
    return grid


def _overall(comparison: Comparison) -> RenderableType:
    all_attributes = len(comparison.best_candidate.attributes)
    columns: list[tuple[str, Cell]] = [
        ("", lambda c: "*" if c.best else ""),
        ("candidate", lambda c: c.name + (" (RANDOM WEIGHTS)" if c.random_weights else "")),
        ("valid.", lambda c: decimal(c.validation_score)),
        ("attribute acc", lambda c: with_interval(c.metrics.overall.accuracy, c.intervals.get("accuracy"))),
        ("attribute F1", lambda c: with_interval(c.metrics.overall.key_macro_f1, c.intervals.get("key_macro_f1"))),
        ("macro F1", lambda c: with_interval(c.metrics.overall.macro_f1, c.intervals.get("macro_f1"))),
        ("micro F1", lambda c: decimal(c.metrics.overall.micro_f1)),
        ("mAP", lambda c: decimal(c.metrics.overall.mean_average_precision)),
        ("IoU", lambda c: decimal(c.metrics.overall.iou)),
        ("all right", lambda c: decimal(c.metrics.overall.all_keys_right)),
        ("elem acc", lambda c: decimal(c.metrics.overall.element_accuracy)),
        ("loss", lambda c: decimal(c.metrics.overall.log_loss)),
        ("pred/true", ratio),
        ("fit s", lambda c: NONE if c.seconds is None else f"{c.seconds:.1f}"),
        ("its files", lambda c: c.config_id if c.policy else ""),
    ]
    if any(len(c.attributes) != all_attributes for c in comparison.candidates):
        columns.insert(2, ("attributes", lambda c: f"{len(c.attributes)}/{all_attributes}"))
    rows = [[cell(c) for _, cell in columns] for c in (*comparison.candidates, comparison.majority)]
    return _grid("", [name for name, _ in columns], rows, left=(0, 1, len(columns) - 1))


def _pairs(comparison: Comparison) -> RenderableType:
    heads = ["first", "second", *(f"{NAMES[name]}, first - second" for name in DECIDING), "verdict"]
    rows = [[p.first, p.second, *_cells(p.differences), p.verdict] for p in comparison.pairs[:PAIRS]]
    more = len(comparison.pairs) - PAIRS
    title = "Candidates against each other" + (f" ({more} more pairs in --json and --csv)" if more > 0 else "")
    return _grid(title, heads, rows, left=(0, 1, 4))


def _on_photos(found: PhotoSet) -> Iterator[RenderableType]:
    heads = ["best of its run", *(NAMES[name] for name in DECIDING), "macro F1", "all right"]
    rows = []
    for each in (*found.best, found.majority):
        overall = each.metrics.overall
        figures = [with_interval(getattr(overall, name), each.intervals.get(name)) for name in (*DECIDING, "macro_f1")]
        rows.append([each.name, *figures, decimal(overall.all_keys_right)])
    yield _grid(title_of(found), heads, rows, left=(0,))
    yield from map(in_words, found.pairs)
    yield ""


def title_of(found: PhotoSet) -> str:
    """Which photos these are, and how many."""
    whose = "all runs" if found.everybody else f"{', '.join(found.runs)} alone"
    return f"On the {counted(found.photos, 'test photo')} of {whose} ({counted(found.groups, 'product')})"


def in_words(pair: Pair) -> str:
    """The verdict on two candidates, with the differences behind it."""
    if not pair.differences:
        return f"{pair.first} and {pair.second} have no attribute in common."
    cells = zip(DECIDING, _cells(pair.differences), strict=True)
    figures = ", ".join(f"{NAMES[name]} {cell}" for name, cell in cells)
    return f"{pair.first} {WORDS[pair.verdict]} {pair.second} ({figures})."


def _by(comparison: Comparison) -> RenderableType:
    from rich.console import Group

    judged = {candidate.name: candidate for candidate in comparison.candidates}
    rows = []
    for row in comparison.by_rows:
        candidate = judged.get(row.candidate or "")
        overall = None if candidate is None else candidate.metrics.overall
        figures = [overall.accuracy, overall.key_macro_f1] if overall else [None, None]
        shown = [row.value or "(none)", row.among, str(row.configurations), row.name, settings_text(row)]
        rows.append([*shown, decimal(row.validation_score), *(decimal(figure) for figure in figures)])
    field = comparison.by or ""
    heads = [field, "among", "configs", "best by validation", "its settings", "valid.", *NAMES.values()]
    title = f"By {field}, among configurations that are alike in head, features and photos"
    blocks: list[RenderableType] = [_grid(title, heads, rows, left=(0, 1, 3, 4))]
    if comparison.by_note:
        blocks.append(comparison.by_note)
    if any(row.candidate is None for row in comparison.by_rows):
        blocks.append(f"{NONE}: no test predictions kept; fit-heads --keep all keeps them")
    if comparison.by_differences:
        heads = ["among", "first", "second", *(f"{NAMES[name]}, first - second" for name in DECIDING), "verdict"]
        against = [
            [d.among, d.first_value or "(none)", d.second_value or "(none)", *_cells(d.differences), d.verdict]
            for d in comparison.by_differences
        ]
        blocks.append(_grid(f"{field} against {field}", heads, against, left=(0, 1, 2, 5)))
    return Group(*blocks)


def settings_text(row: ByRow) -> str:
    """The settings of a configuration, in words."""
    return ", ".join(f"{name} {value}" for name, value in row.settings.items()) or NONE


def _cells(differences: Mapping[str, Difference]) -> list[str]:
    deciding = [differences.get(name) for name in DECIDING]
    return [NONE if d is None else f"{d.value:+.3f} [{d.low:+.3f} {d.high:+.3f}]" for d in deciding]


def _per_attribute(comparison: Comparison) -> RenderableType:
    from rich.console import Group

    best, majority = comparison.best_candidate, comparison.majority
    heads = ["attribute", "photos", "values", "acc", "majority", "bal acc", "macro F1", "majority"]
    heads += ["micro F1", "mAP", "IoU", "loss", "calib. err"]
    rows = []
    for mine, base in zip(best.metrics.attributes, majority.metrics.attributes, strict=True):
        spans = best.attribute_intervals.get(mine.attribute, {})
        rows.append(
            [
                mine.attribute if mine.single else f"{mine.attribute} (multi)",
                str(mine.photos),
                f"{mine.scored_values}/{mine.values} ({mine.rare_values})",
                with_interval(mine.accuracy, spans.get("accuracy")),
                decimal(base.accuracy),
                decimal(mine.balanced_accuracy),
                with_interval(mine.macro_f1, spans.get("macro_f1")),
                decimal(base.macro_f1),
                decimal(mine.micro_f1),
                decimal(mine.mean_average_precision),
                decimal(mine.iou),
                decimal(mine.log_loss),
                decimal(mine.calibration_error),
            ]
        )
    grid = _grid(f"Per attribute: {best.name} against the majority baseline", heads, rows, left=(0,))
    about = (
        f"values: with a test photo / in all (of the former, those with fewer than {FEW}); macro F1 and mAP are over"
    )
    return Group(grid, f"{about} those with a test photo, values that training never saw included", "")


def _about_macro_f1(best: Candidate) -> str:
    """What the means over values rest on, and how far their intervals can be trusted."""
    overall = best.metrics.overall
    return (
        f"macro F1: mean over all {counted(overall.scored_values, 'value')} with a test photo,"
        f" {overall.rare_values} of them with fewer than {FEW}, too few to measure one by; attribute F1: mean"
        f" over attributes of each one's macro F1. {MACRO_INTERVALS}"
    )


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def one_line(text: str) -> str:
    """Text whose control characters cannot move the cursor or break the row."""
    return "".join(c if c.isprintable() else "?" for c in text)


def decimal(figure: float | None) -> str:
    """Three decimals, or a dash."""
    return NONE if figure is None else f"{figure:.3f}"


def share(figure: float | None) -> str:
    """Percents with one decimal, or a dash."""
    return NONE if figure is None else f"{100 * figure:.1f} %"


def with_interval(figure: float | None, span: Interval | None) -> str:
    """A figure and its interval, as in 0.842 [.826 .857]."""
    return decimal(figure) if span is None else f"{decimal(figure)} [{_short(span[0])} {_short(span[1])}]"


def _short(figure: float) -> str:
    return f"{figure:.3f}".removeprefix("0")


def ratio(candidate: Candidate) -> str:
    """Predicted values over true ones."""
    overall = candidate.metrics.overall
    if overall.predicted_per_photo is None or not overall.true_per_photo:
        return NONE
    return f"{overall.predicted_per_photo / overall.true_per_photo:.2f}"
