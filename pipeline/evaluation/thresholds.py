"""From probabilities to decided values: the one decision rule, and thresholds tuned on validation rows.

Policies (`parse_policy`):

- `best`: a single-valued attribute always takes its most probable value (threshold 0); multi-valued ones pass values at
  0.5.
- `fixed:T`: every value passes at T, so a single-valued attribute is unknown when its best value stays below T.
- `global`, `per-key`, `per-label`: the threshold with the highest F1 on known validation cells, pooled over all
  attributes, over one attribute, or for each value alone; the exact optimum (`threshold_search`), the highest threshold
  of equals.
- `precision:P`: per attribute the lowest threshold at which the share of right ones among the decided values reaches P
  on validation. An attribute that reaches it nowhere, or of which nothing is known, stays silent: no threshold keeps
  the promise.
- `count`: per attribute the threshold at which as many values are decided on validation as are true.

Only cells that can be decided at all take part: the most probable value of a single-valued attribute, no attribute that
the gate silences. `global`, `per-key` and `per-label` leave a single-valued attribute at "best value always" unless
validation holds photos that are known to have no value for it; only then can staying silent be right. A value of a
multi-valued attribute whose best F1 is reached by predicting it on every photo carries no information (Lipton, Elkan
and Naryanaswamy 2014) and falls back: value to attribute, attribute to 0.5.

Rare values: a threshold tuned for F1 on few positives follows their luck (Lin and Lin 2023, 10.1145/3583780.3614996,
explain why, and smooth the F-measure or add the pooled one against it). Here the tuned threshold itself is shrunk: with
m positives, the log-odds of the threshold are the mean of the value's own (weight m) and its attribute's (weight
`PRIOR`). In simulation (tests/test_thresholds.py) new data are served no worse than by one threshold, and better than
without shrinkage unless the scores of the values are badly out of scale with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Bool, Float, Float32, Float64, UInt8
from pipeline.catalogue.labels import UNKNOWN, LabelSchema
from pipeline.errors import OptionError, nearest
from pipeline.evaluation.metrics import TINY, known_cells
from pipeline.evaluation.threshold_search import NEVER, Codes, best_f1_cut, count_cut, pack, precision_cut
from pipeline.machine import cores

MULTI_DEFAULT = 0.5
PRIOR = 10
"""Positives that an attribute's threshold counts for when a value's own is shrunk towards it."""

AT_ONCE, BLOCK = 64, 1024
"""Columns, and photos, whose cells are turned and packed at a time."""


def default_thresholds(schema: LabelSchema) -> Float64:
    """Thresholds (L,) of the policy `best`: 0 for single-valued attributes, 0.5 for multi-valued ones."""
    return _fill(schema, lambda i: 0.0 if schema.single[i] else MULTI_DEFAULT)


def decide(P: Float, schema: LabelSchema, thresholds: npt.ArrayLike) -> Bool:
    """Decisions (n, L) for probabilities P (n, L) and thresholds (L,).

    Per attribute the candidates are its most probable value (single-valued; the first of equals) or all its values; a
    candidate is decided when P >= its threshold. When UNKNOWN is the attribute's most probable value, nothing is
    decided for the attribute. With a gate, attributes that do not apply to the decided category are silent; an
    undecided category, or one the gate does not list, silences nothing.
    """
    P = np.asarray(P, np.float32)
    limits = np.asarray(thresholds, np.float64)
    if P.ndim != 2 or P.shape[1] != schema.size or limits.shape != (schema.size,):
        raise OptionError(
            f"decide needs probabilities (n, {schema.size}) and thresholds ({schema.size},),"
            f" found {P.shape} and {limits.shape}"
        )
    D = np.greater_equal(P, limits)
    for columns, values, single in zip(schema.slices, schema.values, schema.single, strict=True):
        if not values or not (single or UNKNOWN in values):
            continue
        best = P[:, columns].argmax(axis=1)
        if single:
            D[:, columns] &= np.arange(len(values)) == best[:, None]
        if UNKNOWN in values:
            D[best == values.index(UNKNOWN), columns] = False
            D[:, columns.start + values.index(UNKNOWN)] = False
    return _apply_gate(D, schema)


def tune(P: Float, Y: UInt8, mask: Bool, schema: LabelSchema, policy: str) -> Float64:
    """Thresholds (L,) of one policy, from validation probabilities, targets and mask, all (n, L).

    Deterministic.

    Raises:
        OptionError: For a policy that does not exist.
    """
    name, number = parse_policy(policy)
    if name == "fixed":
        return np.full(schema.size, number)
    if name == "best":
        return default_thresholds(schema)
    cells = _Cells(np.asarray(P, np.float32), *known_cells(Y, mask, schema), schema)
    if name == "precision":
        return _fill(schema, lambda i: precision_cut(cells.of_attribute(i), number or 0.0) if cells.known(i) else NEVER)
    if name == "count":
        return _fill(schema, cells.attribute_count)
    if name == "global":
        several = cells.pooled([i for i, single in enumerate(schema.single) if not single], MULTI_DEFAULT)
        one = cells.pooled([i for i, single in enumerate(schema.single) if single and cells.may_be_empty(i)], 0.0)
        return _fill(schema, lambda i: (one if cells.may_be_empty(i) else 0.0) if schema.single[i] else several)
    if name == "per-key":
        return _fill(schema, cells.attribute_threshold)
    return np.concatenate([*(cells.label_thresholds(i) for i in range(len(schema.attributes))), np.zeros(0)])


POLICIES = ("best", "fixed:0.5", "global", "per-key", "per-label")
"""The policies that `--threshold auto` chooses from."""

EXTRA = ("count",)
"""Stored beside them for every configuration, never chosen by auto: they serve other ends than the validation score."""

_NUMBERED = {"fixed": "fixed:0.8", "precision": "precision:0.9"}


def full_name(policy: str) -> str:
    """A policy's text as run folders and models have it: fixed:0.5 for 0.5, any other as it is."""
    try:
        float(policy)
    except ValueError:
        return policy
    return f"fixed:{policy.strip()}"


