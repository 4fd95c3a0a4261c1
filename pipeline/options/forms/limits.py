"""The numbers that options may hold, in one place; every command checks its options here before it does anything.

A limit is where a number stops making sense on any machine, not where it stops being wise. What depends on other
options, on the data or on the machine is for the stage that knows them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

from pipeline.errors import OptionError
from pipeline.options.audit import AuditOptions
from pipeline.options.finetuning import FinetuneOptions

INF = math.inf

LONGEST_NUMBER = 100
"""Characters of the longest number that is read; Python refuses to read some thousands of digits."""


@dataclass(frozen=True)
class Limit:
    """An interval of finite numbers.

    Attributes:
        least: The smallest number.
        most: The largest number; infinity for no limit, which infinity itself is still not within.
        above: The smallest number itself is not allowed.
        below: The largest number itself is not allowed.
        whole: Only whole numbers; what the command line reads as such.
    """

    least: float = 0
    most: float = INF
    above: bool = False
    below: bool = False
    whole: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is within; no number that is not finite is."""
        low = self.least < value if self.above else self.least <= value
        high = value < self.most if self.below else value <= self.most
        # A whole number may be too large to be asked whether it is finite.
        return low and high and (isinstance(value, int) or math.isfinite(value))

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        low = f"above {self.least:g}" if self.above else f"{self.least:g} or more"
        if self.most == INF:
            return f"{kind}, {low}"
        high = f"below {self.most:g}" if self.below else f"at most {self.most:.15g}"
        return f"{kind}, {low} and {high}"


COUNT = Limit(0, whole=True, most=sys.maxsize)
AT_LEAST_ONE = Limit(1, whole=True, most=sys.maxsize)
POSITIVE = Limit(0, above=True)
NOT_NEGATIVE = Limit(0)
SHARE = Limit(0, 1)
RATE = Limit(0, 1, below=True)
SEED = Limit(0, 2**32 - 1, whole=True)

LIMITS: dict[str, Limit] = {
    "at_precision": Limit(0, 1, above=True),
    "batch_size": Limit(1, 2**20, whole=True),
    "bandwidth": POSITIVE,
    "batch_wait_ms": Limit(0, 1_000),
    "betas": RATE,
    "bootstrap": Limit(1, 100_000, whole=True),
    "count": Limit(1, 1_000_000, whole=True),
    "crop": Limit(0, 1, above=True),
    "dropout": RATE,
    "ensemble": COUNT,
    "epochs": Limit(1, 1_000_000, whole=True),
    "ema": RATE,
    "far": POSITIVE,
    "folds": Limit(2, 1_000, whole=True),
    "gallery": COUNT,
    "head_lr": POSITIVE,
    "hflip": SHARE,
    "hidden": Limit(1, 2**20, whole=True),
    "images": Limit(1, 10_000_000, whole=True),
    "input_dropout": RATE,
    "jitter": RATE,
    "label_smoothing": RATE,
    "landmarks": Limit(1, 100_000, whole=True),
    "layer_decay": Limit(0, 1, above=True),
    "logit_adjust": NOT_NEGATIVE,
    "logreg_c": POSITIVE,
    "lr": POSITIVE,
    "max_bytes": Limit(1, 2**32, whole=True),
    "max_labels": AT_LEAST_ONE,
    "max_photos": Limit(1, 10_000, whole=True),
    "max_pixels": AT_LEAST_ONE,
    "memory": Limit(0, 2**20, above=True),
    "min_support": COUNT,
    "mixup": Limit(0, 100),
    "momentum": RATE,
    "near": Limit(0, 1, above=True),
    "near_duplicates": RATE,
    "neighbours": Limit(1, 1_000_000, whole=True),
    "page_mb": Limit(1, 1_000),
    "patience": COUNT,
    "pictures": COUNT,
    "port": Limit(0, 65_535, whole=True),
    "queue": Limit(1, 1_000_000, whole=True),
    "randaugment": Limit(0, 30, whole=True),
    "request_timeout": Limit(0, 3_600, above=True),
    "ridge": POSITIVE,
    "seed": SEED,
    "similar": Limit(0, 100, above=True),
    "size": Limit(32, 2**16, whole=True),
    "split_seed": SEED,
    "start_size": Limit(32, 2**16, whole=True),
    "thumbnails": COUNT,
    "trees": Limit(1, 1_000_000, whole=True),
    "wait": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "workers": Limit(1, 4_096, whole=True),
    "workers_per_node": Limit(1, 1_024, whole=True),
}
"""What the numbers of an option may be, by its name in the dataclasses; each of several values is held against it."""

OWN_LIMITS: dict[tuple[type[Any], str], Limit] = {
    (AuditOptions, "min_support"): Limit(2, sys.maxsize, whole=True),
    (FinetuneOptions, "patience"): AT_LEAST_ONE,
}
"""Limits of an option that means something narrower in one command."""


def check_options(*groups: object) -> None:
    """Hold every number of these option dataclasses against its limit; other objects are passed over.

    Raises:
        OptionError: the first number outside, with the option's name, its value, and what is allowed.
    """
    for group in groups:
        for name, value in _numbers(group):
            limit = limit_of(type(group), name)
            if limit is not None and not limit.holds(value):
                raise OptionError(f"--{name.replace('_', '-')} is {value!r}; expected {limit}")


def check_text(name: str, text: str, hint: object) -> None:
    """Refuse what the parser would silently take for something else: an empty path, half of a whole number.

    Args:
        name: The option's, in its dataclass.
        text: Its value as it was typed, or as a YAML file states it.
        hint: The option's type.

    Raises:
        OptionError: with the option's name, its value, and what is allowed.
    """
    kinds = {hint, *get_args(hint)}
    expected = LIMITS.get(name) or ("a whole number" if int in kinds else "a number")
    option = f"--{name.replace('_', '-')}"
    if Path in kinds and not text:
        raise OptionError(f"{option} is empty; expected the name of a file or folder")
    if {int, float} & kinds and len(text) > LONGEST_NUMBER:
        raise OptionError(f"{option} has {len(text)} characters; expected {expected}")
    if int in kinds and _is_number(text) and not text.strip().lstrip("+-").isdecimal():
        raise OptionError(f"{option} is {text!r}; expected {expected}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def limit_of(kind: type[Any], name: str) -> Limit | None:
    """What the numbers of one field of an option dataclass may be; None for a field that holds none."""
    return OWN_LIMITS.get((kind, name), LIMITS.get(name))


def _numbers(group: object) -> Iterator[tuple[str, float]]:
    """(name, number) of every number in the fields of a dataclass."""
    for field in fields(group) if is_dataclass(group) and not isinstance(group, type) else ():
        value = getattr(group, field.name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, int | float) and not isinstance(each, bool):
                yield field.name, each
