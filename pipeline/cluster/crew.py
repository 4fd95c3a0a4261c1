"""Workers as actors of Ray Core: one per seat, and a new one in its seat when it ends.

A seat is a share of one machine of the cluster: a GPU, or processor cores where there are none. Nothing of Ray's own
retries is used, and its object store carries paths and receipts alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

from pipeline.cluster.messages import Event, Lost, Order, Setup
from pipeline.cluster.worker import Worker
from pipeline.errors import OptionError
from pipeline.machine import cores
from pipeline.options import EngineOptions

_OBJECTS = 100 * 2**20  # bytes of the object store of a cluster that is started here
_LONGEST_REASON = 300


@dataclass(frozen=True)
class Seat:
    """Room for one worker.

    Attributes:
        node: Ray's id of the machine.
        share: Which of how many workers on it.
        cpus: Processor cores that are reserved.
        gpus: GPUs, or a share of one.
    """

    node: str
    share: tuple[int, int]
    cpus: float
    gpus: float


def seats_of(nodes: Sequence[Mapping[str, Any]], per_node: int | None, device: str) -> list[Seat]:
    """Seats on the machines of a cluster: on those with GPUs, if any has one and the CPU is not asked for.

    Args:
        nodes: What `ray.nodes()` says.
        per_node: Workers on each; None for one per GPU, or one.
        device: auto, cpu or cuda.
    """
    alive = [node for node in nodes if node["Alive"]]
    gpus_of = {node["NodeID"]: 0.0 if device == "cpu" else node["Resources"].get("GPU", 0.0) for node in alive}
    chosen = [node for node in alive if gpus_of[node["NodeID"]]] or ([] if device == "cuda" else alive)
    seats = []
    for node in chosen:
        name, gpus, cpus = node["NodeID"], gpus_of[node["NodeID"]], node["Resources"].get("CPU", 0.0)
        count = per_node or max(1, int(gpus))
        share = gpus / count if gpus < count else gpus // count
        seats += [Seat(name, (i, count), cpus // count, share) for i in range(count)]
    return seats


class RayCrew:
    """Workers in the seats of a cluster; to be entered with `with`, after which all of them are gone.

    Args:
        setup: What every worker is told.
        options: Which cluster, and how many workers on each of its machines.
        kind: What a worker is.
    """

    def __init__(self, setup: Setup, options: EngineOptions, kind: type[Worker] = Worker) -> None:
        self._setup, self._options, self._kind = setup, options, kind
        self._ray = require_ray()
        self._ours = False
        self._actors: dict[int, Any] = {}
        self._seats: dict[int, Seat] = {}
        self._running: dict[Any, tuple[int, int | None]] = {}
        self._ready: list[int] = []
        self._hired = 0

    def __enter__(self) -> RayCrew:
        self._ours = connect(self._ray, self._options.address)
        try:
            self.look_round()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in list(self._actors):
            self._dismiss(worker)
        if self._ours:
            self._ray.shutdown()

    @property
    def size(self) -> int:
        """Seats that have a worker, started or about to."""
        return len(self._seats)

    @property
    def machines(self) -> int:
        """Machines that they are on."""
        return len({seat.node for seat in self._seats.values()})

    @property
    def idle(self) -> tuple[int, ...]:
        """Workers that have their backbone and nothing to do."""
        return tuple(self._ready)

    def look_round(self) -> None:
        """Fill every seat of the cluster that has no worker: at the start, and where one ended or a machine came.

        Raises:
            OptionError: The cluster has no room for any worker.
        """
        seats = seats_of(self._ray.nodes(), self._options.workers_per_node, self._setup.options.device)
        taken = {(seat.node, seat.share) for seat in self._seats.values()}
        for seat in seats:
            if (seat.node, seat.share) not in taken:
                self._hire(seat)
        if not self._seats:
            raise OptionError(
                f"the Ray cluster has no machine for a worker with --device {self._setup.options.device}; found "
                f"{len(self._ray.nodes())} machines. Start some, or ask for another device"
            )

    def give(self, worker: int, order: Order) -> None:
        """Have an idle worker do an order."""
        self._ready.remove(worker)
        self._running[self._actors[worker].compute.remote(order)] = (worker, order.number)

    def give_up(self, worker: int, reason: str) -> Event:
        """End a worker that does not come back; its seat is free for another."""
        number = next((number for each, number in self._running.values() if each == worker), None)
        self._dismiss(worker)
        return Event(worker, number, Lost(reason))

    def events(self, seconds: float) -> list[Event]:
        """What has happened; at the latest after so many seconds, when that may be nothing."""
        if not self._running:
            return []
        refs = list(self._running)
        done, _ = self._ray.wait(refs, num_returns=1, timeout=seconds)
        more, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0) if done else ([], [])
        return [self._event(ref) for ref in more]

    def _event(self, ref: Any) -> Event:
        worker, number = self._running.pop(ref)
        try:
            result = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            # The process lives, but an error that nobody foresaw may have left anything behind in it.
            self._dismiss(worker)
            return Event(worker, number, Lost(_last_line(error)))
        except self._ray.exceptions.RayError as error:
            self._dismiss(worker)
            return Event(worker, number, Lost(_reason(error)))
        self._ready.append(worker)
        return Event(worker, number, result)

    def _hire(self, seat: Seat) -> None:
        affinity = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(seat.node, soft=False)
        actor = self._ray.remote(self._kind).options(
            num_cpus=seat.cpus, num_gpus=seat.gpus, max_restarts=0, max_task_retries=0, scheduling_strategy=affinity
        )
        worker, self._hired = self._hired, self._hired + 1
        self._seats[worker] = seat
        self._actors[worker] = actor.remote(self._setup, seat.share)
        self._running[self._actors[worker].start.remote()] = (worker, None)

    def _dismiss(self, worker: int) -> None:
        actor = self._actors.pop(worker, None)
        self._seats.pop(worker, None)
        self._ready = [each for each in self._ready if each != worker]
        self._running = {ref: whose for ref, whose in self._running.items() if whose[0] != worker}
        if actor is not None:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)


def require_ray() -> ModuleType:
    """Ray, where it is installed.

    Raises:
        OptionError: It is not.
    """
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise OptionError("--engine ray needs Ray: pip install -r requirements-ray.txt") from None
    return ray


def connect(ray: ModuleType, address: str | None, resources: Mapping[str, Any] | None = None) -> bool:
    """Join a cluster, or start one on this machine; nothing where this process is in one already.

    Args:
        ray: The library.
        address: Of the cluster to join.
        resources: What one that is started here has, where that is not this process's cores.

    Returns:
        Whether this process joined or started it just now, and so is to leave or stop it.

    Raises:
        OptionError: There is no cluster at that address.
    """
    if ray.is_initialized():
        return False
    # Else it tells its makers of every use, and its workers wait for whatever else runs on the machine.
    for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_worker_niceness", "0")):
        os.environ.setdefault(name, value)
    here = {"num_cpus": cores(), "object_store_memory": _OBJECTS, "include_dashboard": False}
    with _own_signals():
        _init(ray, address, {} if address else {**here, **(resources or {})})
    return True


def _init(ray: ModuleType, address: str | None, more: Mapping[str, Any]) -> None:
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **more)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise OptionError(
            f"cannot join the Ray cluster at {address or 'this machine'}: {str(error)[:_LONGEST_REASON]}"
        ) from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what SIGTERM does: Ray takes it over while it starts, and ends the process on it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _reason(error: Exception) -> str:
    """What Ray knows of a worker's end, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "exit detail" in line or "died because" in line), lines[0] if lines else "")
    return told.partition("Worker exit detail: ")[2][:_LONGEST_REASON] or told[:_LONGEST_REASON]


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:_LONGEST_REASON] if lines else type(error).__name__
