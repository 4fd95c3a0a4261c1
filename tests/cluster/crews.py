"""Workers for the tests: real ones in this process, and ones that end, fail or hang where they are told to."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pipeline.cluster.messages import Event, Lost
from pipeline.cluster.worker import Worker


class Ended(Exception):
    """What a worker of this process raises where a real one's process would end."""


class HereCrew:
    """As many workers as asked for, in this process; each does its order when events are asked for."""

    def __init__(self, setup, size=2, kind=Worker):
        self.setup, self.wanted, self.kind = setup, size, kind
        self.workers, self.ready, self.todo, self.hired, self.most_idle = {}, [], [], 0, 0

    def __enter__(self):
        self.look_round()
        return self

    def __exit__(self, *_):
        self.workers.clear()

    size = property(lambda self: len(self.workers))
    machines = property(lambda self: 1)
    idle = property(lambda self: tuple(self.ready))

    def look_round(self):
        while len(self.workers) < self.wanted:
            worker, self.hired = self.hired, self.hired + 1
            self.workers[worker] = self.kind(self.setup)
            self.todo.append((worker, None))

    def give(self, worker, order):
        self.ready.remove(worker)
        self.todo.append((worker, order))

    def give_up(self, worker, reason):
        del self.workers[worker]
        return Event(worker, None, Lost(reason))

    def events(self, seconds):
        todo, self.todo = self.todo, []
        return [self._done(worker, order) for worker, order in todo]

    def _done(self, worker, order):
        number = None if order is None else order.number
        try:
            result = self.workers[worker].start() if order is None else self.workers[worker].compute(order)
        except Ended as error:
            del self.workers[worker]
            return Event(worker, number, Lost(str(error)))
        self.ready.append(worker)
        return Event(worker, number, result)


class Poisoned(Worker):
    """Ends on every photo whose name says poison."""

    def _compute(self, order):
        if any("poison" in str(photo) for photo in order.photos):
            raise Ended("ended by signal 11")
        return super()._compute(order)


class Mortal(Worker):
    """Ends on whatever it is given."""

    def _compute(self, order):
        raise Ended("ended by signal 9")


class Stillborn(Worker):
    """Ends while it starts."""

    def start(self):
        raise Ended("ended by signal 4")


def _first(name):
    """Whether this is the first process to come here; it leaves its id in a file."""
    try:
        path = Path(os.environ["SELVEDGE_TEST_FOLDER"], name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return False
    os.write(descriptor, b"%d" % os.getpid())
    os.close(descriptor)
    return True


class KilledOrFrozenOnce(Worker):
    """The first of them to have an order's vectors is killed before it commits them, the second is stopped."""

    def _compute(self, order):
        kind = self.setup.committer.__class__
        if _first("killed"):
            kind.commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        elif _first("frozen"):
            Path(os.environ["SELVEDGE_TEST_FOLDER"], "order").write_text(f"{order.number:08d}")
            commit = kind.commit

            def stopped(committer, *arguments):
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(0.05)
                return commit(committer, *arguments)

            kind.commit = stopped
        return super()._compute(order)
