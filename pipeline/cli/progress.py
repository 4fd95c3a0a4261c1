"""How far long work is: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm


class Bar:
    """Progress of one job, counted in units; `say` takes a line every ten seconds where there is no terminal."""

    def __init__(self, what: str, unit: str, say: Callable[[str], None]) -> None:
        self.what, self.unit, self.say = what, unit, say
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
            return
        now = time.monotonic()
        if now - self.last_line >= 10 and done > self.first:
            self.last_line = now
            rate = (done - self.first) / (now - self.started)
            self.say(f"{self.what}: {done}/{total} {self.unit}s, {rate:.1f}/s, {(total - done) / rate:.0f} s left")
