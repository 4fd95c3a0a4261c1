"""Open shards with the HDF5 library in a process of its own, with a time limit: damaged files can hang it.

python -m cache.probe        reads one path a line from standard input, answers one JSON line for each
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

# Without -P a `cache.py` in the working folder would be run instead.
PROBE_COMMAND = (sys.executable, "-P", "-m", f"{__package__}.probe")
_SLOW_START_SECONDS = 30.0


def describe(path: str) -> dict[str, Any]:
    """What the HDF5 library sees in a shard: per dataset shape, dtype and offset, and the key's digest."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            datasets = {
                name: [list(file[name].shape), file[name].dtype.name, file[name].id.get_offset()]
                for name in ("features", "ids", "checksums")
            }
            return {"key": str(file.attrs["key"]), "datasets": datasets}
    except (OSError, KeyError, RuntimeError, ValueError, AttributeError) as error:
        return {"error": f"the HDF5 library cannot read it: {error}"}


class Probe:
    """A child process that opens shards; killed and started again when it does not answer in time."""

    def __init__(self, seconds: float = 10.0, command: Sequence[str] = PROBE_COMMAND) -> None:
        self._seconds = seconds
        self._command = list(command)
        self._child: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def ask(self, path: Path) -> dict[str, Any]:
        """What `describe` says of a path, or an error if the child hangs or dies."""
        fresh = self._child is None
        child = self._child or self._start()
        try:
            if child.stdin is not None:
                child.stdin.write(json.dumps(str(path)) + "\n")
                child.stdin.flush()
            line = self._lines.get(timeout=self._seconds + (_SLOW_START_SECONDS if fresh and self._seconds > 1 else 0))
        except queue.Empty:
            self._stop()
            return {"error": f"the HDF5 library did not come back within {self._seconds:g} s"}
        except BrokenPipeError:
            line = ""
        if not line:
            self._stop()
            return {"error": "the HDF5 library crashed on it"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        here = str(Path(__file__).resolve().parents[1 + str(__package__).count(".")])
        path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
        child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_pump, args=(child, lines), daemon=True).start()
        self._child, self._lines = child, lines
        return child

    def _stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for stream in (self._child.stdin, self._child.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
            self._child = None


def _pump(child: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    if child.stdout is not None:
        with contextlib.suppress(ValueError):  # closed while waiting, because the child was killed
            for line in child.stdout:
                lines.put(line)
    lines.put("")


def _main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(describe(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
