"""Messages on standard output."""

from __future__ import annotations

from collections.abc import Iterable


def say_all(lines: Iterable[str]) -> None:
    """Print several lines."""
    for line in lines:
        say(line)


def say(text: str) -> None:
    """Print one message to standard output at once."""
    print(text, flush=True)
