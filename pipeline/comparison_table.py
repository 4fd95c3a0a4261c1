"""A comparison as plain aligned text for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.comparison import Candidate, Comparison, Interval

NONE = "-"

Cell = Callable[[Candidate], str]


def table(comparison: Comparison) -> str:
    """The overall table, the best configuration per value of `--by`, the per-key table, and the notes."""
    parts = comparison.parts
    best = comparison.best_candidate
    head = (
        f"{parts.get('train', 0)} photos to train, {parts.get('validation', 0)} to choose, {parts.get('test', 0)} to"
        f" test ({comparison.groups} products). Test figures with 95 % intervals over products; known labels only."
    )
    blocks = [head, _overall(comparison)]
    if comparison.by is not None:
        blocks.append(_by(comparison))
    blocks.append(f"Per key: {best.name} against the majority baseline\n{_per_key(comparison)}")
    star = "* best by validation score. "
    noise = "~ difference to the best within noise." if len(comparison.candidates) > 1 else ""
    blocks.append("\n".join([f"{star}{noise}".strip(), *comparison.notes]))
    text = "\n\n".join(blocks)
    return "\n".join(one_line(line) for line in text.split("\n")) + "\n"


def _overall(comparison: Comparison) -> str:
    all_keys = len(comparison.best_candidate.keys)
    columns: list[tuple[str, Cell]] = [
        ("", lambda c: "*" if c.best else ""),
        ("candidate", lambda c: c.name + (" (RANDOM WEIGHTS)" if c.random_weights else "")),
        ("valid.", lambda c: decimal(c.validation_score)),
        ("key acc", lambda c: with_interval(c.metrics.overall.accuracy, c.intervals.get("accuracy"))),
        ("macro F1", lambda c: with_interval(c.metrics.overall.key_macro_f1, c.intervals.get("key_macro_f1"))),
        ("micro F1", lambda c: decimal(c.metrics.overall.micro_f1)),
        ("mAP", lambda c: decimal(c.metrics.overall.mean_average_precision)),
        ("IoU", lambda c: decimal(c.metrics.overall.iou)),
        ("all right", lambda c: decimal(c.metrics.overall.all_keys_right)),
        ("elem acc", lambda c: decimal(c.metrics.overall.element_accuracy)),
        ("loss", lambda c: decimal(c.metrics.overall.log_loss)),
        ("pred/true", ratio),
        ("fit s", lambda c: NONE if c.seconds is None else f"{c.seconds:.1f}"),
        ("acc - best", _difference),
    ]
    if any(len(c.keys) != all_keys for c in comparison.candidates):
        columns.insert(2, ("keys", lambda c: f"{len(c.keys)}/{all_keys}"))
    rows = [[cell(c) for _, cell in columns] for c in (*comparison.candidates, comparison.majority)]
    return align([name for name, _ in columns], rows, left=2)


def _by(comparison: Comparison) -> str:
    judged = {candidate.name: candidate for candidate in comparison.candidates}
    rows = []
    for row in comparison.by_rows:
        candidate = judged.get(row.candidate or "")
        overall = None if candidate is None else candidate.metrics.overall
        figures = [overall.accuracy, overall.key_macro_f1] if overall else [None, None]
        name = row.config_id if len(comparison.runs) == 1 else f"{row.run}/{row.config_id}"
        shown = [row.value or "(none)", str(row.configurations), row.candidate or name]
        rows.append([*shown, decimal(row.validation_score), *(decimal(figure) for figure in figures)])
    heads = [comparison.by or "", "configs", "best by validation", "valid.", "key acc", "macro F1"]
    text = align(heads, rows, left=1, also_left=(2,))
    if any(row.candidate is None for row in comparison.by_rows):
        text += f"\n{NONE}: no test predictions kept; fit-heads --keep all keeps them"
    return text


def _per_key(comparison: Comparison) -> str:
    best, majority = comparison.best_candidate, comparison.majority
    heads = ["key", "photos", "values", "acc", "majority", "bal acc", "macro F1", "majority"]
    heads += ["micro F1", "mAP", "IoU", "loss", "calib. err"]
    rows = []
    for mine, base in zip(best.metrics.keys, majority.metrics.keys, strict=True):
        spans = best.key_intervals.get(mine.key, {})
        rows.append(
            [
                mine.key if mine.single else f"{mine.key} (multi)",
                str(mine.photos),
                f"{mine.scored_values}/{mine.values}",
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
    return align(heads, rows, left=1) + "\nvalues: with a test photo / in all; macro F1 and mAP are over the former"


def align(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int, also_left: Sequence[int] = ()) -> str:
    """Columns padded to their widest cell; the first `left` (and `also_left`) to the left, the others to the right."""
    table = [[one_line(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if i < left or i in also_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)


def one_line(text: str) -> str:
    """Text whose control characters cannot move the cursor or break the row."""
    return "".join(c if c.isprintable() else "?" for c in text)


def decimal(figure: float | None) -> str:
    """Three decimals, or a dash."""
    return NONE if figure is None else f"{figure:.3f}"


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


def _difference(candidate: Candidate) -> str:
    found = candidate.differences.get("accuracy")
    if found is None:
        return ""
    return f"{found.value:+.3f}{'~' if found.within_noise else ' '}"
