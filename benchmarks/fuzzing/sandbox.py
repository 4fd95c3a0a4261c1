"""A forked child that tries one input after another, watched from outside: time, memory, crashes."""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RESULT, NAMED = "result", "named error"
TRACEBACK, HANG, MEMORY, WRONG = "traceback", "hang", "over memory", "WRONG"
KINDS = (RESULT, NAMED, TRACEBACK, HANG, MEMORY, WRONG)
BREAKS = (TRACEBACK, HANG, MEMORY, WRONG)

LONGEST_TEXT = 20_000
"""Characters of the longest text of an error; a longer one is no message but a copy of the input."""

_ADDRESS_SPACE = 4 * 2**30
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes:
        text: The error's text, or where and how it broke; equal for inputs that break in the same place.
        megabytes: Most memory that the child held beyond what it had before.
    """

    kind: str
    text: str
    seconds: float
    megabytes: int

    @property
    def broken(self) -> bool:
        return self.kind in BREAKS


class Sandbox:
    """Serves inputs in a forked child, which is replaced when it dies, hangs, or has grown.

    Args:
        read: Reads one input; returns "" or what is wrong with what it read.
        errors: The errors that a reader may answer with.
        seconds, megabytes: What one input may take.
    """

    def __init__(
        self, read: Callable[[str, bytes], str], errors: tuple[type[Exception], ...], seconds: float, megabytes: int
    ) -> None:
        self._read, self._errors = read, errors
        self._seconds, self._megabytes = seconds, megabytes
        self._child = 0
        self._to = self._from = -1

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(self, sample: str, data: bytes) -> Outcome:
        """Try an input; one that takes too long is tried again with twice the time, as the machine may be busy."""
        first = self._once(sample, data, self._seconds)
        return self._once(sample, data, 2 * self._seconds) if first.kind == HANG else first

    def _once(self, sample: str, data: bytes, seconds: float) -> Outcome:
        if not self._child:
            self._start()
        started = time.perf_counter()
        try:
            _send(self._to, (sample, data))
            ready, _, _ = select.select([self._from], [], [], seconds)
            if not ready:
                self._end()
                return Outcome(HANG, f"no answer within {seconds:g} s", seconds, 0)
            kind, text, megabytes = _receive(self._from)
        except (EOFError, BrokenPipeError):
            status = self._end()
            return Outcome(TRACEBACK, f"the process died: {status}", time.perf_counter() - started, 0)
        if megabytes > self._megabytes:
            kind, text = MEMORY, f"{kind}, with more than {self._megabytes} MB"
        if kind == MEMORY:
            self._end()
        return Outcome(kind, text, time.perf_counter() - started, megabytes)

    def _start(self) -> None:
        child_in, self._to = os.pipe()
        self._from, child_out = os.pipe()
        sys.stdout.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # threads of libraries that wait for work are not missed in the child
            self._child = os.fork()
        if self._child:
            os.close(child_in)
            os.close(child_out)
            return
        os.close(self._to)
        os.close(self._from)
        try:
            self._serve(child_in, child_out)
        finally:
            os._exit(0)

    def _serve(self, child_in: int, child_out: int) -> None:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _ADDRESS_SPACE,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        warnings.simplefilter("ignore")
        while True:
            sample, data = _receive(child_in)
            before = _reset_peak()
            kind, text = self._answer(sample, data)
            _send(child_out, (kind, text, max(0, _peak() - before) // 2**20))

    def _answer(self, sample: str, data: bytes) -> tuple[str, str]:
        try:
            wrong = self._read(sample, data)
            return (WRONG, wrong) if wrong else (RESULT, "")
        except self._errors as error:
            said = str(error)
            try:
                said.encode()
            except UnicodeEncodeError:
                return TRACEBACK, "the error's text cannot be printed"
            if len(said) > LONGEST_TEXT:
                return TRACEBACK, f"the error's text has more than {LONGEST_TEXT} characters"
            return NAMED, said
        except MemoryError:
            return MEMORY, "MemoryError"
        except BaseException as error:  # noqa: BLE001
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f for f in frames if "/pipeline/" in f.filename or "/cache/" in f.filename] or frames[-1:]
            place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].name}"
            return TRACEBACK, f"{type(error).__name__} at {place}"

    def _end(self) -> str:
        if not self._child:
            return ""
        try:
            os.killpg(self._child, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(self._child, signal.SIGKILL)
        _, status = os.waitpid(self._child, 0)
        os.close(self._to)
        os.close(self._from)
        self._child = 0
        return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


def _send(to: int, message: object) -> None:
    data = pickle.dumps(message)
    data = _LENGTH.pack(len(data)) + data
    while data:
        data = data[os.write(to, data) :]


def _receive(source: int) -> tuple:  # type: ignore[type-arg]
    (size,) = _LENGTH.unpack(_exactly(source, _LENGTH.size))
    return pickle.loads(_exactly(source, size))


def _exactly(source: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(source, min(size, 2**20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 0
