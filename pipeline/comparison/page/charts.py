"""Small inline SVG in table cells: interval strips and bars. Colours come from the page's style."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.comparison.page.markup import Markup, el
from pipeline.comparison.records import Interval


def bar(
    best: float | None, span: Interval | None, majority: float | None, others: Sequence[float | None], name: str
) -> Markup:
    """One attribute's bar from 0 to 1: the best with its interval, the majority below it, the others as marks."""
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


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"


def _number(figure: float | None) -> str:
    return "not measured" if figure is None else f"{figure:.3f}"
