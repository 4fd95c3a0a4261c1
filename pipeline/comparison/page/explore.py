"""The sections with charts and photos: their frames, controls and tables; the scripts fill in the rest."""

from __future__ import annotations

from pipeline.comparison.page.data import PageData, Tried
from pipeline.comparison.page.markup import Child, Look, Markup, el, table
from pipeline.comparison.records import OTHERS, Comparison, Confusion
from pipeline.comparison.table import decimal

SHOWN_SETTINGS = ("head", "optimizer", "lr", "weight_decay", "hidden", "dropout", "loss", "seed")
CURVES_TOLD = (
    "Each line is one configuration; point at one, or choose it by name. What rises far above the rest is cut off."
)
CURVE_CONTROLS = (("measure", "Measure"), ("colour", "Colour by"), ("one", "Show one"))


def tried(comparison: Comparison, data: PageData) -> Markup | None:
    """Learning curves and sweep plot of every configuration, and the table of all of them."""
    if not data.tried:
        return None
    count = len(data.tried)
    return el(
        "section",
        el("h2", f"What was tried: {count} configuration{'s' if count != 1 else ''}"),
        el("h3", "Learning curves"),
        el(
            "p",
            CURVES_TOLD,
            class_="soft",
        ),
        el("div", [_select(f"curve-{at}", name) for at, name in CURVE_CONTROLS], class_="controls"),
        _chart("curves", "Learning curves of every configuration"),
        el("h3", "Learning rate against validation score"),
        el("p", "Each dot is one configuration; higher is better. The lines join the best per rate.", class_="soft"),
        _chart("sweep", "Validation score by learning rate, optimizer and head"),
        el("details", el("summary", f"All {count} as a table"), _tried_table(data.tried)),
        id="tried",
    )


def one_by_one(comparison: Comparison, data: PageData) -> Markup | None:
    """One attribute at a time: thresholds, calibration, and what is taken for what."""
    if not data.sweeps:
        return None
    told = (
        "What another threshold would do on the test photos. It is for understanding: a threshold chosen here would"
        " look better than it is; the one in use was chosen on validation."
    )
    slider = el("input", type="range", id="threshold", min="0", max="1", step="0.01", value="0")
    return el(
        "section",
        el("h2", f"Attribute by attribute: {comparison.best}"),
        el("div", _select("key", "Key"), class_="controls"),
        el("div", _explorer(told, slider), _calibration(), class_="two"),
        [_confusion(found) for found in comparison.confusions],
        id="key-by-key",
    )


def photos(comparison: Comparison, data: PageData) -> Markup | None:
    """Test photos with what is true and what was decided."""
    gallery = data.gallery
    if not gallery.photos:
        return None
    shown, pictures = len(gallery.photos), len(gallery.pictures)
    some = f"{shown:,} of the {gallery.total:,} test photos: the worst and a random sample of the others."
    told = some if shown < gallery.total else f"All {shown:,} test photos."
    drawn = f" {pictures:,} have a picture: the worst, and some at random." if 0 < pictures < shown else ""
    none = " The run folder keeps no thumbnails, so there are no pictures." if not pictures else ""
    search = el("label", "File name", el("input", type="search", id="photo-name", autocomplete="off"))
    controls = [
        _select("photo-key", "Key"),
        _select("photo-value", "Value, true or decided"),
        _select("photo-right", "Show"),
        _select("photo-order", "Order"),
        search,
    ]
    return el(
        "section",
        el("h2", "Photos"),
        el("p", told, drawn, none, " Percentages are the probabilities given to the values.", class_="soft"),
        el("div", controls, class_="controls"),
        el("p", "", id="photo-count", role="status"),
        el("ol", "", id="gallery", class_="gallery"),
        el("button", "Show more", type="button", id="photo-more", hidden=True),
        id="photos",
    )


