"""The engine whose workers are a cluster's: units to workers, receipts from them, until nothing is left to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from cache import Writer
from pipeline.arrays import Int64
from pipeline.cluster.board import Board, Patience
from pipeline.cluster.crew import RayCrew, require_ray
from pipeline.cluster.messages import Event, Lost, Order, Receipt, Setup, Started, Trouble
from pipeline.cluster.units import Unit, cut, unit_photos
from pipeline.errors import BackboneError, counted
from pipeline.features.batch import Contents
from pipeline.features.contents.ids import content_ids
from pipeline.features.engines.engine import Done, Facts, Refused, Work
from pipeline.options import BackboneOptions, EngineOptions
from pipeline.remote import RemotePhoto

_NONE = np.empty(0, np.int64)
_TURN = 1.0  # seconds between two looks at the clock
_LOOK = 30.0  # seconds between two looks at the machines


class Crew(Protocol):
    """Workers, wherever they are."""

    @property
    def size(self) -> int:
        """How many there are, started or about to."""

    @property
    def machines(self) -> int:
        """How many machines they are on."""

    @property
    def idle(self) -> Sequence[int]:
        """Those that have their backbone and nothing to do."""

    def look_round(self) -> None:
        """Replace those that ended."""

    def give(self, worker: int, order: Order) -> None:
        """Have an idle worker do an order."""

    def give_up(self, worker: int, reason: str) -> Event:
        """End a worker that does not come back."""

    def events(self, seconds: float) -> Sequence[Event]:
        """What has happened; at the latest after so many seconds, when that may be nothing."""


MakeCrew = Callable[[Setup], AbstractContextManager[Crew]]


@dataclass
class _Job:
    """One computation under way."""

    work: Work
    crew: Crew
    board: Board
    began: float
    looked: float
    started: int = 0
    ended_at_start: int = 0
    runtimes: dict[str, None] = field(default_factory=dict)


class ClusterEngine:
    """Has a crew compute what is lacking.

    Args:
        make_crew: Gathers the workers once it is known what they need to be told.
        patience: How long a unit may take, and how much may fail.
        clock: Seconds from any moment on.
    """

    def __init__(
        self, make_crew: MakeCrew, patience: Patience | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.facts = Facts(seconds={"runtime": 0.0})
        self._make_crew = make_crew
        self._patience = patience or Patience()
        self._clock = clock

    def compute(self, work: Work, writer: Writer) -> Generator[Done, None, None]:
        """Compute and store it all, unit by unit; `writer` holds the key for the workers, which write by themselves.

        Raises:
            BackboneError: No worker can start, or so much fails that the photos cannot be at fault.
            CacheError: A worker cannot write.
            RemoteError: The bucket or host of photos cannot be used.
        """
        if not work.jobs:
            return
        began = self._clock()
        with self._make_crew(_setup(work, writer)) as crew:
            units = cut(work.jobs, unit_photos(work.photos, crew.size), writer.numbers)
            # Machines of one cluster may go all at once.
            patience = replace(self._patience, in_a_row=self._patience.in_a_row + 2 * crew.size)
            job = _Job(work, crew, Board(units, writer.numbers, patience), began, began)
            while not job.board.finished:
                self._look_round(job)
                self._give_out(job)
                for event in [*crew.events(_TURN), *self._late(job)]:
                    yield from self._settle(job, event)
            self._account(job)
            ended = self._clock()
        self.facts.seconds["stop"] = self._clock() - ended

    def _look_round(self, job: _Job) -> None:
        """Take in machines that joined."""
        if self._clock() - job.looked > _LOOK:
            job.looked = self._clock()
            job.crew.look_round()

    def _give_out(self, job: _Job) -> None:
        now = self._clock()
        for worker in job.crew.idle:
            unit = job.board.take(worker, now)
            if unit is None:
                return
            job.crew.give(worker, _order(job.work, unit))

    def _late(self, job: _Job) -> Iterator[Event]:
        """Take units from workers that are late, and give up those that stay away."""
        now = self._clock()
        if not job.started and now - job.began > self._patience.start:
            raise BackboneError(
                f"no worker had its backbone within {self._patience.start:.0f} s; `ray status` says if there is room"
            )
        for worker, number in job.board.overdue(now):
            yield Event(worker, number, Lost("it took too long"))
        for worker in job.board.given_up(now):
            yield job.crew.give_up(worker, "it did not come back")

    def _settle(self, job: _Job, event: Event) -> Iterator[Done]:
        result = event.result
        if isinstance(result, Trouble):
            raise result.error()
        if isinstance(result, Started):
            self._welcome(job, result)
        elif isinstance(result, Receipt):
            job.board.back(event.worker)
            yield from self._book(job, result)
        elif event.number is None:
            self._mourn(job, result)
        elif (unit := job.board.failed(event.worker, event.number, result.reason)) is not None:
            yield _refusal(job.work, unit, result.reason)
        if isinstance(result, Lost):
            job.crew.look_round()

    def _welcome(self, job: _Job, started: Started) -> None:
        if not job.started:
            self.facts.seconds["runtime"] = self._clock() - job.began
        job.started += 1
        job.ended_at_start = 0
        job.runtimes[started.runtime] = None
        self.facts.note(started.note)

    def _mourn(self, job: _Job, lost: Lost) -> None:
        job.ended_at_start += 1
        if job.ended_at_start > 2 + job.crew.size:
            raise BackboneError(f"workers end before they have their backbone; the last one: {lost.reason}")

    def _book(self, job: _Job, receipt: Receipt) -> Iterator[Done]:
        unit = job.board.done(receipt.number, receipt.seconds["wall"])
        if unit is None:
            return
        for name, seconds in receipt.seconds.items():
            if name != "wall" and (seconds or name != "colour"):
                self.facts.add(name, seconds)
        refused = [replace(bad, row=int(unit.rows[bad.row])) for bad in receipt.refused]
        met = receipt.contents
        read = None if met is None else Contents(unit.rows[met.rows], met.ids)
        yield Done(unit.rows[receipt.stored], refused, len(unit.rows), read)

    def _account(self, job: _Job) -> None:
        where = f"{counted(job.crew.size, 'worker')} on {counted(job.crew.machines, 'machine')}"
        self.facts.runtime = f"{where}: {'; '.join(job.runtimes)}"


def ray_engine(options: EngineOptions) -> ClusterEngine:
    """The engine on Ray.

    Raises:
        OptionError: Ray is not installed; or, when the work begins, the cluster cannot be joined.
    """
    require_ray()
    return ClusterEngine(lambda setup: RayCrew(setup, options))


def _setup(work: Work, writer: Writer) -> Setup:
    cache = work.options.cache.absolute()
    options = replace(work.options, cache=cache)
    first = work.jobs[0]
    rejected = next((job.fresh.rejected for job in work.jobs if job.fresh is not None), {})
    return Setup(_portable(work.asked), options, writer.committer(), work.columns, first.blocks, first.views, rejected)


def _portable(asked: BackboneOptions) -> BackboneOptions:
    """The backbone as other processes find it: a weights file by its absolute path."""
    weights = Path(asked.weights)
    return replace(asked, weights=str(weights.absolute())) if weights.is_file() else asked


def _order(work: Work, unit: Unit) -> Order:
    return Order(unit.number, tuple(_absolute(work, unit.rows)), unit.blocks, unit.views, unit.fresh)


def _absolute(work: Work, rows: Int64) -> Iterator[str | RemotePhoto]:
    here = Path.cwd()
    for row in rows.tolist():
        photo = work.paths[row]
        # `here /` leaves an absolute path alone; `..` stays, because behind a symlink it is not what its text says.
        yield photo if isinstance(photo, RemotePhoto) else os.fspath(here / photo)


def _refusal(work: Work, unit: Unit, reason: str) -> Done:
    (row,) = unit.rows.tolist()
    text = f"every worker that was given it ended, failed or hung ({reason}); --rehash tries it again"
    if not unit.fresh:
        return Done(_NONE, [Refused(row, bytes(work.ids[row]), text, True)], 1)
    # Nobody came back with its content, without which it would be given out by every run.
    ids, problems = content_ids(None, [work.paths[row]])
    refused = Refused(row, bytes(ids[0]), problems.get(0, text), not problems, bool(problems))
    return Done(_NONE, [refused], 1, Contents(unit.rows, ids))
