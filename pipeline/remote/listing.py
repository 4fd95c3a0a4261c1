"""What lies under a prefix: listed by a bucket, asked for one by one of a web server."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.errors import NotFetched, RemoteError
from pipeline.remote import buckets
from pipeline.remote.faults import BadKey, Gone, Later, Refused, Unreachable
from pipeline.remote.limits import READERS
from pipeline.remote.photo import RemotePhoto, Stamp, count_failure, count_success, denied, tried
from pipeline.remote.urls import Place, is_bucket

UNKNOWN = Stamp(None, 0, "")


def list_photos(root: Place) -> dict[str, Stamp]:
    """Every object under the prefix of a bucket: its name below the prefix, and its stamp.

    Raises:
        RemoteError: The bucket is not there, may not be listed or cannot be reached.
    """
    start = len(root.path) + 1 if root.path else 0
    found: dict[str, Stamp] = {}
    try:
        for each in buckets.list_bucket(root):
            name = str(each["path"])[start:]
            if name:
                found[name] = _stamp(each)
    except Refused as error:
        raise denied(root.home, error) from None
    except Unreachable as error:
        raise unreachable(root, error) from error
    except NotFetched as error:
        advice = "" if isinstance(error, BadKey) else "; is it the right bucket, region and endpoint?"
        raise RemoteError(f"{root} cannot be listed: {error}{advice}") from error
    return found


def unreachable(root: Place, error: NotFetched) -> RemoteError:
    """The error of a host that nobody answers at."""
    return RemoteError(f"{root.home}: {error}; check the name, the network, and any endpoint in the environment")


def ask(photos: Sequence[RemotePhoto]) -> list[Stamp | str]:
    """The stamp of each photo, or why it is not to be had, from a question each.

    Raises:
        RemoteError: A host cannot be reached or answers no more, or a bucket may not be read.
    """
    if not photos:
        return []
    stop = threading.Event()

    def answer(photo: RemotePhoto) -> Stamp | str:
        if stop.is_set():  # sooner than the pool hears of it
            return UNKNOWN
        try:
            return _ask(photo)
        except RemoteError:
            stop.set()
            raise

    with ThreadPoolExecutor(READERS, "ask") as pool:
        return list(pool.map(answer, photos))


def _ask(photo: RemotePhoto) -> Stamp | str:
    try:
        stamp = _stamp(buckets.look(photo.place)) if is_bucket(photo.url) else _head(photo)
        count_success(photo.place.home)
        return stamp
    except Gone as error:
        return str(error)
    except Unreachable as error:
        raise unreachable(photo.place, error) from None
    except Later as error:
        count_failure(photo.place.home, error)  # a server that never answers would cost half a minute per photo
        return UNKNOWN  # the server is busy; reading the photo, later and more patiently, will tell
    except Refused as error:
        if is_bucket(photo.url):
            raise denied(photo.place.home, error) from None
        return str(error)
    except NotFetched as error:
        return str(error)


def _head(photo: RemotePhoto) -> Stamp:
    from pipeline.remote import http

    said = tried(lambda: http.head(photo.url))
    return UNKNOWN if said is None else Stamp(said.size, said.modified_ns, said.tag)


def _stamp(found: dict[str, object]) -> Stamp:
    size = found.get("size")
    return Stamp(size if isinstance(size, int) else None, buckets.modified_ns(found), str(found.get("e_tag") or ""))
