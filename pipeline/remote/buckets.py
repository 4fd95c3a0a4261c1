"""Photos of object stores, through obstore, the Python side of Apache's `object_store`.

It brings S3, Google Cloud Storage and Azure in one wheel without further packages, streams what it reads, so that no
answer is held beyond its limit, and tries again by itself. Its texts quote URLs and answers of the server: no more than
a status is taken from them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from pipeline.errors import NotFetched, OptionError, TooCostly
from pipeline.remote.faults import BadKey, Gone, Later, Refused, Unreachable
from pipeline.remote.limits import ATTEMPTS, FIRST_WAIT, LONGEST
from pipeline.remote.urls import Place

_STATUS = re.compile(r"status code: (\d{3} ?[A-Za-z ]*)")
_PATH = re.compile(r'path: "((?:[^"\\]|\\.)*)"')
_CODE = re.compile(r"<Code>(\w+)</Code>")
_CHUNK = 2**16


@lru_cache(maxsize=64)
def store_of(scheme: str, host: str) -> Any:
    """The client of a bucket, with the credentials and the endpoint that the environment names.

    Raises:
        OptionError: obstore is not installed, or refuses what the environment says.
    """
    try:
        from obstore import store as stores
    except ImportError:
        raise OptionError(
            f"{scheme}://{host}: photos in object stores need obstore; run: pip install -r requirements-remote.txt"
        ) from None
    if scheme == "memory":
        return stores.MemoryStore()
    plain = any(os.environ.get(name, "").startswith("http://") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT"))
    waits = {"init_backoff": timedelta(seconds=FIRST_WAIT), "max_backoff": timedelta(seconds=5), "base": 2}
    retries = {"max_retries": ATTEMPTS - 1, "backoff": waits, "retry_timeout": timedelta(seconds=2 * LONGEST)}
    client = {"timeout": f"{LONGEST:g}s", "connect_timeout": "5s", "allow_http": plain}
    open_store: Any = stores.from_url
    try:
        return open_store(f"{scheme}://{host}", client_options=client, retry_config=retries)
    except Exception:  # noqa: BLE001 - whatever the library says may quote a key
        raise OptionError(
            f"{scheme}://{host} cannot be used with what the environment says of credentials and endpoint "
            "(docs/REMOTE.md)"
        ) from None


def list_bucket(place: Place) -> Iterator[dict[str, Any]]:
    """What lies under a prefix: path, size, e_tag and last_modified of each object.

    Raises:
        NotFetched: As `read` does.
        OptionError: As `store_of` does.
    """
    store = store_of(place.scheme, place.host)
    import obstore

    with _named_faults():
        for chunk in obstore.list(store, prefix=place.path or None, chunk_size=1000):
            yield from map(dict, chunk)


def look(place: Place) -> dict[str, Any]:
    """Size, e_tag and last_modified of one object; raises as `read` does."""
    store = store_of(place.scheme, place.host)
    import obstore

    with _named_faults():
        return dict(obstore.head(store, place.path))


def read(place: Place, limit: int, tag: str = "") -> bytes:
    """The bytes of one object, in one request.

    Args:
        place: Where it lies.
        limit: Most bytes.
        tag: The ETag of the version that is meant, where it is known.

    Raises:
        TooCostly: It has more bytes.
        NotFetched: It did not come; the text is the reason, the kind says what to do.
        OptionError: As `store_of` does.
    """
    store = store_of(place.scheme, place.host)
    import obstore

    with _named_faults():
        got = obstore.get(store, place.path, options={"if_match": tag} if tag else None)
        parts, size = [], 0
        for part in got.stream(min_chunk_size=_CHUNK):
            parts.append(bytes(part))
            size += len(part)
            if size > limit:
                raise TooCostly(f"too large a file: it has more than the limit of {limit} bytes")
        return b"".join(parts)


def modified_ns(found: dict[str, Any]) -> int:
    """When an object was written, in nanoseconds; 0 where nobody says."""
    when = found.get("last_modified")
    return int(when.timestamp() * 10**6) * 1000 if isinstance(when, datetime) else 0


@contextmanager
def _named_faults() -> Iterator[None]:
    try:
        yield
    except (NotFetched, TooCostly, OptionError):
        raise
    except FileNotFoundError:
        raise Gone("there is no such object any more") from None
    except Exception as error:  # noqa: BLE001 - the library's own errors and the server's
        raise _fault(error) from None


def _fault(error: Exception) -> NotFetched:
    text, kind = str(error), type(error).__name__
    if "//169.254." in text:
        return Refused("no credentials in the environment, and this machine has none of its own")
    status = _STATUS.search(text)
    said = f"the server answers {status[1].strip()}" if status else ""
    if code := _CODE.search(text):
        said += f" ({code[1]})"
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or (status and status[1][:3] in ("401", "403")):
        return Refused(said or "permission denied")
    if kind == "InvalidPathError":
        named = _PATH.search(text)
        return BadKey(
            f"it holds a key that no path can be, '{named[1] if named else '?'}': with an empty step, . or .., or a "
            "control character; rename it, or take a prefix without it"
        )
    if kind == "PreconditionError":
        return NotFetched("it changed since it was listed")
    if status and status[1][:1] == "4" and status[1][:3] not in ("408", "429"):
        return Gone(said) if status[1][:3] == "404" else NotFetched(said)
    if status:
        return Later(f"{said}, {ATTEMPTS} times")
    if "kind: Timeout" in text:
        return Later(f"the server was silent or slow for {LONGEST:g} seconds")
    if "kind: Connect" in text:
        return Unreachable("it cannot be reached")
    return Later("it cannot be read")
