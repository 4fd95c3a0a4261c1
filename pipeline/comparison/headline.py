"""What must be said before any figure: that the best is no better than the majority, or the test photos too few."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.comparison.pairs import DECIDING
from pipeline.comparison.records import Difference, Pair
from pipeline.errors import counted
from pipeline.evaluation.bootstrap import FEW_PRODUCTS

BETTER = "first better"
NAMES = {"accuracy": "attribute acc", "key_macro_f1": "attribute F1"}


def headline(against_majority: Pair, photos: int, products: int) -> tuple[str, ...]:
    """Sentences for the top of the table and of the page; none when there is nothing to warn of.

    Args:
        against_majority: The best one and the majority baseline, on the same resamples.
        photos: Test photos.
        products: Products among them.
    """
    return tuple(_sentences(against_majority, photos, products))


def _sentences(against: Pair, photos: int, products: int) -> Iterator[str]:
    if against.verdict != BETTER:
        figures = ", ".join(_cell(name, d) for name in DECIDING if (d := against.differences.get(name)) is not None)
        yield (
            f"{against.first} is not shown to be better than always naming the most common value"
            f" ({figures or 'no figure could be taken'})."
        )
    if products < FEW_PRODUCTS:
        yield (
            f"{counted(photos, 'test photo')} of {counted(products, 'product')} can tell next to nothing: even without"
            f" a mistake on any, {min(100, round(300 / max(products, 1)))} % of all products may be wrong."
        )


def _cell(name: str, found: Difference) -> str:
    return f"{NAMES[name]} {found.value:+.3f} [{found.low:+.3f} {found.high:+.3f}]"
