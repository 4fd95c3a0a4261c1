"""The top of the page: what was compared and what came out, in sentences and five numbers."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.comparison.page.data import PageData
from pipeline.comparison.page.markup import Child, Markup, el
from pipeline.comparison.records import Candidate, Comparison, Interval
from pipeline.comparison.table import decimal, ratio
from pipeline.evaluation.figures import AttributeMetrics

CONTENTS = (
    ("candidates", "Candidates"),
    ("against", "Against each other"),
    ("per-key", "Per attribute"),
    ("values", "Value by value"),
    ("tried", "What was tried"),
    ("key-by-key", "Attribute by attribute"),
    ("photos", "Photos"),
    ("dropped", "Data left out"),
    ("reproduce", "Reproduce"),
)


def header(comparison: Comparison, data: PageData) -> Markup:
    """Title, summary, the best candidate in five numbers, facts, and links to the sections."""
    best, base = comparison.best_candidate, comparison.majority.metrics.overall
    mine = best.metrics.overall
    cards = [
        _card("attributes right", mine.accuracy, best.intervals.get("accuracy"), base.accuracy),
        _card("mean macro F1", mine.key_macro_f1, best.intervals.get("key_macro_f1"), base.key_macro_f1),
        _card("photos all right", mine.all_keys_right, best.intervals.get("all_keys_right"), base.all_keys_right),
        _card("IoU", mine.iou, best.intervals.get("iou"), base.iou),
        el("div", el("span", "named per true value"), el("b", ratio(best)), el("span", "1 is right"), class_="card"),
    ]
    attributes = len(best.attributes)
    absent = {at for at, found in (("against", comparison.pairs), ("values", comparison.values)) if not found}
    contents = [el("a", name, href=f"#{at}") for at, name in CONTENTS if at not in absent]
    return el(
        "header",
        el(
            "h1",
            f"{comparison.best} is best of {len(data.tried)}"
            f" for {attributes} attribute{'' if attributes == 1 else 's'}",
        ),
        el("div", [el("p", sentence) for sentence in _sentences(comparison, data)], class_="summary"),
        el("div", cards, class_="cards"),
        el("ul", [el("li", f"{name} ", el("b", value)) for name, value in _facts(comparison) if value], class_="facts"),
        el("nav", contents, aria_label="Sections", class_="contents"),
    )


def _sentences(comparison: Comparison, data: PageData) -> Iterator[Child]:
    best, majority = comparison.best_candidate, comparison.majority
    mine, base = best.metrics.overall, majority.metrics.overall
    photos = comparison.parts.get("test", 0)
    yield [
        f"On {photos:,} test photo{'s' if photos != 1 else ''} that played no part in any choice it gets ",
        el("b", f"{_percent(mine.accuracy)} of the attributes right"),
        f"; always naming the most common value would get {_percent(base.accuracy)}. ",
        f"Every attribute is right on {_percent(mine.all_keys_right)} of the photos.",
    ]
    scored = sorted((row for row in best.metrics.attributes if row.accuracy is not None), key=_accuracy)
    if len(scored) > 1:
        low, high = scored[0], scored[-1]
        yield (
            f"Easiest is {high.attribute} ({_percent(high.accuracy)} right), "
            f"hardest {low.attribute} ({_percent(low.accuracy)}). {_amount(best)}"
        )
    if len(comparison.candidates) > 1:
        yield _margin(comparison.candidates[1])


def _margin(second: Candidate) -> str:
    found = second.differences.get("accuracy")
    if found is None:
        return f"Next by validation score is {second.name}, for other attributes."
    told = f"{abs(100 * found.value):.1f} points {'fewer' if found.value < 0 else 'more'} attributes right"
    if found.within_noise:
        return f"Next by validation score is {second.name}: {told}, a difference within noise."
    return f"Next by validation score is {second.name}: {told}, more than chance would explain."


def _amount(best: Candidate) -> str:
    overall = best.metrics.overall
    if not overall.true_per_photo or overall.predicted_per_photo is None:
        return ""
    share = overall.predicted_per_photo / overall.true_per_photo
    if 0.95 <= share <= 1.05:
        return "It names about as many values as there are."
    return f"It names {abs(share - 1):.0%} {'more' if share > 1 else 'fewer'} values than there are."


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    runs = comparison.runs
    return [
        ("data", ", ".join(dict.fromkeys(run.data for run in runs if run.data))),
        ("backbone", ", ".join(dict.fromkeys(f"{run.backbone} ({run.weights_source})" for run in runs))),
        ("features", ", ".join(dict.fromkeys(" + ".join(run.blocks) for run in runs))),
        ("photos", " / ".join(f"{comparison.parts.get(p, 0):,} {p}" for p in ("train", "validation", "test"))),
        ("products in test", f"{comparison.groups:,}"),
    ]


def _card(name: str, figure: float | None, span: Interval | None, majority: float | None) -> Markup:
    told = [f"{decimal(span[0])} to {decimal(span[1])}"] if span else []
    more = [el("span", line) for line in (*told, f"majority {decimal(majority)}")]
    return el("div", el("span", name), el("b", decimal(figure)), more, class_="card")


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{100 * share:.0f} %"


def _accuracy(row: AttributeMetrics) -> float:
    return row.accuracy or 0.0
