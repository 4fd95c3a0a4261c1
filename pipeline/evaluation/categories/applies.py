"""Whether a model speaks of an attribute where the category has it, and is silent where the category has not.

The figures of values are over photos on which an attribute is known; a photo whose category does not have it counts in
none of them, so a sleeve length that is named on a handbag costs nothing there. Here it does. The truth is the category
of a photo and the gate, which says what applies to it:

- applies: the category has the attribute, and the photo a value of it; right when anything is decided
- does not apply: the category does not have the attribute; right when nothing is decided

Deciding `#N/A`, which is a value under `--na class`, is to decide nothing. Whether what is decided is right is not
asked: the figures of values say that. Left out are a photo to which an attribute applies but that has none of its
values (silence is right there for another reason), a photo whose category is unknown or not in the gate, and one that
carries a value of an attribute its category does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Bool, UInt8
from pipeline.catalogue.labels import LabelSchema
from pipeline.evaluation.bootstrap import Bootstrap, interval
from pipeline.evaluation.metrics import known_cells
from pipeline.evaluation.unseen import Unseen


@dataclass(frozen=True)
class Applies:
    """One attribute of one candidate; None where there is no photo of a kind.

    Attributes:
        candidate: Its name.
        attribute: The attribute.
        applying, not_applying: Photos of each kind.
        spoken: Share of the former on which something is decided.
        silent: Share of the latter on which nothing is.
        balanced: Mean of both: 0.5 for one that always speaks or never does.
        low, high: 95 % interval of it, over resampled products.
        majority: What the majority baseline reaches.
    """

    candidate: str
    attribute: str
    applying: int
    not_applying: int
    spoken: float | None
    silent: float | None
    balanced: float | None
    low: float | None
    high: float | None
    majority: float | None


@dataclass(frozen=True)
class _Kinds:
    """Photos to which attributes apply, and to which they do not, bool (n, K) each."""

    yes: Bool
    no: Bool


def applies(
    candidate: str, decided: Bool, majority: Bool, truth: tuple[UInt8, Bool, LabelSchema, Unseen], resamples: Bootstrap
) -> tuple[Applies, ...]:
    """A row per attribute that does not apply to every category; none without a gate or a category to go by.

    Args:
        candidate: Its name.
        decided: Decisions of the candidate, bool (n, L).
        majority: Those of the baseline, bool (n, L).
        truth: Y and mask (n, L), their schema, and the values that it has no column for.
        resamples: Of the n photos.
    """
    Y, mask, schema, unseen = truth
    kinds = _kinds(Y, mask, schema, unseen)
    if kinds is None:
        return ()
    spoken, base = (_any(known_cells(D, np.ones_like(mask), schema)[0], schema) for D in (decided, majority))
    resampled = (resamples.shares(spoken & kinds.yes, kinds.yes) + resamples.shares(~spoken & kinds.no, kinds.no)) / 2
    rows = []
    for i in np.flatnonzero(kinds.no.any(axis=0)).tolist():
        yes, no = kinds.yes[:, i], kinds.no[:, i]
        speaking, silent, balanced = _shares(spoken[:, i], yes, no)
        span = None if balanced is None else interval(resampled[:, i])
        rows.append(
            Applies(
                candidate=candidate,
                attribute=schema.attributes[i],
                applying=int(yes.sum()),
                not_applying=int(no.sum()),
                spoken=speaking,
                silent=silent,
                balanced=balanced,
                low=None if span is None else span[0],
                high=None if span is None else span[1],
                majority=_shares(base[:, i], yes, no)[2],
            )
        )
    return tuple(rows)


def _kinds(Y: UInt8, mask: Bool, schema: LabelSchema, unseen: Unseen) -> _Kinds | None:
    attribute = schema.category_attribute
    if schema.gate is None or attribute not in schema.attributes:
        return None
    true, _ = known_cells(Y, mask, schema)
    at = schema.attributes.index(attribute)
    has = true[:, schema.slices[at]]
    names = schema.values[at]
    # One category per photo, and only one that the gate lists, says what applies.
    categories = [names[row.argmax()] if row.sum() == 1 else None for row in has]
    listed = np.array([category in schema.gate for category in categories], np.bool_)[:, None]
    applying = schema.applies(categories, len(Y))
    carries = _any(true, schema)
    for i, name in enumerate(schema.attributes):
        carries[:, i] |= unseen.Y[:, unseen.columns(name)].any(axis=1)
    return _Kinds(listed & applying & carries, listed & ~applying & ~carries)


def _any(cells: Bool, schema: LabelSchema) -> Bool:
    """Attributes (n, K) of which a photo has any value."""
    return np.stack([cells[:, columns].any(axis=1) for columns in schema.slices], axis=1)


def _shares(spoken: Bool, yes: Bool, no: Bool) -> tuple[float | None, float | None, float | None]:
    speaking = float(spoken[yes].mean()) if yes.any() else None
    silent = float((~spoken[no]).mean()) if no.any() else None
    return speaking, silent, None if speaking is None or silent is None else (speaking + silent) / 2
