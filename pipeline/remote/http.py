"""Photos of web servers, within a size and a time, or one named error.

Only http and https are spoken, whatever a redirection asks for. A program that hands on what strangers send it should
pass their bytes: a URL of theirs may point into its own network.
"""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from pipeline.errors import NotFetched
from pipeline.remote.faults import Gone, Later, Refused, Unreachable
from pipeline.remote.limits import LONGEST, MAX_ALONE, TIMEOUT
from pipeline.remote.urls import has_user, written

_CHUNK = 2**16
_LATER = (408, 425, 429, 500, 502, 503, 504)
_GONE, _REFUSED, _NO_HEAD = (404, 410), (401, 403), (405, 501)


@dataclass(frozen=True)
class Head:
    """What a server says of a photo beside its bytes; "" and None for what it does not say."""

    tag: str = ""
    modified_ns: int = 0
    size: int | None = None


def fetch(url: str, limit: int = MAX_ALONE, timeout: float = TIMEOUT, longest: float = LONGEST, tag: str = "") -> bytes:
    """The bytes that a URL names.

    Args:
        url: Of http or https; redirections are followed to these alone.
        limit: Most bytes.
        timeout: Seconds that the server may be silent.
        longest: Seconds that all of it may take, one `timeout` more at most.
        tag: The ETag of the version that is meant, where it is known.

    Raises:
        NotFetched: it did not come; the text is the reason, the kind says whether to ask again.
    """
    end = time.monotonic() + longest
    with _answer(url, "GET", timeout) as answer:
        now = answer.headers.get("ETag", "")
        if tag and now and now != tag:
            raise NotFetched("it changed since its server was asked for it")
        return _body(answer, limit, end)


def head(url: str, timeout: float = TIMEOUT) -> Head | None:
    """What a server says of a photo without sending it; None where it answers no such question.

    Raises:
        NotFetched: As `fetch` does.
    """
    try:
        with _answer(url, "HEAD", timeout) as answer:
            modified = 0
            try:
                modified = int(parsedate_to_datetime(answer.headers.get("Last-Modified", "")).timestamp()) * 10**9
            except (ValueError, TypeError, OverflowError):
                modified = 0
            length = answer.headers.get("Content-Length", "")
            return Head(answer.headers.get("ETag", ""), modified, int(length) if length.isdecimal() else None)
    except _NoHeadError:
        return None


class _NoHeadError(NotFetched):
    """The server knows no HEAD."""


@contextmanager
def _answer(url: str, method: str, timeout: float) -> Iterator[http.client.HTTPResponse]:
    if has_user(url):
        raise NotFetched("its URL has a user or password in it, which would stand in every output; leave it out")
    try:
        request = urllib.request.Request(written(url), headers={"User-Agent": "Selvedge"}, method=method)
        with _opener().open(request, timeout=timeout) as answer:
            yield answer
    except NotFetched:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        # Not in the server's words: they may move a terminal's cursor, or quote the signature of a redirection.
        said = http.client.responses.get(error.code, "")
        raise _kind_of(error.code)(f"the server answers {error.code} {said}".rstrip()) from None
    except TimeoutError:
        raise Later(f"the server was silent for {timeout:g} seconds") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise Later(f"the server was silent for {timeout:g} seconds") from None
        if not isinstance(error.reason, OSError):  # another scheme in a redirection: this photo's trouble alone
            raise NotFetched(f"it cannot be fetched: {error.reason}") from None
        raise Unreachable(f"it cannot be reached: {error.reason}") from None
    except (ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
        raise Later(f"it cannot be fetched: {str(error) or type(error).__name__}") from None
    except (OSError, ValueError) as error:
        raise NotFetched(f"it cannot be fetched: {str(error) or type(error).__name__}") from None


def _kind_of(status: int) -> type[NotFetched]:
    kinds = ((_LATER, Later), (_GONE, Gone), (_REFUSED, Refused), (_NO_HEAD, _NoHeadError))
    return next((kind for codes, kind in kinds if status in codes), NotFetched)


def _body(answer: http.client.HTTPResponse, limit: int, end: float) -> bytes:
    parts, size = [], 0
    while part := answer.read1(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise NotFetched(f"it has more than {limit} bytes, the most that are fetched")
        if time.monotonic() > end:
            raise Later("it takes too long to come")
    said = answer.length
    if said:
        raise Later(f"the server stopped {said} bytes before its end")
    return b"".join(parts)


def _opener() -> urllib.request.OpenerDirector:
    """What speaks http and https and nothing else, whatever a redirection asks for."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
