"""What holds for every request: headers that let a page do nothing else, names of this server, ends of bodies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serving.metrics import Metrics

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_BODY = "selvedge.body"
_DRAIN_SECONDS = 10.0
_DRAIN_REQUESTS = 4


class Body:
    """The body of a request, and whether all of it has come."""

    def __init__(self, receive: Receive, headers: Headers) -> None:
        self._receive = receive
        self.ended = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self.expects = "expect" in headers
        try:
            self.stated = int(headers.get("content-length", "0")[:20])
        except ValueError:
            self.stated = 0

    async def receive(self) -> Message:
        """The next message of the server."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.ended = True
        return message

    async def drained(self, most: int) -> None:
        """Read on to the end, for a few seconds and requests of `most` bytes: who still sends would miss the answer."""
        left = _DRAIN_REQUESTS * most
        if self.expects or self.stated > left:
            return
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self.ended and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return


def body_of(scope: MutableMapping[str, Any]) -> Body:
    """The body of the request that this is the scope of."""
    body: Body = scope[_BODY]
    return body


class Guard:
    """The application with what holds for every request.

    Args:
        app: The routes.
        metrics: Where requests are counted.
        paths: The paths that are counted by their names.
        hosts: Names by which requests may call this server; any where None. A page of a stranger that has its name
            lead to this machine's own address is thereby kept out.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str], hosts: frozenset[str] | None) -> None:
        self.app, self.metrics, self.paths, self.hosts = app, metrics, paths, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers, start, status = Headers(scope=scope), time.perf_counter(), 0
        body = scope[_BODY] = Body(receive, headers)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # What is still on its way would be taken for the next request.
                more = [] if body.ended else [(b"connection", b"close")]
                message = {**message, "headers": [*message["headers"], *_HEADERS, *more]}
            await send(message)

        try:
            if self.hosts is not None and _host(headers) not in self.hosts:
                await PlainTextResponse("this server has another name\n", 421)(scope, body.receive, answer)
            else:
                await self.app(scope, body.receive, answer)
        finally:
            self._count(scope["path"], status or 500, time.perf_counter() - start)

    def _count(self, path: str, status: int, seconds: float) -> None:
        self.metrics.requests.labels(path if path in self.paths else "other", str(status)).inc()
        if path == "/predict":
            self.metrics.request_seconds.observe(seconds)


def _host(headers: Headers) -> str:
    """The name of the server in a request, without its port."""
    name, colon, port = headers.get("host", "").rpartition(":")
    return (name if colon and port.isdecimal() else f"{name}{colon}{port}").lower()
