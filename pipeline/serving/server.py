"""One server: its socket, its loop, the signals that stop it or have it read its models again."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from pipeline.errors import OptionError, PipelineError
from pipeline.options import ServeOptions
from pipeline.serving.app import Service, Told
from pipeline.serving.protocol import Protocol

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_GRACE = 5
"""Seconds beyond the longest request in which a stopping server waits for its clients."""


class Server:
    """Models on a port, from the moment that all of them were tried.

    Args:
        options: What is served, where, and what a request may cost.
        told: Takes lines about what happens while it serves.

    Raises:
        OptionError: The port cannot be had.
        OptionError, ModelFileError, BackboneError: As `Service` raises them.
    """

    def __init__(self, options: ServeOptions, told: Told) -> None:
        self.options = options
        self._socket = _bound(options.host, options.port)
        try:
            self.service = Service(options, told)
        except BaseException:
            self._socket.close()
            raise
        self._uvicorn = _Uvicorn(self._config(), self)
        self._reloads: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port it listens at."""
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        host = self.options.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    @property
    def open_to_others(self) -> bool:
        """Whether other machines can reach it."""
        return self.options.host not in _LOOPBACK

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve until a signal or `stop`; what was taken by then is answered first.

        Args:
            started: Called once, when requests are taken and signals are heeded.
        """
        self._started = started
        try:
            self._uvicorn.run([self._socket])
        finally:
            self._socket.close()
            self.service.batches.stop()

    def stop(self) -> None:
        """Take nothing more, answer what is there, end; from any thread."""
        self._uvicorn.should_exit = True

    def has_started(self) -> None:
        """Have whoever waits for it told that requests are taken."""
        self._started()

    def reload_soon(self) -> None:
        """Have the models read again; in the thread of the loop."""
        task = asyncio.ensure_future(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        with contextlib.suppress(PipelineError):  # which `reload` has told
            await self.service.reload()

    def _config(self) -> uvicorn.Config:
        hosts = None if self.open_to_others else frozenset((*_LOOPBACK, "[::1]"))
        files, most = resource.getrlimit(resource.RLIMIT_NOFILE)[0], 4 * self.options.queue + 64
        return uvicorn.Config(
            self.service.app(hosts),
            http=Protocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            access_log=False,
            log_config=None,
            log_level="error",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=most if files == resource.RLIM_INFINITY else min(most, files // 2),
            timeout_graceful_shutdown=int(2 * self.options.request_timeout) + _GRACE,
        )


class _Uvicorn(uvicorn.Server):
    """uvicorn's loop; a signal that stops it has done so when the loop ends, and is not raised again."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._server = server

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._server.has_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are this server's while it runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()

        def hangup(*_: Any) -> None:
            loop.call_soon_threadsafe(self._server.reload_soon)

        handlers: dict[int, Any] = dict.fromkeys(_STOPPING, self.handle_exit)
        if self._server.options.reload:
            handlers[signal.SIGHUP] = hangup
        elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handlers[signal.SIGHUP] = self.handle_exit
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _bound(host: str, port: int) -> socket.socket:
    """A socket at the address, not yet listening: nobody is let in before the models are there."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, number)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except (OSError, UnicodeError) as error:
        raise OptionError(
            f"cannot listen at {host}, port {port} ({error}); name another with --host or --port"
        ) from None
    return found
