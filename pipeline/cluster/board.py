"""The board of units: which wait, who has which, and what becomes of those that come back without a receipt.

A unit that a worker ended, failed or hung on is done once more; then it is halved, and so are its halves, until a photo
alone is at fault. That one is refused with the reason, and the rest of its unit is kept. All of it is bounded.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipeline.cluster.units import Numbers, Unit
from pipeline.errors import BackboneError

_STRIKES = 2


@dataclass(frozen=True)
class Patience:
    """How long and how often.

    Attributes:
        first: Seconds for a unit while no other has been done.
        least: Seconds for a unit at least.
        times: Else as often the seconds that the slowest unit so far took, by photo.
        start: Seconds for the first worker to have its backbone.
        in_a_row: Units that may fail without one being done in between.
        refused: Photos that may be refused for ending their workers.
    """

    first: float = 3600.0
    least: float = 120.0
    times: float = 5.0
    start: float = 900.0
    in_a_row: int = 20
    refused: int = 32


@dataclass(frozen=True)
class _Out:
    unit: Unit
    worker: int
    since: float


class Board:
    """Units and who has them.

    Args:
        units: All of them.
        numbers: Where halves get their numbers from.
        patience: How long a unit may take, and how much may fail.
    """

    def __init__(self, units: Iterable[Unit], numbers: Numbers, patience: Patience) -> None:
        self.waiting = collections.deque(units)
        self.patience = patience
        self._numbers = numbers
        self._out: dict[int, _Out] = {}
        self._late: dict[int, float] = {}
        self._slowest = 0.0
        self._in_a_row = self._refused = 0

    @property
    def finished(self) -> bool:
        """Whether every photo is either stored or refused."""
        return not self.waiting and not self._out

    def take(self, worker: int, now: float) -> Unit | None:
        """The next unit, given to a worker; None if none waits."""
        if not self.waiting:
            return None
        unit = self.waiting.popleft()
        self._out[unit.number] = _Out(unit, worker, now)
        return unit

    def done(self, number: int, seconds: float) -> Unit | None:
        """A unit is committed, perhaps by a worker from whom it had been taken.

        Args:
            number: The unit's.
            seconds: How long it took.

        Returns:
            The unit; None if another has done it before, or does its halves.
        """
        self._in_a_row = 0
        if out := self._out.pop(number, None):
            unit = out.unit
        elif waiting := [each for each in self.waiting if each.number == number]:
            unit = waiting[0]
            self.waiting.remove(unit)
        else:
            return None
        self._slowest = max(self._slowest, seconds / max(1, len(unit.rows)))
        return unit

    def failed(self, worker: int, number: int, reason: str) -> Unit | None:
        """A worker ended, failed or hung on a unit.

        Returns:
            The unit, if it is one photo that is to be refused; else it waits again, whole or in halves.

        Raises:
            BackboneError: Too much has failed for the photos to be at fault.
        """
        out = self._out.get(number)
        if out is None or out.worker != worker:
            return None  # it was taken from this worker before
        del self._out[number]
        self._in_a_row += 1
        if self._in_a_row >= self.patience.in_a_row:
            raise BackboneError(f"{self._in_a_row} units failed one after the other; the last one's worker: {reason}")
        unit = replace(out.unit, strikes=out.unit.strikes + 1)
        if unit.strikes < _STRIKES:
            self.waiting.append(unit)
        elif len(unit.rows) > 1:
            self.waiting.extendleft(reversed(unit.halves(self._numbers(2))))
        else:
            return self._refuse(unit, reason)
        return None

    def _refuse(self, unit: Unit, reason: str) -> Unit:
        self._refused += 1
        if self._refused > self.patience.refused:
            raise BackboneError(f"{self._refused} photos ended their workers, so it is not the photos; last: {reason}")
        return unit

    def overdue(self, now: float) -> list[tuple[int, int]]:
        """(worker, unit) of those that take too long: such a worker is late until it is back, or given up."""
        late = [out for out in self._out.values() if now - out.since > self._limit(out.unit)]
        for out in late:
            self._late[out.worker] = now + self._limit(out.unit)
        return [(out.worker, out.unit.number) for out in late]

    def back(self, worker: int) -> None:
        """A worker is heard of."""
        self._late.pop(worker, None)

    def given_up(self, now: float) -> list[int]:
        """Workers that were late and have not come back since: each is named once."""
        gone = [worker for worker, until in self._late.items() if now > until]
        for worker in gone:
            del self._late[worker]
        return gone

    def _limit(self, unit: Unit) -> float:
        if not self._slowest:
            return self.patience.first
        return max(self.patience.least, self.patience.times * self._slowest * len(unit.rows))
