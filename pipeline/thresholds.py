"""From probabilities to decided values: the one decision rule, and thresholds tuned on validation rows.

Policies (`POLICIES`):

- `best`: a single-valued key always takes its most probable value (threshold 0); multi-valued ones pass values at 0.5.
- `fixed:T`: every value passes at T, so a single-valued key is unknown when its best value stays below T.
- `global`, `per-key`, `per-label`: the threshold with the highest F1 on known validation cells, pooled over all keys,
  over one key, or for each value alone.

The tuned policies leave a single-valued key at "best value always" unless validation holds photos that are known to
have no value for it; only then can staying silent be right. Candidate thresholds are midpoints between neighbouring
observed scores (at most `MAX_CUTS` of them, evenly spaced in rank); between equal F1 the highest threshold wins, which
predicts least. A value of a multi-valued key whose best F1 is reached by predicting it on every photo carries no
information (Lipton, Elkan and Naryanaswamy 2014) and falls back: value to key, key to 0.5. A value with fewer than
`ENOUGH` positives is shrunk towards its key's threshold in proportion to what is missing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pipeline.catalogue.labels import UNKNOWN, LabelSchema
from pipeline.errors import OptionError
from pipeline.metrics import known_cells

Float = npt.NDArray[np.floating]
Bool = npt.NDArray[np.bool_]

MULTI_DEFAULT = 0.5
ENOUGH = 20
MAX_CUTS = 512


def default_thresholds(schema: LabelSchema) -> npt.NDArray[np.float64]:
    """Thresholds (L,) of the policy `best`: 0 for single-valued keys, 0.5 for multi-valued ones."""
    return _fill(schema, lambda i: 0.0 if schema.single[i] else MULTI_DEFAULT)


def decide(P: Float, schema: LabelSchema, thresholds: npt.ArrayLike) -> Bool:
    """Decisions (n, L) for probabilities P (n, L) and thresholds (L,).

    Per key the candidates are its most probable value (single-valued; the first of equals) or all its values; a
    candidate is decided when P >= its threshold. When UNKNOWN is the key's most probable value, nothing is decided
    for the key. With a gate, keys that do not apply to the decided category are silent; an undecided category, or one
    the gate does not list, silences nothing.
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
        if not values:
            continue
        best = P[:, columns].argmax(axis=1)
        if single:
            D[:, columns] &= np.arange(len(values)) == best[:, None]
        if UNKNOWN in values:
            D[best == values.index(UNKNOWN), columns] = False
            D[:, columns.start + values.index(UNKNOWN)] = False
    return _silence(D, schema)


def tune(P: Float, Y: npt.NDArray[np.uint8], mask: Bool, schema: LabelSchema, policy: str) -> npt.NDArray[np.float64]:
    """Thresholds (L,) of one policy, from validation probabilities, targets and mask, all (n, L).

    Deterministic. Raises OptionError for a policy that does not exist.
    """
    name, fixed = parse_policy(policy)
    if fixed is not None:
        return np.full(schema.size, fixed)
    if name == "best":
        return default_thresholds(schema)
    cells = _Cells(np.asarray(P, np.float32), *known_cells(Y, mask, schema), schema)
    if name == "global":
        several = cells.pooled([i for i, single in enumerate(schema.single) if not single], MULTI_DEFAULT)
        one = cells.pooled([i for i, single in enumerate(schema.single) if single and cells.may_be_empty(i)], 0.0)
        return _fill(schema, lambda i: (one if cells.may_be_empty(i) else 0.0) if schema.single[i] else several)
    thresholds = _fill(schema, cells.key_threshold)
    if name == "per-label":
        for i, columns in enumerate(schema.slices):
            if not schema.single[i] or cells.may_be_empty(i):
                for column in range(columns.start, columns.stop):
                    thresholds[column] = cells.label_threshold(i, column, float(thresholds[column]))
    return thresholds


POLICIES = ("best", "fixed:0.5", "global", "per-key", "per-label")


