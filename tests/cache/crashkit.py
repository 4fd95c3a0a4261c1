"""Run a program under strace, read its system calls, and kill it at any one of them."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache as remember
from pathlib import Path

CALLS = ("write", "pwrite64", "fsync", "fdatasync", "rename", "link", "ftruncate", "unlink", "mkdir")
WRITER = Path(__file__).with_name("writer_process.py")
_LINE = re.compile(r"^(\d+)\s+(\w+)\((.*)$")


@dataclass(frozen=True)
class Call:
    """One system call: its name, how many of that name came before it plus one, and its arguments."""

    name: str
    number: int
    text: str

    @property
    def paths(self) -> list[str]:
        """Paths named in the call, of descriptors too."""
        return re.findall(r'[<"](/[^">]*)[>"]', self.text)


@remember
def why_no_strace() -> str:
    """Why boundaries cannot be enumerated here; empty if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-f", "-e", "trace=none", "/bin/true"], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"strace may not trace here: {done.stderr.strip()[:200]}"


def python_writer(root: Path, mode: str, *options: str) -> list[str]:
    return [sys.executable, "-B", str(WRITER), str(root), mode, *options]


def trace(command: Sequence[str], below: Path) -> list[Call]:
    """System calls of an undisturbed run that name a path below a folder, each with its count over the whole run."""
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        options = ["-f", "-y", "-s", "512", "-o", log.name, "-e", f"trace={','.join(CALLS)}"]
        subprocess.run(["strace", *options, *command], check=True)
        counts: Counter[tuple[str, str]] = Counter()  # strace counts for each process on its own
        calls = []
        for line in log:
            match = _LINE.match(line)
            if match and match[2] in CALLS:
                counts[match[1], match[2]] += 1
                calls.append(Call(match[2], counts[match[1], match[2]], match[3]))
    return [call for call in calls if any(path.startswith(str(below)) for path in call.paths)]


def kill_at(command: Sequence[str], call: Call) -> None:
    """Run a program and kill it as it enters one system call, which then is not carried out."""
    inject = f"inject={call.name}:signal=SIGKILL:when={call.number}"
    done = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call.name}", "-e", inject, *command], capture_output=True
    )
    if done.returncode not in (-signal.SIGKILL, 128 + signal.SIGKILL):
        raise RuntimeError(f"{call.name} number {call.number} did not kill: {done.returncode}, {done.stderr!r}")


def shards_before(calls: Sequence[Call], place: int) -> int:
    """How many shards had their final name when the call at a place began."""
    return sum(call.name == "link" and call.paths[-1].endswith(".h5") for call in calls[:place])
