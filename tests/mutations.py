"""Content of files with one thing wrong in it: for tests that a reader answers with a result or a named error."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 256, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "x", "../../outside/p", "/etc/passwd", "9" * 5000, "1e400", "\ud800", "a\0b", "é" * 300, "#N/A"),
    *([], {}, [[]], [None], ["x"], [1, 2], [[1, 2], [3]], {"": None}, {"x": 1}, {"x": {"y": []}}, {"P": [0.1]}),
)
"""What stands where something else belongs; all of it can be written as JSON."""

ARRAYS: tuple[Any, ...] = (
    *(np.zeros(0), np.zeros((2, 2)), np.full(3, np.nan), np.array(["x"]), np.array([None, {}], object)),
    *(np.float32(0.5), np.array(7), (1, 2), {1: 2}, {"kind": np.zeros(3)}, b"bytes", 1 + 2j, set("ab"), object()),
)
"""What beside that a pickled file may hold."""


def mutated(content: Any, seed: int, extra: tuple[Any, ...] = ()) -> tuple[Any, str]:
    """The content with one thing changed, and where: a value replaced, a field lost or renamed, an entry repeated."""
    rng = random.Random(seed)
    changed = copy.deepcopy(content)
    places = list(_places(changed))
    # As many changes near the top as deep inside, where there are many more places.
    depth = rng.choice(sorted({len(path) for _, _, path in places}))
    holder, name, path = rng.choice([place for place in places if len(place[2]) == depth])
    change = rng.choice(("replace", "replace", "replace", "lose", "rename", "repeat"))
    if change == "lose":
        del holder[name]
    elif change == "rename" and isinstance(holder, dict):
        holder[rng.choice([each for each in STRANGE if isinstance(each, str)])] = holder.pop(name)
    elif change == "repeat" and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[name]))
    else:
        holder[name] = copy.deepcopy(rng.choice((*STRANGE, *extra)))
    return changed, f"{change} {'.'.join(map(str, path))}"


def _places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, Any, tuple[Any, ...]]]:
    """(holder, name, path) of everything inside."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in items:
        yield content, name, (*path, name)
        yield from _places(value, (*path, name))
