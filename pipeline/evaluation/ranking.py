"""Figures that need a sort: average precision and calibration error."""

from __future__ import annotations

import numpy as np

from pipeline.arrays import Bool, Float, Float64, Int64

BINS = 15
"""Equal-width bins of the calibration error (Guo et al. 2017)."""

CHUNK = 1 << 21


def average_precision(P: Float, true: Bool, mask: Bool) -> Float64:
    """Average precision (L,) of every value, NaN where no known cell is positive; arrays are (n, L).

    AP = sum over distinct scores of (recall_k - recall_{k-1}) * precision_k, highest score first, without
    interpolation; photos with equal scores enter together.
    """
    out = np.full(P.shape[1], np.nan)
    columns = np.flatnonzero((true & mask).any(axis=0))
    step = max(1, CHUNK // max(1, len(P)))
    for start in range(0, len(columns), step):
        some = columns[start : start + step]
        # Values become rows: sorting along contiguous memory is several times faster.
        known = np.ascontiguousarray(mask[:, some].T)
        hits = np.ascontiguousarray(true[:, some].T) & known
        out[some] = _average_precision(np.ascontiguousarray(P[:, some].T), hits, known)
    return out


def _average_precision(P: Float, true: Bool, mask: Bool) -> Float64:
    """Average precision (w,) from arrays (w, n) with a positive in every row."""
    # Unknown cells sink below every probability, where they are neither hits nor ranks.
    order = np.argsort(np.where(mask, -P, np.inf), axis=1)
    scores = np.take_along_axis(P, order, axis=1)
    known = np.take_along_axis(mask, order, axis=1)
    hits = np.cumsum(np.take_along_axis(true, order, axis=1), axis=1)
    ranks = np.cumsum(known, axis=1)
    last = np.ones(P.shape, bool)
    last[:, :-1] = (scores[:, 1:] != scores[:, :-1]) | ~known[:, 1:]
    at_end = np.where(last, hits, 0)
    before = np.zeros_like(at_end)
    before[:, 1:] = np.maximum.accumulate(at_end, axis=1)[:, :-1]
    gained = np.where(last, hits - before, 0)
    result: Float64 = (gained * (hits / np.maximum(ranks, 1))).sum(axis=1) / hits[:, -1]
    return result


def reliability(P: Float, true: Bool, mask: Bool, single: bool) -> tuple[Float, Float, Int64]:
    """(mean confidence, share correct, count) per bin, each (BINS,); NaN where a bin is empty.

    Single-valued attribute: confidence is the highest probability on a photo, correct when that value is true.
    Multi-valued attribute: every known cell, its probability against its truth. Arrays are (n, w).
    """
    if single and P.shape[1]:
        rows = mask.any(axis=1)
        best = np.where(mask, P, -1.0).argmax(axis=1)[rows]
        at = np.flatnonzero(rows)
        confidence, correct = P[at, best], true[at, best]
    else:
        confidence, correct = P[mask], true[mask]
    confidence = confidence.astype(np.float64)
    bins = np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    filled = np.where(count > 0, count, np.nan)
    sums = [np.bincount(bins, weights=part, minlength=BINS) / filled for part in (confidence, correct)]
    return sums[0], sums[1], count


def calibration_error(P: Float, true: Bool, mask: Bool, single: bool) -> float | None:
    """Expected calibration error of one attribute: mean |confidence - share correct| over bins, weighted by count."""
    confidence, correct, count = reliability(P, true, mask, single)
    if not count.sum():
        return None
    return float(np.nansum(np.abs(confidence - correct) * count) / count.sum())
