"""The shapes that content from files must have, so that what is read can be trusted by everything behind its reader.

A shape is a function of a value and the place where it stands (`schema.values[3]`). It returns nothing, or raises
`WrongShape` with the place, what is there and what was expected. A reader states the shape of its file as one table,
checks once, and turns `WrongShape` into its own error with the file's name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.errors import counted

Shape = Callable[[Any, str], None]

_MOST = 2**53
_LONGEST_SHOWN = 60
_WORDS = {dict: "an object", list: "a list", tuple: "a list", str: "a text", bool: "true or false", type(None): "null"}


class WrongShape(ValueError):
    """A value is not what its place requires; the text says where, what it is, and what was expected."""

    @classmethod
    def at(cls, where: str, value: object, expected: str) -> WrongShape:
        """The error for one value."""
        return cls(f"{where or 'the whole'} is {_said(value)}; expected {expected}")


def anything(value: object, where: str) -> None:
    """Whatever it is: nothing relies on it."""


def text(value: object, where: str) -> None:
    """A text that can be written as UTF-8."""
    if not isinstance(value, str):
        raise WrongShape.at(where, value, "a text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise WrongShape.at(where, ascii(value), "a text that is valid Unicode") from None


def flag(value: object, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise WrongShape.at(where, value, "true or false")


def whole(least: int = 0, most: int = _MOST) -> Shape:
    """A whole number from `least` to `most`."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise WrongShape.at(where, value, f"a whole number, {least} or more")

    return check


def number(least: float = -math.inf, most: float = math.inf, nan: bool = False) -> Shape:
    """A finite number from `least` to `most`; with `nan`, also the one that says "none could be measured"."""

    def check(value: object, where: str) -> None:
        real = isinstance(value, int | float) and not isinstance(value, bool)
        if real and nan and value != value:
            return
        if not real or abs(value) > 1e300 or not least <= value <= most:  # type: ignore[arg-type, operator]
            span = "" if math.isinf(least) or math.isinf(most) else f" from {least:g} to {most:g}"
            raise WrongShape.at(where, value, f"a finite number{span}")

    return check


def one_of(*words: str) -> Shape:
    """One of these texts."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, str) or value not in words:
            raise WrongShape.at(where, value, f"one of {', '.join(words)}")

    return check


def optional(shape: Shape) -> Shape:
    """That shape, or null."""

    def check(value: object, where: str) -> None:
        if value is not None:
            shape(value, where)

    return check


def either(*shapes: Shape) -> Shape:
    """One of these shapes; the last one's error is told."""

    def check(value: object, where: str) -> None:
        for shape in shapes[:-1]:
            try:
                return shape(value, where)
            except WrongShape:
                continue
        return shapes[-1](value, where)

    return check


def sequence(shape: Shape, least: int = 0, most: int | None = None) -> Shape:
    """A list of values of one shape, `least` or more of them, and at most `most`."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, list | tuple):
            raise WrongShape.at(where, value, "a list")
        if len(value) < least or (most is not None and len(value) > most):
            count = f"{least}" if most == least else f"{least} or more" if most is None else f"{least} to {most}"
            raise WrongShape(f"{where} has {counted(len(value), 'entry', 'entries')}; expected {count}")
        for i, each in enumerate(value):
            shape(each, f"{where}[{i}]")

    return check


def mapping(shape: Shape, least: int = 0) -> Shape:
    """An object with texts for names, `least` or more of them, and values of one shape."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise WrongShape.at(where, value, "an object")
        if len(value) < least:
            raise WrongShape(
                f"{where or 'the whole'} has {counted(len(value), 'entry', 'entries')}; expected {least} or more"
            )
        for name, each in value.items():
            text(name, f"a name in {where or 'the whole'}")
            shape(each, f"{where}.{name}" if where else name)

    return check


def record(needed: Mapping[str, Shape], extra: Mapping[str, Shape] | None = None) -> Shape:
    """An object with the fields `needed`, perhaps those of `extra`, and perhaps others that nothing relies on."""

    def check(value: object, where: str) -> None:
        mapping(anything)(value, where)
        fields: Mapping[str, Any] = value  # type: ignore[assignment]  # `mapping` has seen to it
        for name, shape in {**needed, **(extra or {})}.items():
            place = f"{where}.{name}" if where else name
            if name in fields:
                shape(fields[name], place)
            elif name in needed:
                raise WrongShape(f"{place} is not there; the file is not whole")

    return check


def _said(value: object) -> str:
    """A value in the words of an error: short, and never its whole content."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        # A whole number of thousands of digits cannot be written.
        return repr(value) if isinstance(value, float) or abs(value) < 10**20 else "a number of more than 20 digits"
    if isinstance(value, str):
        return repr(value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "...")
    return _WORDS.get(type(value), f"a {type(value).__name__}")
