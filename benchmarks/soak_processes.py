"""Commands as processes of their own, fast enough for thousands: most are forked from one that has imported all."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
PRELOADED = (
    *("soak_processes", "timm", "sklearn.linear_model", "pyarrow.parquet", "pandas", "h5py", "joblib"),
    *("pipeline.cli.main", "pipeline.features.extract", "pipeline.features.cache_tools", "pipeline.comparison.compare"),
    *("pipeline.experiment.fit_heads", "pipeline.comparison.page", "pipeline.model.predict"),
)
LIMIT_SECONDS = 60
_POLL = 0.002


@dataclass(frozen=True)
class Ended:
    """How a command ended: `code` is negative for the signal that ended it, `hung` that it had to be stopped."""

    words: Sequence[str]
    code: int
    out: str
    err: str
    sent: int = 0
    hung: bool = False

    def __str__(self) -> str:
        signals = f", sent {signal.Signals(self.sent).name}" if self.sent else ""
        return f"`{' '.join(self.words)}` ended with {self.code}{signals}: {self.err.strip()[-1500:]}"


@dataclass(frozen=True)
class Limits:
    """What a forked command has to do with.

    Attributes:
        file_bytes: The largest file it may write; 0 for any.
        memory_bytes: The address space it may take beyond what it begins with; 0 for any.
        powerless: Whether permissions hold for it, though it be root.
        stdout: A file for its standard output, or "closed" for a pipe that nobody reads.
    """

    file_bytes: int = 0
    memory_bytes: int = 0
    powerless: bool = False
    stdout: str = ""

    def take_effect(self) -> None:
        """Limit this process."""
        if self.stdout == "closed":
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, 1)
        elif self.stdout:
            os.dup2(os.open(self.stdout, os.O_WRONLY), 1)
        if self.file_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_bytes, self.file_bytes))
        if self.memory_bytes:
            _take_scratch_memory()
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            most = pages * resource.getpagesize() + self.memory_bytes
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        if self.powerless:
            nothing = (ctypes.c_uint32 * 6)()
            ctypes.CDLL(None, use_errno=True).capset((ctypes.c_uint32 * 2)(0x20080522, 0), nothing)


def _take_scratch_memory() -> None:
    """Have every OpenBLAS take the memory it works in, on one thread: where it gets none, it asks again for ever."""
    import numpy as np
    from scipy.linalg import blas
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    square = np.ones((256, 256))
    square @ square
    blas.dgemm(1.0, square, square)


class Command:
    """One command under way."""

    def __init__(self, words: Sequence[str], outputs: Path, fork: bool = True, limits: Limits | None = None) -> None:
        self.words, self.sent = list(words), 0
        self.paths = [outputs.with_suffix(end) for end in (".out", ".err")]
        for path in self.paths:
            path.write_bytes(b"")  # a command that is killed early has said nothing
        if fork:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(list(PRELOADED))
            self._child = context.Process(target=_run, args=(self.words, *map(str, self.paths), limits or Limits()))
            self._child.start()
            self.pid, self._process = self._child.pid or 0, None
        else:
            command = [sys.executable, str(HOME / "run.py"), *self.words]
            with self.paths[0].open("wb") as out, self.paths[1].open("wb") as err:
                self._process = subprocess.Popen(command, stdout=out, stderr=err)
            self.pid, self._child = self._process.pid, None

    def _code(self) -> int | None:
        return self._process.poll() if self._process is not None else self._child.exitcode

    def kill(self, number: int, after: float) -> None:
        """Send a signal some seconds after the command listens to SIGTERM, or at once thereafter if it is SIGKILL."""
        begun = time.monotonic()
        while number != signal.SIGKILL and self._code() is None and not _catches(self.pid, signal.SIGTERM):
            if time.monotonic() - begun > LIMIT_SECONDS:
                return
            time.sleep(_POLL)
        end = time.monotonic() + after
        while self._code() is None and time.monotonic() < end:
            time.sleep(_POLL)
        if self._code() is None:
            self.sent = number
            os.kill(self.pid, number)

    def wait(self) -> Ended:
        """Wait until it has ended, and read what it said."""
        end = time.monotonic() + LIMIT_SECONDS
        while self._code() is None and time.monotonic() < end:
            time.sleep(_POLL)
        hung = self._code() is None
        if hung:
            os.kill(self.pid, signal.SIGKILL)
        code = self._process.wait() if self._process is not None else self._joined()
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in self.paths)
        return Ended(self.words, code, out, err, self.sent, hung)

    def _joined(self) -> int:
        self._child.join()
        return int(self._child.exitcode or 0)


def _catches(pid: int, number: int) -> bool:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _run(words: list[str], out: str, err: str, limits: Limits) -> None:
    """The forked child: the command with its output in files, and what it has to do with."""
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    import torch

    from pipeline.cli.main import main

    torch.set_num_threads(1)
    limits.take_effect()
    sys.argv = ["run.py", *words]
    sys.exit(main())
