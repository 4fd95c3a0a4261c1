"""The later sections: curves, confusions, calibration, what was left out, and how to load the model."""

from __future__ import annotations

import shlex

from pipeline.comparison import Comparison, Confusion
from pipeline.report.charts import loss_curve, reliability_diagram
from pipeline.report.markup import Child, Markup, el, table

CURVES = 12
LISTED = 60


def curves(comparison: Comparison) -> Markup | None:
    """Loss per epoch of the best candidates; None without any history."""
    shown = comparison.curves[:CURVES]
    if not shown:
        return None
    ends = sorted(max((loss for _, loss in (*c.train[1:], *c.validation)), default=0.0) for c in shown)
    top = ends[len(ends) // 2] * 1.15
    figures = [el("figure", el("h3", curve.name), loss_curve(curve, top)) for curve in shown]
    more = len(comparison.curves) - len(shown)
    told = "All on one scale; what rises above it is cut. The dashed line is the epoch the model was taken from."
    return el(
        "section",
        el("h2", "Loss curves"),
        el("p", told + (f" {more} more are in history.csv." if more else ""), class_="soft"),
        legend([("train", "training"), ("validation", "validation")]),
        el("div", figures, class_="grid-cards"),
    )


def confusions(comparison: Comparison) -> Markup | None:
    """Confusion matrices of the best candidate, one to unfold per single-valued key."""
    if not comparison.confusions:
        return None
    shown = [
        el("details", el("summary", found.key), _matrix(found), open=i == 0)
        for i, found in enumerate(comparison.confusions)
    ]
    told = "Rows are true values, columns decided ones; the shade is the share of the row. Click a key to unfold it."
    return el("section", el("h2", f"What {comparison.best} confuses"), el("p", told, class_="soft"), shown)


def calibration(comparison: Comparison) -> Markup | None:
    """Reliability diagrams of the best candidate."""
    shown = [el("figure", el("h3", r.key), reliability_diagram(r)) for r in comparison.reliability[:LISTED]]
    if not shown:
        return None
    told = "Dots below the diagonal are over-confident, above it under-confident; larger dots hold more photos."
    return el(
        "section",
        el("h2", "Calibration"),
        el("p", told, class_="soft"),
        el("div", shown, class_="grid-cards small"),
    )


def left_out(comparison: Comparison) -> Markup:
    """The runs, and what was dropped or cannot be measured in their data."""
    rows: list[list[Child]] = []
    for run in comparison.runs:
        found = ", ".join(f"{count:,} {kind}" for kind, count in sorted(run.findings.items())) or "nothing"
        origin = f"{run.backbone} ({run.weights_source})"
        rows.append([run.name, run.data, origin, str(run.configurations), str(len(run.keys)), found, run.created])
    heads = ["run", "data", "backbone", "configurations", "keys", "dropped or odd rows", "made"]
    lacking = list(dict.fromkeys(value for run in comparison.runs for value in run.not_measurable))
    more = f" and {len(lacking) - LISTED} more" if len(lacking) > LISTED else ""
    told = (
        f"Too rare to be measured, hence in no test figure: {', '.join(lacking[:LISTED])}{more}." if lacking else None
    )
    return el(
        "section",
        el("h2", "Runs and data"),
        el("p", told, class_="soft") if told else None,
        table(heads, rows, "Run folders compared; each dropped row is listed in its dropped.csv", words=(1, 2, 5, 6)),
    )


def loading(comparison: Comparison) -> Markup | None:
    """How to use the best candidate's model file; None when the run kept none."""
    best = comparison.best_candidate
    if not best.model:
        return None
    shell = f"python run.py predict --model {shlex.quote(best.model)} PHOTOS --out predictions.csv"
    code = (
        f"import pipeline\n\npredictor = pipeline.load_model({best.model!r})\nframe = predictor.predict(['photo.jpg'])"
    )
    plain = f"import joblib\n\nmodel = joblib.load({best.model!r})  # a dict of NumPy arrays; the README shows the rest"
    return el(
        "section",
        el("h2", "Load the best model"),
        el("p", "From a shell, from Python, or with joblib and NumPy alone. joblib runs code: load files you trust."),
        [el("pre", el("code", each)) for each in (shell, code, plain)],
    )


def legend(entries: list[tuple[str, str]]) -> Markup:
    """Coloured keys with their meaning."""
    return el("p", [el("span", el("i", class_=f"i-{kind}"), told) for kind, told in entries], class_="legend")


def _matrix(found: Confusion) -> Markup:
    columns = [*found.values, "nothing"]
    used = [j for j in range(len(columns)) if j < len(found.values) or any(row[j] for row in found.counts)]
    body = []
    for value, row in zip(found.values, found.counts, strict=True):
        total = max(1, sum(row))
        cells = [
            el("td", str(row[j]), style=f"--share:{row[j] / total:.3f}", class_=None if row[j] else "zero")
            for j in used
        ]
        body.append(el("tr", el("th", value, scope="row"), cells))
    corner = el("th", "true \\ decided", scope="col")
    head = el("thead", el("tr", corner, [el("th", columns[j], scope="col") for j in used]))
    whole = el("table", el("caption", f"Photos of {found.key}"), head, el("tbody", body), class_="matrix")
    return el("div", whole, class_="scroll", tabindex="0", role="region", aria_label=f"Confusion of {found.key}")
