"""Messages on standard output, and how far long work is: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm


EVERY = 10
"""Seconds between lines that say how far long work is."""

_of_all: ContextVar[Callable[[float | None], str] | None] = ContextVar("_of_all", default=None)


@contextlib.contextmanager
def step_of(of_all: Callable[[float | None], str]) -> Iterator[None]:
    """While this lasts, progress also says how far the whole is that the work is a step of.

    Args:
        of_all: Takes the share of the step that is done, None where it is not known; gives what to say.
    """
    token = _of_all.set(of_all)
    try:
        yield
    finally:
        _of_all.reset(token)


def _suffix(share: float | None) -> str:
    of_all = _of_all.get()
    return "" if of_all is None else f"; {of_all(share)}"


class News:
    """Prints lines of progress; every ten seconds one of them says how far the whole is."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, text: str) -> None:
        """Print a line."""
        now = time.monotonic()
        due = now - self.last >= EVERY
        self.last = now if due else self.last
        say(f"{text}{_suffix(None)}" if due else text)


def say_all(lines: Iterable[str]) -> None:
    """Print several lines."""
    for line in lines:
        say(line)


def say(text: str) -> None:
    """Print one message to standard output at once."""
    print(text, flush=True)


class Bar:
    """Progress of one job, counted in units; `say` takes a line every ten seconds where there is no terminal.

    Attributes:
        step: Whether the job is all of its command, so that its share is that of the step.
    """

    def __init__(self, what: str, unit: str, say: Callable[[str], None], step: bool = True) -> None:
        self.what, self.unit, self.say, self.step = what, unit, say, step
        self.last_line = time.monotonic()
        self.started, self.first = 0.0, 0
        self.bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def at(self, done: int, total: int) -> None:
        """Say how far the work is."""
        if self.started == 0:
            # Rates start with the first batch: what came before it was loading and compiling.
            self.started, self.first = time.monotonic(), done
        if sys.stderr.isatty():
            if self.bar is None:
                from tqdm import tqdm

                self.bar = tqdm(total=total, desc=self.what, unit=self.unit)
            self.bar.update(done - self.bar.n)
            self.bar.set_postfix_str(self._whole(done, total).removeprefix("; "), refresh=False)
            return
        now = time.monotonic()
        if now - self.last_line >= EVERY and done > self.first:
            self.last_line = now
            rate = (done - self.first) / (now - self.started)
            self.say(
                f"{self.what}: {done}/{total} {self.unit}s, {rate:.1f}/s, {(total - done) / rate:.0f} s left"
                f"{self._whole(done, total)}"
            )

    def _whole(self, done: int, total: int) -> str:
        return _suffix(done / max(total, 1) if self.step else None)