def parse_policy(policy: str) -> tuple[str, float | None]:
    """(name, fixed threshold or None) of a policy's text; OptionError names the nearest match."""
    name, _, value = policy.partition(":")
    if name == "fixed":
        try:
            fixed = float(value)
        except ValueError:
            fixed = -1.0
        if not 0.0 <= fixed <= 1.0:
            raise OptionError(f"threshold policy {policy!r}: after fixed: comes a number from 0 to 1, as in fixed:0.8")
        return "fixed", fixed
    names = [known.partition(":")[0] for known in POLICIES]
    if policy not in names:
        near = difflib.get_close_matches(policy, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"no threshold policy {policy!r}: there are best, fixed:T, global, per-key, per-label{hint}")
    return name, None


class _Cells:
    """Known validation cells, and the threshold with the highest F1 over some of them."""

    def __init__(self, P: npt.NDArray[np.float32], Y: Bool, mask: Bool, schema: LabelSchema) -> None:
        self.P, self.Y, self.mask, self.schema = P, Y, mask, schema
        self.usable = mask.copy()
        for columns, single in zip(schema.slices, schema.single, strict=True):
            if single and columns.stop > columns.start:
                best = P[:, columns].argmax(axis=1)
                self.usable[:, columns] &= np.arange(columns.stop - columns.start) == best[:, None]

    def may_be_empty(self, key: int) -> bool:
        columns = self.schema.slices[key]
        return bool((self.mask[:, columns].any(axis=1) & ~self.Y[:, columns].any(axis=1)).any())

    def pooled(self, keys: list[int], otherwise: float) -> float:
        columns = np.concatenate([np.r_[self.schema.slices[i]] for i in keys]) if keys else np.zeros(0, np.intp)
        return self._best(columns.astype(np.intp), bool(keys) and self.schema.single[keys[0]], otherwise)

    def key_threshold(self, key: int) -> float:
        if self.schema.single[key]:
            return self.pooled([key], 0.0) if self.may_be_empty(key) else 0.0
        return self.pooled([key], MULTI_DEFAULT)

    def label_threshold(self, key: int, column: int, of_key: float) -> float:
        own = self._best(np.array([column]), self.schema.single[key], of_key)
        trust = min(1.0, float(self.Y[:, column].sum()) / ENOUGH)
        return trust * own + (1.0 - trust) * of_key

    def _best(self, columns: npt.NDArray[np.intp], single: bool, otherwise: float) -> float:
        """The best cut over the cells of these columns; `otherwise` without positives or information."""
        Y = self.Y[:, columns]
        usable = self.usable[:, columns]
        return best_cut(self.P[:, columns][usable], Y[usable], int(Y.sum()), 0.0 if single else otherwise, otherwise)


def best_cut(scores: Float, truth: Bool, positives: int, everything: float, nothing: float) -> float:
    """The threshold with the highest F1 = 2 tp / (predicted + positives) over candidate cells (n,).

    positives : true cells in all, candidates or not.
    everything : returned when predicting every candidate is best; nothing : returned when no candidate is true.
    """
    if not truth.any():
        return nothing
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    hits = np.cumsum(truth[order])
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    if len(ends) > MAX_CUTS:
        ends = ends[np.unique(np.linspace(0, len(ends) - 1, MAX_CUTS).astype(np.intp))]
    f1 = 2.0 * hits[ends] / (ends + 1 + positives)
    end = int(ends[int(f1.argmax())])
    if end == len(ranked) - 1:
        return everything
    return float((ranked[end] + ranked[end + 1]) / 2)


def _silence(D: Bool, schema: LabelSchema) -> Bool:
    if schema.gate is None or schema.category_key not in schema.keys:
        return D
    category = schema.keys.index(schema.category_key)
    applies = np.array(
        [
            [i == category or key in schema.gate.get(value, schema.keys) for i, key in enumerate(schema.keys)]
            for value in schema.values[category]
        ],
        bool,
    )
    decided = D[:, schema.slices[category]]
    audible = decided.astype(np.float32) @ applies.astype(np.float32) > 0
    audible[~decided.any(axis=1)] = True
    for i, columns in enumerate(schema.slices):
        D[~audible[:, i], columns] = False
    return D


def _fill(schema: LabelSchema, threshold: Callable[[int], float]) -> npt.NDArray[np.float64]:
    """Thresholds (L,) from one number per key."""
    out = np.zeros(schema.size)
    for i, columns in enumerate(schema.slices):
        out[columns] = threshold(i)
    return out
