"""HTTP/1.1 with an end to waiting for the head of a request, which uvicorn leaves to a proxy before it."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""From the connection, or the first byte of a further request, to the end of its head."""


class Protocol(H11Protocol):
    """A connection that is closed when the head of a request does not come."""

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for the head of the first request."""
        super().connection_made(transport)
        self._due = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """Take what came; the head of a request is waited for until it is whole."""
        before = self.cycle
        if self._due is None and (before is None or before.response_complete):
            self._due = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)
        super().data_received(data)
        if self.cycle is not before:
            self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
