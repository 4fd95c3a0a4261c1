"""The sections of the report page, each a function of the comparison."""

from __future__ import annotations

from pipeline.comparison.page.charts import bar, strip
from pipeline.comparison.page.data import PageData
from pipeline.comparison.page.markup import Child, Look, Markup, el, table
from pipeline.comparison.records import Candidate, Comparison, Interval
from pipeline.comparison.table import decimal, ratio, with_interval

FIGURES = ("accuracy", "key_macro_f1")


def notes(comparison: Comparison, data: PageData) -> Markup | None:
    """What must not be missed; None when there is nothing."""
    if not comparison.notes:
        return None
    return el("section", el("ul", [el("li", note) for note in comparison.notes]), class_="notes", aria_label="Notes")


def candidates(comparison: Comparison, data: PageData) -> Markup:
    """Every candidate and the majority baseline, with intervals and paired differences."""
    every = (*comparison.candidates, comparison.majority)
    scale = _scale(comparison.candidates)
    attributes = len(comparison.best_candidate.attributes)
    fewer = any(len(c.attributes) != attributes for c in every)
    heads: list[Child] = ["candidate", *(["attributes"] if fewer else []), "validation", "", "attribute accuracy"]
    heads += ["minus the best", "macro F1", "micro F1", "mAP", "IoU", "all right", "loss"]
    heads += ["calib. err.", "pred/true", "fit s"]
    reference = comparison.majority.metrics.overall.accuracy
    rows = [_candidate_row(c, scale, reference, attributes if fewer else None) for c in every]
    return el(
        "section",
        el("h2", "Candidates"),
        el(
            "p",
            "The best is chosen by its validation score; every other figure is of the test photos, on known labels"
            f" only. Brackets are 95 % intervals, from {comparison.resamples:,} resamples of products; differences are"
            " paired on the same resamples, and “within noise” means that their interval holds 0.",
            class_="soft",
        ),
        table(heads, rows, "Test figures per candidate, best validation score first", Look(best=0, sortable=True)),
        id="candidates",
    )


def per_attribute(comparison: Comparison, data: PageData) -> Markup:
    """Bars and figures per attribute: best, majority and the other candidates."""
    best, majority = comparison.best_candidate, comparison.majority
    rest = [c for c in comparison.candidates if not c.best]
    figures = [{row.attribute: row.accuracy for row in c.metrics.attributes} for c in rest]
    rows: list[list[Child]] = []
    for mine, base in zip(best.metrics.attributes, majority.metrics.attributes, strict=True):
        spans = best.attribute_intervals.get(mine.attribute, {})
        others = [figure.get(mine.attribute) for figure in figures]
        rows.append(
            [
                mine.attribute if mine.single else [mine.attribute, el("span", "several values", class_="badge")],
                bar(mine.accuracy, spans.get("accuracy"), base.accuracy, others, mine.attribute),
                _with_ci(mine.accuracy, spans.get("accuracy")),
                decimal(base.accuracy),
                decimal(mine.balanced_accuracy),
                _with_ci(mine.macro_f1, spans.get("macro_f1")),
                decimal(base.macro_f1),
                decimal(mine.mean_average_precision),
                decimal(mine.iou),
                decimal(mine.calibration_error),
                f"{mine.photos:,}",
                f"{mine.scored_values}/{mine.values}",
            ]
        )
    heads = ["attribute", "", "accuracy", "majority", "balanced", "macro F1", "majority", "mAP", "IoU"]
    heads += ["calib. err.", "photos", "values"]
    legend = [
        ("best", f"{best.name}, with its interval"),
        ("majority", "majority baseline"),
        ("mark", "other candidates"),
    ]
    caption = "Per attribute on known test labels; values: with a test photo / in all"
    shown = table(heads, rows, caption, Look(sortable=True))
    return el("section", el("h2", "Per attribute"), _legend(legend), shown, id="per-key")


def policies(comparison: Comparison, data: PageData) -> Markup | None:
    """The best candidate under every threshold policy that was tried."""
    if len(comparison.policies) < 2:
        return None
    rows = []
    for row in comparison.policies:
        overall = row.metrics.overall
        per_photo = [decimal(overall.predicted_per_photo), decimal(overall.true_per_photo)]
        figures = [overall.accuracy, overall.key_macro_f1, overall.micro_f1, overall.iou, overall.all_keys_right]
        rows.append([row.policy, decimal(row.validation_score), *(decimal(f) for f in figures), *per_photo])
    heads = [
        "thresholds",
        "validation",
        "attribute accuracy",
        "macro F1",
        "micro F1",
        "IoU",
        "all right",
        "predicted",
        "true",
    ]
    chosen = next((i for i, row in enumerate(comparison.policies) if row.chosen), None)
    told = "How many values are worth predicting: one candidate under each way of cutting its probabilities."
    caption = f"{comparison.best} per threshold policy; predicted and true: values per photo"
    shown = table(heads, rows, caption, Look(best=chosen))
    return el("section", el("h2", "Threshold policies"), el("p", told, class_="soft"), shown)


def _candidate_row(c: Candidate, scale: Interval, reference: float | None, attributes: int | None) -> list[Child]:
    overall = c.metrics.overall
    figures = [overall.micro_f1, overall.mean_average_precision, overall.iou, overall.all_keys_right]
    figures += [overall.log_loss, overall.calibration_error]
    return [
        [c.name, _marks(c)],
        *([] if attributes is None else [f"{len(c.attributes)}/{attributes}"]),
        decimal(c.validation_score),
        strip(overall.accuracy, c.intervals.get("accuracy"), scale, reference, c.name),
        _with_ci(overall.accuracy, c.intervals.get("accuracy")),
        _to_best(c),
        _with_ci(overall.key_macro_f1, c.intervals.get("key_macro_f1")),
        *(decimal(figure) for figure in figures),
        ratio(c),
        "-" if c.seconds is None else f"{c.seconds:.1f}",
    ]


def _to_best(c: Candidate) -> Child:
    found = c.differences.get("accuracy")
    if found is None:
        return ""
    span = el("span", f"[{found.low:+.3f} {found.high:+.3f}]", class_="ci")
    noise = el("span", "within noise", class_="badge") if found.within_noise else None
    return [f"{found.value:+.3f} ", span, noise]


def _marks(c: Candidate) -> list[Markup]:
    marks = [el("span", "best", class_="badge")] if c.best else []
    return marks + ([el("span", "random weights", class_="badge warn")] if c.random_weights else [])


def _with_ci(figure: float | None, span: Interval | None) -> Child:
    shown = with_interval(figure, span).split(" ", 1)
    return [shown[0], *([" ", el("span", shown[1], class_="ci")] if len(shown) > 1 else [])]


def _legend(entries: list[tuple[str, str]]) -> Markup:
    return el("p", [el("span", el("i", class_=f"i-{kind}"), told) for kind, told in entries], class_="legend")


def _scale(every: tuple[Candidate, ...]) -> Interval:
    """A common scale that holds every interval, a little wider."""
    ends = [c.metrics.overall.accuracy for c in every]
    ends += [end for c in every for end in c.intervals.get("accuracy", ())]
    found = [end for end in ends if end is not None]
    if not found:
        return 0.0, 1.0
    margin = 0.04 * (max(found) - min(found)) or 0.05
    return max(0.0, min(found) - margin), min(1.0, max(found) + margin)
