"""How to use the model that was chosen."""

from __future__ import annotations

import shlex

from pipeline.comparison.page.data import PageData
from pipeline.comparison.page.markup import Markup, el
from pipeline.comparison.records import Comparison
from pipeline.options.words import PROGRAM


def loading(comparison: Comparison, data: PageData) -> Markup | None:
    """How to use the best candidate's model file; None when the run kept none."""
    best = comparison.best_candidate
    if not best.model:
        return None
    shell = f"{PROGRAM} predict --model {shlex.quote(best.model)} PHOTOS --out predictions.csv"
    code = (
        f"import pipeline\n\npredictor = pipeline.load_model({best.model!r})\nframe = predictor.predict(['photo.jpg'])"
    )
    plain = f"import joblib\n\nmodel = joblib.load({best.model!r})  # a dict of NumPy arrays; the README shows the rest"
    return el(
        "section",
        el("h2", "Load the best model"),
        el("p", "From a shell, from Python, or with joblib and NumPy alone. joblib runs code: load files you trust."),
        [el("pre", el("code", each), tabindex="0") for each in (shell, code, plain)],
        id="load",
    )
