"""Near-identical spellings among the values of an attribute."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_WORD = re.compile(r"[^\W_]+")
_DIGITS = re.compile(r"\d+")
_CELLS = 1 << 22
_REST = 65.0


@dataclass(frozen=True)
class Suggestion:
    """A spelling that is probably meant. target : that value. likeness : 0 to 100, where 100 differs in form only."""

    target: str
    likeness: float


def folded(text: str) -> str:
    """The text without case, punctuation and Unicode forms: "V-Neck " and "v neck" are one."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORD.findall(plain)) or plain


def suggest_spellings(
    counts: Mapping[str, int], similar: float = 88.0, allowed: Collection[str] = ()
) -> dict[str, Suggestion]:
    """The value that each odd spelling probably stands for; values without one are left out.

    counts : value -> photos.  similar : least likeness.  allowed : values that are right whatever they look like.
    Values are taken from the most frequent down (among equals, the one with more look-alikes first; allowed ones before
    all); each joins the most alike value before it that joined none, or else stands for itself. So a target is never
    itself replaced, and every value is really like its target: likeness does not add up along a chain.
    Likeness is the larger of the normalised indel similarity of the folded texts and of their words in alphabetical
    order (0 to 100). Values whose numbers differ ("2 button", "3 button") are never alike, nor are those whose
    differing words are not: "blue yoga tights" and "red yoga tights" share most letters and mean different things.
    """
    values = list(counts)
    first, second, likeness = alike_pairs(values, similar)
    degree = np.bincount(first, minlength=len(values))
    near: dict[int, list[tuple[float, int]]] = {}
    for i, j, score in zip(first.tolist(), second.tolist(), likeness.tolist(), strict=True):
        near.setdefault(i, []).append((score, j))
    order = sorted(range(len(values)), key=lambda i: (values[i] not in allowed, -counts[values[i]], -degree[i], i))
    rank = {i: place for place, i in enumerate(order)}
    stands: set[int] = set()
    found: dict[str, Suggestion] = {}
    for i in order:
        leaders = [(score, -rank[j], j) for score, j in near.get(i, ()) if j in stands]
        if leaders and values[i] not in allowed:
            score, _, j = max(leaders)
            found[values[i]] = Suggestion(values[j], score)
        else:
            stands.add(i)
    return found


def alike_pairs(
    values: Sequence[str], similar: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Ordered pairs (i, j, likeness), i != j, of values at least this alike (see `suggest_spellings`)."""
    from rapidfuzz import fuzz, process

    plain = [folded(value) for value in values]
    ordered = [" ".join(sorted(text.split())) for text in plain]
    numbers: dict[tuple[str, ...], int] = {}
    kind = np.array([numbers.setdefault(tuple(sorted(_DIGITS.findall(text))), len(numbers)) for text in plain], int)
    found: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]] = []
    step = max(1, _CELLS // max(1, len(values)))
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        scores = np.maximum(
            *(
                process.cdist(texts[rows], texts, scorer=fuzz.ratio, score_cutoff=similar, dtype=np.float32)
                for texts in (plain, ordered)
            )
        )
        scores[kind[rows, None] != kind[None, :]] = 0
        scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = 0
        i, j = np.nonzero(scores)
        found.append((i + start, j, scores[i, j]))
    if not found:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, np.zeros(0, np.float32)
    first, second, likeness = (np.concatenate(parts) for parts in zip(*found, strict=True))
    words = [Counter(text.split()) for text in plain]
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    rests = ((_rest(words[i], words[j]), _rest(words[j], words[i])) for i, j in pairs)
    kept = np.array([a == b or fuzz.ratio(a, b) >= _REST for a, b in rests], np.bool_)
    return first[kept], second[kept], likeness[kept]


def _rest(words: Counter[str], other: Counter[str]) -> str:
    """The words that the other text has not."""
    return " ".join((words - other).elements())
