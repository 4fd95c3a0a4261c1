"""How the HTML pages are made: Jinja2 templates that escape what is put into them, and one base for every page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.comparison.page.glossary import GLOSSARY
from pipeline.comparison.page.scripts import ASSETS, policy
from pipeline.comparison.table import decimal, ratio, share, with_interval

TEMPLATES = Path(__file__).parent / "templates"


def render_page(
    template: str, content: Mapping[str, object], folder: Path = TEMPLATES, scripts: Sequence[str] = ()
) -> str:
    """A self-contained page that asks nothing of the network.

    Args:
        template: Name of a template that extends `base.html`.
        content: What the template names; text in it is escaped unless it is `Markup`.
        folder: Where the template lies; it can include what else lies there, and import the `macros.html` that all
            pages share. The style of `base.html` is that of all pages.
        scripts: Code that the page runs, in this order; no other code can run in it.

    Returns:
        The HTML, ending in a line feed.

    Raises:
        jinja2.UndefinedError: The template names something that `content` lacks.
    """
    frame = {"policy": policy(scripts), "scripts": [Markup(code) for code in scripts]}
    return _environment(folder).get_template(template).render({**content, **frame})


def visible(text: str) -> str:
    """Plain text with a replacement mark for characters that are invisible or reverse the reading direction."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def percent(share: float | None) -> str:
    """Whole percents, in words where there is nothing to say."""
    return "an unknown share" if share is None else f"{100 * share:.0f} %"


def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES, ASSETS]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    environment.globals["glossary"] = GLOSSARY
    return environment


def _finalize(value: object) -> object:
    """What stands in the page for a value; Jinja2 escapes it afterwards."""
    return value if isinstance(value, Markup) else visible(str(value))


def _along(share: float) -> str:
    """A place on an axis that nothing leaves, in percent of its length."""
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"


def _plural(count: int) -> str:
    return "" if count == 1 else "s"


def _thousands(count: int) -> str:
    return f"{count:,}"


FILTERS = {
    "along": _along,
    "decimal": decimal,
    "percent": percent,
    "plural": _plural,
    "ratio": ratio,
    "share": share,
    "thousands": _thousands,
    "with_interval": with_interval,
}