def without_rows_to_tune_on(policy: str, schema: LabelSchema) -> Float64:
    """Thresholds (L,) of a policy that needs no labelled photos: best, or fixed:0.5 and the like.

    Raises:
        OptionError: There is no such policy, or it is one that validation photos tune.
    """
    if policy != "auto" and not is_tuned(policy):
        name, number = parse_policy(policy)
        return default_thresholds(schema) if name == "best" else np.full(schema.size, number)
    raise OptionError(
        f"--threshold is {policy!r}, which needs labelled photos to tune by: fit-heads --threshold {policy} puts it"
        " into the model. Here it can be best, or fixed:0.5 (in short 0.5) and the like for all values"
    )


def parse_policy(policy: str) -> tuple[str, float | None]:
    """(name, its number or None) of a policy's text, where 0.5 is short for fixed:0.5.

    Raises:
        OptionError: No policy is meant; it names the nearest match.
    """
    policy = full_name(policy)
    name, _, value = policy.partition(":")
    if name in _NUMBERED:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0.0 <= number <= 1.0:
            raise OptionError(
                f"threshold policy {policy!r}: after {name}: comes a number from 0 to 1, as in {_NUMBERED[name]}"
            )
        return name, number
    names = ["best", *_NUMBERED, "global", "per-key", "per-label", *EXTRA]
    if policy not in names:
        near = nearest(policy, names)
        hint = f"; did you mean {near!r}?" if near else ""
        raise OptionError(
            f"no threshold policy {policy!r}: there are best, fixed:T, global, per-key, per-label, precision:P,"
            f" count{hint}"
        )
    return name, None


def is_tuned(policy: str) -> bool:
    """Whether a policy's thresholds depend on the rows they are tuned on."""
    return parse_policy(policy)[0] not in ("best", "fixed")


