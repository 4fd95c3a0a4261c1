"""Near-identical spellings among the values of an attribute."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Float32, Int64

_WORD = re.compile(r"[^\W_]+")
_DIGITS = re.compile(r"\d+")
_CELLS = 1 << 22
_ROWS = 512
_REST = 65.0

MOST_PAIRS = 2_000_000_000
"""Pairs of values that are compared at most: about a minute's work. 60,000 values of words, or any number of codes."""


class TooManyValues(ValueError):
    """More values look comparable than can be compared; the first argument is how many values there are."""


@dataclass(frozen=True)
class Suggestion:
    """A spelling that is probably meant.

    Attributes:
        target: That value.
        similarity: 0 to 100, where 100 differs in form only.
    """

    target: str
    similarity: float


def folded(text: str) -> str:
    """The text without case, punctuation and Unicode forms: "V-Neck " and "v neck" are one."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORD.findall(plain)) or plain


def suggest_spellings(
    counts: Mapping[str, int], similar: float = 88.0, allowed: Collection[str] = ()
) -> dict[str, Suggestion]:
    """The value that each odd spelling probably stands for; values without one are left out.

    Args:
        counts: Value -> photos.
        similar: Least similarity.
        allowed: Values that are right whatever they look like. Values are taken from the most frequent down (among
            equals, the one with more look-alikes first; allowed ones before all); each joins the most alike value
            before it that joined none, or else stands for itself. So a target is never itself replaced, and every value
            is really like its target: similarity does not add up along a chain. Similarity is the larger of the
            normalised indel similarity of the folded texts and of their words in alphabetical order (0 to 100). Values
            whose numbers differ ("2 button", "3 button") are never alike, nor are those whose differing words are not:
            "blue yoga tights" and "red yoga tights" share most letters and mean different things.

    Raises:
        TooManyValues: Rather than run for hours.
    """
    values = list(counts)
    first, second, similarity = alike_pairs(values, similar)
    degree = np.bincount(first, minlength=len(values))
    near: dict[int, list[tuple[float, int]]] = {}
    for i, j, score in zip(first.tolist(), second.tolist(), similarity.tolist(), strict=True):
        near.setdefault(i, []).append((score, j))
    order = sorted(range(len(values)), key=lambda i: (values[i] not in allowed, -counts[values[i]], -degree[i], i))
    rank = {i: place for place, i in enumerate(order)}
    stands: set[int] = set()
    suggestions: dict[str, Suggestion] = {}
    for i in order:
        leaders = [(score, -rank[j], j) for score, j in near.get(i, ()) if j in stands]
        if leaders and values[i] not in allowed:
            score, _, j = max(leaders)
            suggestions[values[i]] = Suggestion(values[j], score)
        else:
            stands.add(i)
    return suggestions


def alike_pairs(values: Sequence[str], similar: float) -> tuple[Int64, Int64, Float32]:
    """Ordered pairs (i, j, similarity), i != j, of values at least this alike (see `suggest_spellings`)."""
    from rapidfuzz import fuzz, process

    plain = [folded(value) for value in values]
    ordered = [" ".join(sorted(text.split())) for text in plain]
    blocks: list[tuple[Int64, Int64, Float32]] = []
    for rows, columns in _blocks(plain, ordered, similar):
        scores = np.maximum(
            *(
                process.cdist(
                    [texts[i] for i in rows],
                    [texts[j] for j in columns],
                    scorer=fuzz.ratio,
                    score_cutoff=similar,
                    dtype=np.float32,
                )
                for texts in (plain, ordered)
            )
        )
        # A block's columns begin with its rows, and each pair is asked for once.
        scores[np.tril_indices(len(rows), m=len(columns))] = 0
        i, j = np.nonzero(scores)
        blocks += [(rows[i], columns[j], scores[i, j]), (columns[j], rows[i], scores[i, j])]
    if not blocks:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, np.zeros(0, np.float32)
    first, second, similarity = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    order = np.lexsort((second, first))
    first, second, similarity = first[order], second[order], similarity[order]
    words = [Counter(text.split()) for text in plain]
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    rests = ((_rest(words[i], words[j]), _rest(words[j], words[i])) for i, j in pairs)
    kept = np.array([a == b or fuzz.ratio(a, b) >= _REST for a, b in rests], np.bool_)
    return first[kept], second[kept], similarity[kept]


def _blocks(plain: Sequence[str], ordered: Sequence[str], similar: float) -> list[tuple[Int64, Int64]]:
    """Rows and columns of values that may be alike, each pair once: (rows (r,), columns (c >= r,)), both positions.

    Only values with the same numbers in them are compared, and of those the ones whose lengths are near enough: what
    one text has more than the other counts against them whatever it is.

    Raises:
        TooManyValues: more pairs than `MOST_PAIRS` are left.
    """
    numbers: dict[tuple[str, ...], list[int]] = {}
    for i, text in enumerate(plain):
        numbers.setdefault(tuple(sorted(_DIGITS.findall(text))), []).append(i)
    lengths = np.array([len(text) for text in plain], np.int64)
    slack = 1 + max((len(text) - len(other) for text, other in zip(plain, ordered, strict=True)), default=0)
    blocks, pairs = [], 0
    for alike in numbers.values():
        at = np.array(alike, np.int64)
        at = at[np.argsort(lengths[at], kind="stable")]
        longest = np.searchsorted(lengths[at], lengths[at] * (200 - similar) / similar + slack, side="right")
        start = 0
        while start < len(at):
            stop = start + max(1, min(_ROWS, _CELLS // int(longest[min(start + _ROWS, len(at)) - 1] - start)))
            stop = min(stop, len(at))
            blocks.append((at[start:stop], at[start : longest[stop - 1]]))
            pairs += len(blocks[-1][0]) * len(blocks[-1][1])
            if pairs > MOST_PAIRS:
                raise TooManyValues(len(plain))
            start = stop
    return blocks


def _rest(words: Counter[str], other: Counter[str]) -> str:
    """The words that the other text has not."""
    return " ".join((words - other).elements())
