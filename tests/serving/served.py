"""A server of tiny models in a thread, and the least of an HTTP client."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.options import ServeOptions


def needed() -> None:
    """Skip where the libraries of the extra are not installed."""
    for name in ("starlette", "uvicorn", "python_multipart", "prometheus_client"):
        pytest.importorskip(name, reason=f"requirements-serve.txt is not installed: no {name}")


@dataclass
class Running:
    """A server, what it said, and the thread that it runs in."""

    server: Any
    thread: threading.Thread
    said: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        port: int = self.server.port
        return port

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers in lower case, content)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body or None, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def predict(self, body: bytes, query: str = "", **headers: str) -> tuple[int, dict[str, Any]]:
        status, _, content = self.ask(
            "POST", f"/predict{query}", body, {k.replace("_", "-"): v for k, v in headers.items()}
        )
        return status, json.loads(content)

    def form(self, photos: Sequence[tuple[str, bytes]], query: str = "") -> tuple[int, dict[str, Any]]:
        boundary, body = multipart(photos)
        return self.predict(body, query, content_type=f"multipart/form-data; boundary={boundary}")

    def metric(self, name: str) -> float:
        """The sum of all samples of that name (with its labels, where it has some)."""
        lines = self.ask("GET", "/metrics")[2].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def multipart(photos: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
    """(boundary, body) of a form with these files."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="photo"; filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in photos
    ]
    return boundary, b"".join(parts) + f"--{boundary}--\r\n".encode()


@contextlib.contextmanager
def serving(options: ServeOptions) -> Iterator[Running]:
    """A server in a thread, until the block ends."""
    from pipeline.serving.server import Server

    said: list[str] = []
    server = Server(options, said.append)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    running = Running(server, thread, said)
    try:
        until_ready(running)
        yield running
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"


def until_ready(running: Running) -> None:
    while True:
        with contextlib.suppress(OSError):
            running.ask("GET", "/health")
            return
        time.sleep(0.005)


def jpeg(seed: int = 0, size: tuple[int, int] = (40, 30), kind: str = "JPEG") -> bytes:
    """A photo of noise."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)).save(file, kind)
    return file.getvalue()
