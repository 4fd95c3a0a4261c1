"""HTML that is safe by construction: every text is escaped unless this module made it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

VOID = frozenset({"meta", "input", "img", "line", "rect", "circle"})
BARE = frozenset({"meta", "input", "img"})
"""HTML elements without an end tag; the other VOID ones are SVG and close themselves."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | None | Iterable["Child"]


def el(tag: str, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """One element; children that are not Markup are escaped, None is left out, lists are flattened.

    A trailing underscore in an attribute's name is dropped, other underscores become dashes.
    """
    shown = []
    for attribute, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = attribute.rstrip("_").replace("_", "-")
        shown.append(f" {attribute}" if value is True else f' {attribute}="{text(_plain(value))}"')
    inside = "".join(_flat(children))
    if tag in VOID and not inside:
        return Markup(f"<{tag}{''.join(shown)}>" if tag in BARE else f"<{tag}{''.join(shown)}/>")
    return Markup(f"<{tag}{''.join(shown)}>{inside}</{tag}>")


def text(value: str) -> Markup:
    """Escaped text. Characters that are invisible or reverse the reading direction show as a replacement mark."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(visible(value)))


def visible(value: str) -> str:
    """Plain text with a replacement mark for characters that are invisible or reverse the reading direction."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in value)


@dataclass(frozen=True)
class Look:
    """How a table is shown. best : the row that stands out; words : columns of words, hence starting at the left;
    sortable : whether its named columns get buttons that sort it.
    """

    best: int | None = None
    words: Sequence[int] = ()
    sortable: bool = False


PLAIN = Look()


def table(heads: Sequence[Child], rows: Iterable[Sequence[Child]], caption: str, look: Look = PLAIN) -> Markup:
    """A table in a frame that scrolls by itself; the first cell of a row is its head."""
    kind = ["words" if i in look.words else None for i in range(len(heads))]
    body = [
        el(
            "tr",
            el("th", row[0], scope="row"),
            [el("td", cell, class_=kind[j]) for j, cell in enumerate(row) if j],
            class_="best" if i == look.best else None,
        )
        for i, row in enumerate(rows)
    ]
    head = el("thead", el("tr", [_head(each, kind[j], look.sortable) for j, each in enumerate(heads)]))
    whole = el(
        "table",
        el("caption", el("span", caption)),
        head,
        el("tbody", body),
        class_="sortable" if look.sortable else None,
    )
    return el("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _head(name: Child, kind: str | None, sortable: bool) -> Markup:
    if not sortable or not name:
        return el("th", name, scope="col", class_=kind)
    return el("th", el("button", name, type="button"), scope="col", class_=kind, aria_sort="none")


def _flat(children: Iterable[Child]) -> list[str]:
    found: list[str] = []
    for child in children:
        if isinstance(child, str):
            found.append(text(child))
        elif child is not None:
            found += _flat(child)
    return found


def _plain(value: str | float | bool) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