def _explorer(told: str, slider: Markup) -> Markup:
    return el(
        "div",
        el("h3", "Thresholds"),
        el("p", told, class_="soft"),
        el(
            "div",
            _select("value", "Value"),
            el("label", "Threshold ", el("output", "", id="threshold-now"), slider, class_="wide"),
            el("button", "Back to the one in use", type="button", id="threshold-back"),
            class_="controls",
        ),
        el("dl", "", id="threshold-figures", class_="figures", aria_live="polite"),
        _chart("thresholds", "Precision, recall and F1 by threshold"),
        _chart("amounts", "Values named per photo by threshold"),
    )


def _calibration() -> Markup:
    told = "Dots below the diagonal: too sure of itself. Above: not sure enough. Larger dots hold more photos."
    return el(
        "div",
        el("h3", "Is it as sure as it should be?"),
        el("p", told, class_="soft"),
        _chart("reliability", "Share correct against confidence"),
    )


def _select(at: str, name: str) -> Markup:
    return el("label", name, el("select", "", id=at, autocomplete="off"))


def _chart(at: str, name: str) -> Markup:
    return el("div", el("div", "", id=at, class_="chart", role="img", aria_label=name), el("div", "", class_="legend"))


def _tried_table(tried: tuple[Tried, ...]) -> Markup:
    settings = [name for name in SHOWN_SETTINGS if len({t.settings.get(name) for t in tried}) > 1]
    ranked = sorted(tried, key=lambda t: -1.0 if t.score is None else t.score, reverse=True)
    rows: list[list[Child]] = [
        [
            each.name,
            decimal(each.score),
            *(each.settings.get(name) or "-" for name in settings),
            "-" if each.best_epoch is None else f"{each.best_epoch:g}",
            "-" if each.seconds is None else f"{each.seconds:.1f}",
        ]
        for each in ranked
    ]
    heads = ["configuration", "validation", *settings, "epoch kept", "fit s"]
    return table(heads, rows, "Every configuration by validation score", Look(best=0, sortable=True))


def _confusion(found: Confusion) -> Markup:
    columns = [*found.values, "nothing"]
    used = [j for j in range(len(columns)) if j < len(found.values) or any(row[j] for row in found.counts)]
    body = []
    for i, (value, row) in enumerate(zip(found.values, found.counts, strict=True)):
        total = max(1, sum(row))
        cells = [
            el(
                "td",
                str(row[j]) if row[j] else "",
                style=f"--share:{row[j] / total:.3f}",
                class_="right" if i == j and value != OTHERS else None,
            )
            for j in used
        ]
        body.append(el("tr", el("th", value, scope="row"), cells))
    corner = el("th", "true ↓  decided →", scope="col")
    # Turned heads keep a matrix of long names narrow.
    heads = [el("th", el("span", columns[j]), scope="col", class_="turned") for j in used]
    whole = el(
        "table",
        el("caption", el("span", f"Test photos of {found.attribute}")),
        el("thead", el("tr", corner, heads)),
        el("tbody", body),
        class_="matrix",
    )
    name = f"Confusion of {found.attribute}"
    together = f" “{OTHERS}” are the less frequent values together, right or mixed up among themselves."
    more = together if OTHERS in found.values else ""
    return el(
        "div",
        el("h3", f"What is taken for what: {found.attribute}"),
        el(
            "p",
            f"A row is a true value, a column a decided one; the shade is the share of the row.{more}",
            class_="soft",
        ),
        el(
            "div",
            el("div", whole, class_="scroll", tabindex="0", role="region", aria_label=name),
            _mistakes(found),
            class_="matrix-and-list",
        ),
        class_="of-key",
        data_key=found.attribute,
    )


def _mistakes(found: Confusion) -> Markup | None:
    if not found.mistakes:
        return None
    rows: list[list[Child]] = [[true, decided, f"{count:,}"] for true, decided, count in found.mistakes[:12]]
    return table(["true", "decided", "photos"], rows, "Most frequent mistakes", Look(words=(1,)))
