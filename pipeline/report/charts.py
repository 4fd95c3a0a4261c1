"""Inline SVG: interval strips, bars, loss curves and reliability diagrams. Colours come from the page's style."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.comparison import Curve, Interval, Reliability
from pipeline.report.markup import Markup, el

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 300.0, 170.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 10.0, 10.0, 26.0


def bar(
    best: float | None, span: Interval | None, majority: float | None, others: Sequence[float | None], name: str
) -> Markup:
    """One key's bar from 0 to 1: the best with its interval, the majority below it, the others as marks."""
    parts: list[Markup] = [
        el("line", x1=_percent(at), x2=_percent(at), y1="0", y2="100%", class_="grid")
        for at in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    if best is not None:
        parts.append(el("rect", x="0", y="4", width=_percent(best), height="12", class_="bar-best", rx="2"))
    if majority is not None:
        parts.append(el("rect", x="0", y="19", width=_percent(majority), height="6", class_="bar-majority", rx="2"))
    parts += [el("circle", cx=_percent(at), cy="10", r="2.5", class_="mark") for at in others if at is not None]
    if span is not None:
        parts.append(el("line", x1=_percent(span[0]), x2=_percent(span[1]), y1="10", y2="10", class_="whisker"))
    told = f"{name}: best {_number(best)}, majority {_number(majority)}"
    return el("svg", el("title", told), parts, class_="bar", role="img", height="28")


def strip(figure: float | None, span: Interval | None, scale: Interval, reference: float | None, name: str) -> Markup:
    """A figure and its interval on a common scale, a dashed line at the reference; nothing off the scale."""

    def at(value: float) -> str:
        low, high = scale
        return _percent((value - low) / (high - low) if high > low else 0.5)

    parts: list[Markup] = []
    if reference is not None and scale[0] <= reference <= scale[1]:
        parts.append(el("line", x1=at(reference), x2=at(reference), y1="0", y2="100%", class_="reference"))
    if span is not None and scale[0] <= span[1]:
        parts.append(el("line", x1=at(span[0]), x2=at(span[1]), y1="10", y2="10", class_="span"))
    if figure is not None and scale[0] <= figure <= scale[1]:
        parts.append(el("circle", cx=at(figure), cy="10", r="4", class_="dot"))
    return el("svg", el("title", f"{name}: {_number(figure)}"), parts, class_="strip", role="img", height="20")


def loss_curve(curve: Curve, top: float) -> Markup:
    """Training and validation loss per epoch, 0 to `top`, the best epoch marked."""
    every = [*curve.train, *curve.validation]
    first, last = min(x for x, _ in every), max(x for x, _ in every)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - first) / (last - first) if last > first else 0.5
        up = min(point[1] / top, 1.0) if top > 0 else 0.0
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [*_frame(top), *_epochs(first, last)]
    if curve.best_epoch is not None and first <= curve.best_epoch <= last:
        x, _ = place((curve.best_epoch, 0.0))
        parts.append(el("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="reference"))
    for points, kind in ((curve.train, "train"), (curve.validation, "validation")):
        placed = [place(point) for point in points]
        parts.append(el("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in placed), class_=f"curve {kind}"))
    best = "" if curve.best_epoch is None else f", best epoch {curve.best_epoch:g}"
    return el("svg", el("title", f"Loss of {curve.name}{best}"), parts, viewBox=_box(WIDTH, HEIGHT), role="img")


def reliability_diagram(found: Reliability) -> Markup:
    """Share correct against confidence; the diagonal is perfect calibration, larger dots hold more photos."""
    side, edge = 170.0, 24.0
    inner = side - 2 * edge
    parts = [
        el("rect", x=edge, y=edge, width=inner, height=inner, class_="box"),
        el("line", x1=edge, y1=side - edge, x2=side - edge, y2=edge, class_="reference"),
        el("text", "confidence", x=side / 2, y=side - 7, class_="axis", text_anchor="middle"),
        el(
            "text",
            "correct",
            x=0.0,
            y=0.0,
            class_="axis",
            text_anchor="middle",
            transform=f"translate(15 {side / 2}) rotate(-90)",
        ),
    ]
    most = max(found.count)
    for confidence, correct, count in zip(found.confidence, found.correct, found.count, strict=True):
        if confidence is not None and correct is not None:
            radius = 2.0 + 5.0 * (count / most) ** 0.5
            x, y = edge + confidence * inner, side - edge - correct * inner
            parts.append(el("circle", el("title", f"{count}"), cx=x, cy=y, r=radius, class_="dot"))
    return el("svg", el("title", f"Calibration of {found.key}"), parts, viewBox=_box(side, side), role="img")


def _frame(top: float) -> list[Markup]:
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
        parts.append(el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(el("text", f"{share * top:.3g}", x=LEFT - 5, y=y + 4, class_="axis", text_anchor="end"))
    return parts


def _epochs(first: float, last: float) -> list[Markup]:
    ends = [(LEFT, f"{first:g}", "start"), (WIDTH - RIGHT, f"{last:g}", "end")]
    ends.append(((LEFT + WIDTH - RIGHT) / 2, "epoch", "middle"))
    return [el("text", shown, x=x, y=HEIGHT - 8, class_="axis", text_anchor=anchor) for x, shown, anchor in ends]


def _box(width: float, height: float) -> str:
    return f"0 0 {width:g} {height:g}"


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"


def _number(figure: float | None) -> str:
    return "not measured" if figure is None else f"{figure:.3f}"
