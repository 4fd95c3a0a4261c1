"""How far a training is over all of its steps, by what each of them was expected to take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


def in_words(seconds: float) -> str:
    """A time as people say it: 8 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class StepTime:
    """One step: what it was expected to take and what it took, in seconds; None until it has ended."""

    name: str
    expected: float
    took: float | None = None


@dataclass
class Whole:
    """The steps of a training in their order.

    Attributes:
        clock: Gives seconds.
        before: Seconds that went by before the first step: reading, measuring.
    """

    steps: list[StepTime]
    clock: Callable[[], float] = time.monotonic
    before: float = 0.0
    _at: int = field(default=-1, init=False)
    _began: float = field(default=0.0, init=False)

    def begin(self) -> str:
        """The next step begins; says which, and what is left."""
        self._at, self._began = self._at + 1, self.clock()
        return f"step {self._at + 1} of {len(self.steps)}, {self.steps[self._at].name}: {self.said(0.0)}"

    def end(self) -> None:
        """The step has ended."""
        self.steps[self._at].took = self.clock() - self._began

    def said(self, share: float | None) -> str:
        """How much of the whole is done, and about how long the rest takes.

        Args:
            share: Of the step that runs; None where only the clock tells.
        """
        current, gone = self.steps[self._at], self.clock() - self._began
        rest = gone * (1 - share) / share if share else max(current.expected - gone, 0.0)
        left = rest + sum(step.expected for step in self.steps[self._at + 1 :])
        spent = self.before + gone + sum(step.took or 0.0 for step in self.steps[: self._at])
        return f"{spent / max(spent + left, 1e-9):.0%} of all, about {in_words(left)} left"

    @property
    def expected(self) -> float:
        """Seconds expected of all steps."""
        return sum(step.expected for step in self.steps)

    @property
    def took(self) -> float:
        """Seconds that the finished steps took."""
        return sum(step.took or 0.0 for step in self.steps)