class _Cells:
    """Validation cells that are known and can be decided, and the thresholds they ask for."""

    def __init__(self, P: Float32, Y: Bool, mask: Bool, schema: LabelSchema) -> None:
        self.P, self.Y, self.mask, self.schema = P, Y, mask, schema
        self.usable = decide(P, schema, np.zeros(schema.size)) & mask

    def known(self, attribute: int) -> bool:
        return bool(self.mask[:, self.schema.slices[attribute]].any())

    def may_be_empty(self, attribute: int) -> bool:
        columns = self.schema.slices[attribute]
        return bool((self.mask[:, columns].any(axis=1) & ~self.Y[:, columns].any(axis=1)).any())

    def of_attribute(self, attribute: int) -> Codes:
        return np.concatenate([*(codes.ravel() for codes in self._codes([attribute])), np.zeros(0, np.uint32)])

    def attribute_count(self, attribute: int) -> float:
        """The threshold at which an attribute decides as many values as are true; the default when nothing is known."""
        if not self.known(attribute):
            return 0.0 if self.schema.single[attribute] else MULTI_DEFAULT
        return count_cut(self.of_attribute(attribute), int(self.Y[:, self.schema.slices[attribute]].sum()))

    def pooled(self, attributes: Sequence[int], otherwise: float) -> float:
        """The threshold with the highest F1 over all cells of these attributes, all single- or all multi-valued."""
        return self._pooled(self._ranked(attributes), attributes, otherwise)

    def _pooled(self, parts: Sequence[Codes], attributes: Sequence[int], otherwise: float) -> float:
        positives = sum(int(self.Y[:, self.schema.slices[i]].sum()) for i in attributes)
        everything = 0.0 if attributes and self.schema.single[attributes[0]] else otherwise
        return self._best(parts, positives, everything, otherwise)

    def attribute_threshold(self, attribute: int) -> float:
        if self.schema.single[attribute]:
            return self.pooled([attribute], 0.0) if self.may_be_empty(attribute) else 0.0
        return self.pooled([attribute], MULTI_DEFAULT)

    def label_thresholds(self, attribute: int) -> Float64:
        """(values of the attribute,): each value's own threshold, shrunk towards the attribute's."""
        columns, single = self.schema.slices[attribute], self.schema.single[attribute]
        if single and not self.may_be_empty(attribute):
            return np.zeros(columns.stop - columns.start)
        parts = self._ranked([attribute])
        of_attribute = self._pooled(parts, [attribute], 0.0 if single else MULTI_DEFAULT)
        limits = np.full(len(parts), of_attribute)
        positives = self.Y[:, columns].sum(axis=0)
        for j, codes in enumerate(parts):
            if positives[j]:
                own = self._best([codes], int(positives[j]), 0.0 if single else of_attribute, of_attribute)
                limits[j] = _shrunk(own, of_attribute, int(positives[j]))
        return limits

    def _ranked(self, attributes: Sequence[int]) -> list[Codes]:
        """The cells of each column of these attributes, packed and sorted."""
        with ThreadPoolExecutor(cores()) as pool:  # turning and sorting let other threads run
            return [row for rows in pool.map(np.sort, self._codes(attributes)) for row in rows]

    def _codes(self, attributes: Sequence[int]) -> Iterator[Codes]:
        """Packed cells (columns, n) of these attributes, a few columns at a time."""
        for attribute in attributes:
            columns = self.schema.slices[attribute]
            for start in range(columns.start, columns.stop, AT_ONCE):
                some = slice(start, min(start + AT_ONCE, columns.stop))
                yield pack(*(_as_rows(cells[:, some]) for cells in (self.P, self.Y, self.usable)))

    @staticmethod
    def _best(parts: Sequence[Codes], positives: int, everything: float, nothing: float) -> float:
        """The best cut; `everything` when that decides every cell, `nothing` when no cell is true."""
        cut = best_f1_cut(parts, positives) if parts else None
        return nothing if cut is None else (cut or everything)


def _as_rows(columns: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Columns (n, w) as contiguous rows (w, n)."""
    rows = np.empty(columns.shape[::-1], columns.dtype)
    # A block of photos at a time stays in the processor's cache while it is turned.
    for start in range(0, len(columns), BLOCK):
        rows[:, start : start + BLOCK] = columns[start : start + BLOCK].T
    return rows


def _shrunk(own: float, of_attribute: float, positives: int) -> float:
    """The threshold between a value's and its attribute's, in log-odds, with `PRIOR` positives on the latter's side."""
    if own == of_attribute:
        return own
    odds = [np.log(p / (1.0 - p)) for p in np.clip([own, of_attribute], TINY, 1.0 - TINY)]
    mean = (positives * odds[0] + PRIOR * odds[1]) / (positives + PRIOR)
    return float(1.0 / (1.0 + np.exp(-mean)))


def _apply_gate(D: Bool, schema: LabelSchema) -> Bool:
    if schema.gate is None or schema.category_attribute not in schema.attributes:
        return D
    category = schema.attributes.index(schema.category_attribute)
    applies = np.array(
        [
            [
                i == category or attribute in schema.gate.get(value, schema.attributes)
                for i, attribute in enumerate(schema.attributes)
            ]
            for value in schema.values[category]
        ],
        bool,
    )
    decided = D[:, schema.slices[category]]
    gate_mask = decided.astype(np.float32) @ applies.astype(np.float32) > 0
    gate_mask[~decided.any(axis=1)] = True
    for i, columns in enumerate(schema.slices):
        D[~gate_mask[:, i], columns] = False
    return D


def _fill(schema: LabelSchema, threshold: Callable[[int], float]) -> Float64:
    """Thresholds (L,) from one number per attribute."""
    out = np.zeros(schema.size)
    for i, columns in enumerate(schema.slices):
        out[columns] = threshold(i)
    return out
