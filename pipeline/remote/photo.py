"""One photo by its URL, which is read when it is called; many of them, made on access."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar, overload

from pipeline.errors import NotFetched, RemoteError, TooCostly
from pipeline.remote.faults import Later, Refused, Unreachable
from pipeline.remote.limits import ATTEMPTS, FIRST_WAIT, IN_A_ROW, LONGEST, MAX_ALONE, MAX_BYTES, UNKNOWN_BYTES
from pipeline.remote.urls import Place, clean, is_bucket, is_http, joined

T = TypeVar("T")


class Stamp(NamedTuple):
    """By what a server tells the versions of a photo apart.

    Attributes:
        size: Its bytes, None where nobody says.
        modified_ns: When it was written, 0 where nobody says.
        tag: Its ETag, "" where there is none.
    """

    size: int | None
    modified_ns: int
    tag: str

    @property
    def tells(self) -> bool:
        """Whether another version would have another stamp."""
        return bool(self.tag) or (self.size is not None and self.modified_ns > 0)


_lock = threading.Lock()
_failed: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class RemotePhoto:
    """A photo by its URL; calling it reads its bytes. Plain data, so it can be sent to other processes.

    Attributes:
        url: Where it lies, signature included; never shown.
        name: The URL without any secret.
        stamp: Its version as it was listed, None where it was not.
        alone: Whether it was named by itself, so that a host that fails is this photo's trouble only.
    """

    url: str = field(repr=False)
    name: str
    stamp: Stamp | None = None
    alone: bool = False

    @classmethod
    def named(cls, url: str) -> RemotePhoto:
        """The photo of a URL that somebody gave."""
        return cls(url, clean(url), alone=True)

    def __str__(self) -> str:
        return self.name

    @property
    def place(self) -> Place:
        """Where it lies."""
        scheme, _, rest = self.url.partition("://")
        host, _, path = rest.partition("/")
        return Place(scheme.lower(), host.rpartition("@")[2], path)

    @property
    def weight(self) -> int:
        """Its bytes, or what it counts for where they are not known."""
        size = None if self.stamp is None else self.stamp.size
        return UNKNOWN_BYTES if size is None else size

    def __call__(self) -> bytes:
        """Read it; what failed on the way is tried again.

        Raises:
            NotFetched: It did not come.
            TooCostly: It is too large.
            RemoteError: Its bucket or host cannot be used at all, or no photo comes from there any more.
        """
        limit = MAX_ALONE if self.alone else MAX_BYTES
        if self.stamp is not None and (self.stamp.size or 0) > limit:
            raise TooCostly(f"too large a file: {self.stamp.size} bytes are more than the limit of {limit}")
        home = self.place.home
        try:
            data = self._read(limit)
        except NotFetched as error:
            if not self.alone:
                _stop(home, error, is_bucket(self.url))
            raise NotFetched(str(error)) from None
        count_success(home)
        return data

    def _read(self, limit: int) -> bytes:
        from pipeline.remote import buckets, http  # the web's client, which few commands need

        tag = "" if self.stamp is None else self.stamp.tag
        if is_bucket(self.url):
            return buckets.read(self.place, limit, tag)
        if not is_http(self.url):
            raise NotFetched("no server is asked for it: its URL is not of http, https, s3, gs or az")
        return tried(lambda: http.fetch(self.url, limit, tag=tag))


def tried(ask: Callable[[], T]) -> T:
    """What `ask` gives; where it fails for a time, it is asked again after a wait that doubles."""
    end = time.monotonic() + LONGEST
    for attempt in range(ATTEMPTS):
        try:
            return ask()
        except Later:
            if attempt == ATTEMPTS - 1 or time.monotonic() > end:
                raise
            time.sleep(FIRST_WAIT * 2**attempt * random.uniform(0.5, 1.0))
    raise AssertionError("the last attempt neither came nor failed")


def _stop(home: str, error: NotFetched, bucket: bool) -> None:
    """RemoteError where the next photo of this host would fail as well."""
    if isinstance(error, Unreachable):
        raise RemoteError(f"{home}: {error}; what was computed is kept, the same command goes on from there")
    if isinstance(error, Refused) and bucket:
        raise denied(home, error)
    if isinstance(error, Later):
        count_failure(home, error)


def count_success(home: str) -> None:
    """Something came from this host."""
    with _lock:
        _failed.pop(home, None)


def count_failure(home: str, error: NotFetched) -> None:
    """Something did not come from this host; RemoteError where nothing has for a while."""
    with _lock:
        _failed[home] = _failed.get(home, 0) + 1
        if _failed[home] < IN_A_ROW:
            return
        _failed.pop(home)
    raise RemoteError(
        f"{home}: {IN_A_ROW} photos in a row did not come (the last one: {error}); what was computed is kept, the same "
        "command goes on from there"
    )


def denied(home: str, error: NotFetched) -> RemoteError:
    """The error of a bucket that may not be read."""
    return RemoteError(
        f"{home}: permission denied ({error}); set the credentials in the environment, and see that they may list and "
        "read this bucket (docs/REMOTE.md)"
    )


class RemotePhotos(Sequence[RemotePhoto]):
    """Photos under one prefix, made on access from their names and stamps.

    Args:
        root: The prefix.
        names: (n,), whole URLs or names under the prefix.
        stamps: (n,).
        whole: The URL of a name with its signature, where it has one.
    """

    __slots__ = ("names", "root", "stamps", "whole")

    def __init__(
        self, root: Place, names: Sequence[str], stamps: Sequence[Stamp | None], whole: dict[str, str] | None = None
    ) -> None:
        self.root, self.names, self.stamps, self.whole = root, names, stamps, whole or {}

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> RemotePhoto: ...
    @overload
    def __getitem__(self, index: slice) -> RemotePhotos: ...
    def __getitem__(self, index: int | slice) -> RemotePhoto | RemotePhotos:
        if isinstance(index, slice):
            return RemotePhotos(self.root, self.names[index], self.stamps[index], self.whole)
        name = self.names[index]
        url = name if "://" in name else joined(self.root, name)
        return RemotePhoto(self.whole.get(name, url), url, self.stamps[index])

    def take(self, places: Sequence[int]) -> RemotePhotos:
        """The photos at these positions."""
        names, stamps = ([column[i] for i in places] for column in (self.names, self.stamps))
        return RemotePhotos(self.root, names, stamps, self.whole)  # type: ignore[arg-type]
