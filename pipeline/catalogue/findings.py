"""What was dropped or odd in a catalogue, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

KINDS: Mapping[str, str] = {
    "repeated": "a row names a photo that an earlier row names; the earlier row is kept",
    "missing-photo": "a row names a photo that is not on disk; the row is dropped",
    "outside-images": "a row's path is absolute, climbs, or links out of the images folder; the row is dropped",
    "no-name": "a row has no usable file name; the row is dropped",
    "look-alikes-cut": "more photos look alike and are labelled differently than are listed",
    "not-all-compared": "so many photos that each was compared with some of the others only",
    "ragged-row": "a row has more cells than the header (dropped) or fewer (the missing ones are unknown)",
    "matches-several": "a photo matches the patterns of several rows, so it is nobody's",
    "found-by-base-name": "not one name is a file as written; photos were found by the last part of their names",
    "path-form": "a photo was found under an equivalent spelling of its path",
    "unicode-form": "a photo was found under another Unicode normal form of its name",
    "not-an-image": "a file in the images folder is no photo; it is skipped",
    "not-in-catalogue": "photos on disk that no row names",
    "linked-folder": "a linked folder inside the images folder is not searched",
    "unreadable-folder": "a folder that may not be read is not searched",
    "no-class": "photos beside the class folders have no class; they are skipped",
    "bad-attributes": "an attributes cell is no dict literal; its attributes are unknown on that photo",
    "attribute-does-not-apply": "rows carry an attribute that does not apply to their category; it is left out there",
    "category-without-attributes": "a category that the category-attributes file does not list",
    "value-not-allowed": "a value that the allowed-values file does not list for its attribute",
    "attribute-not-allowed": "an attribute that the allowed-values file does not list",
    "no-attribute": "a column whose values are no attribute's; it is left out",
    "several-values": "cells of an attribute hold several values, and what separates them",
    "one-value": "cells of an attribute look like several values and are kept as one",
    "number-form": "whole numbers of a column of numbers are written with a point, as 1.0; they are read as 1",
    "unknown-cells": "how many photos have no known value for an attribute",
    "empty-key": "an attribute without a single known value; it is left out",
    "many-values": "an attribute has so many values that it looks like an identifier",
    "encoding": "the table is not UTF-8",
    "other-sheets": "a workbook has several sheets; only the first is read",
    "unnamed-column": "a column without a name is left out",
    "mapped": "a value that the mapping file replaces",
    "mapping-unused": "values that the mapping file replaces and no photo has",
    "labels-open": "a file of labels is not all filled in; what is filled in counts",
    "labels-without-photo": "a file of labels names a photo that is not there",
    "labels-new-photo": "photos that only the labels name are rows of the catalogue; the rest of them is unknown",
    "labels-new-value": "the labels have a value that the data do not have; it counts",
    "labels-differ": "the labels of one cell contradict each other",
    "labels-several": "an attribute with one value per photo gets several from the labels",
    "relabelled": "a label of the data is replaced by one from the files of labels",
    "labelled": "photos whose unknown value the files of labels tell",
    "option-ignored": "an option has no effect on this format",
    "kind-of-vectors": "the cache holds several kinds of vectors that fit, and one was taken",
    "pool-outside": "photos of the pool lie outside the images folder; to be fitted on they must be put below it",
    "rejected": "a photo that could not be decoded; the row is dropped",
    "fitted": "a photo that had a part in a model; it is left out of the evaluation of that model",
    "same-content": "several photos have identical bytes; all rows are kept, in one part of the split",
    "content-conflict": "photos with identical bytes have different labels",
    "never-in-train": "a value that no row which fitting may see has",
    "alike-in-test": "an attribute of which all test photos have the same value, so that nothing can be told of it",
    "alike-in-train": "an attribute of which all training photos have the same value, so that nothing is learnt of it",
    "split-taken": "how many photos have the part that a split file gives them, and where the others went",
    "split-row-unused": "rows of a split file whose photo is not in the catalogue",
    "split-content-changed": "photos that a split file names had other bytes when it was made",
    "products-together": "a column or folders that name products were recognised; each stays in one part",
    "products-apart": "several photos per product are likely, and nothing says which",
    "group-crosses-parts": "a given split puts one product into several parts",
    "no-thumbnail": "test photos of which no small picture could be made for the report; they are judged all the same",
}
"""Every kind of finding, with its meaning."""

DROPS = frozenset({"repeated", "missing-photo", "outside-images", "no-name", "rejected"})
"""Kinds of which each finding is one dropped row (a `ragged-row` may be kept)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was dropped or odd.

    Attributes:
        kind: A stable slug, one of KINDS.
        filename: The photo, file or attribute it is about; "" when it is about the whole catalogue.
        detail: What was found and what was done about it.
    """

    kind: str
    filename: str
    detail: str


def count_kinds(findings: Iterable[Finding]) -> dict[str, int]:
    """Findings per kind, in the order of KINDS."""
    counts = Counter(f.kind for f in findings)
    return {kind: counts[kind] for kind in (*KINDS, *(k for k in counts if k not in KINDS)) if counts[kind]}
