"""A server process of `benchmarks/serve.py`, and clients that take little time of their own."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")
MAX_BYTES, TIMEOUT = 32 * 2**20, 3


@dataclass
class Served:
    """A server process and its port."""

    process: subprocess.Popen[str]
    port: int

    @property
    def core_seconds(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def resident(self) -> float:
        """MiB of memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.contextmanager
def served(models: list[str], port: int = 0) -> Iterator[Served]:
    """`run.py serve`, from the line that says where until it is stopped or has been killed."""
    words = ["--model", ",".join(models), "--port", str(port), "--request-timeout", str(TIMEOUT)]
    command = [sys.executable, "run.py", "serve", *words, "--max-bytes", str(MAX_BYTES)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield Served(process, int(line.split(":")[3].split("/")[0]))
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(30)
    finally:
        process.kill()


class Client:
    """One connection that is kept open; requests are ready bytes, so that it takes little time of its own."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """(status, content)."""
        self.socket.sendall(request)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        length = int(data[:end].lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(data) < end + 4 + length:
            data += self._more()
        return int(data[9:12]), data[end + 4 :]

    def _more(self) -> bytes:
        part = self.socket.recv(2**18)
        if not part:
            raise ConnectionError("closed")
        return part


def request(body: bytes, model: str, length: int | None = None) -> bytes:
    stated = len(body) if length is None else length
    return (
        f"POST /predict?model={model} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {stated}\r\n\r\n".encode() + body
    )


def in_threads(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def closed_loop(server: Served, requests: list[bytes], clients: int, seconds: float) -> int:
    """Photos that clients, each with the next one as soon as it has its answer, get answered in this time."""
    done, end = [0] * clients, time.monotonic() + seconds

    def work(i: int) -> None:
        client, dice = Client(server.port), random.Random(i)
        while time.monotonic() < end:
            status, _ = client.ask(dice.choice(requests))
            assert status == 200, status
            done[i] += 1

    in_threads(clients, work)
    return sum(done)


def open_loop(server: Served, requests: list[bytes], rate: float, seconds: float) -> list[float]:
    """Seconds from when each request was due, at this rate and random moments, to its answer."""
    dice, at, due = random.Random(0), 0.0, []
    while (at := at + dice.expovariate(rate)) < seconds:
        due.append(at)
    waiting, lock, start, took = iter(due), threading.Lock(), time.monotonic(), []

    def work(i: int) -> None:
        client, own = Client(server.port), random.Random(i)
        while True:
            with lock:
                moment = next(waiting, None)
            if moment is None:
                return
            time.sleep(max(0.0, start + moment - time.monotonic()))
            assert client.ask(own.choice(requests))[0] == 200
            took.append(time.monotonic() - start - moment)

    in_threads(64, work)
    return sorted(took)


def bomb() -> bytes:
    """A PNG of 70 kB that would be 3.6 gigapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 64 * 2**20)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
