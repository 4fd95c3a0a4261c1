"""Photos read ahead of their decoding, by more threads than decode, within a budget of bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pipeline.errors import BadImage
from pipeline.remote.limits import AHEAD_BYTES, READERS
from pipeline.remote.photo import RemotePhoto

T = TypeVar("T")


class Ahead:
    """Reads remote photos as soon as they are asked for, and gives them out when they are wanted.

    Asking blocks while the bytes on their way exceed the budget; whoever asks must not be who decodes, and must have
    handed on what it asked for before it asks again. Photos must be asked for in the order in which they are decoded:
    then those that hold the budget are the next to give it back.

    Args:
        budget: Bytes read, or being read, and not yet decoded; one photo may exceed it alone.
    """

    def __init__(self, budget: int = AHEAD_BYTES) -> None:
        self._budget, self._held = budget, 0
        self._free = threading.Condition()
        self._pool: ThreadPoolExecutor | None = None
        self._broken = False

    def start(self, photo: T) -> T | Callable[[], bytes]:
        """Begin to read a remote photo; anything else is given back as it is."""
        if not isinstance(photo, RemotePhoto):
            return photo
        if self._pool is None:
            self._pool = ThreadPoolExecutor(READERS, "read")
        weight = min(photo.weight, self._budget)
        with self._free:
            # Of a decoder that stopped at an error nobody takes the rest.
            self._free.wait_for(lambda: self._broken or self._held + weight <= self._budget)
            self._held += weight
        coming: Future[bytes] = self._pool.submit(photo)
        return lambda: self._taken(coming, weight)

    def _taken(self, coming: Future[bytes], weight: int) -> bytes:
        try:
            return coming.result()
        except BadImage:
            raise
        except BaseException:
            self._broken = True
            raise
        finally:
            with self._free:
                self._held -= weight
                self._free.notify_all()

    def close(self) -> None:
        """Ask for no more; waits for the photos in hand."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
