"""Photos that a caller names by a URL: http, https and file, within a size and a time, or one named error.

Only what a caller of the library passes as a URL is fetched; no file, label or model can name one. A program that hands
on what strangers send it should pass their bytes: a URL of theirs may point into its own network or at its own files.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.errors import NotFetched
from pipeline.features.backbone.photo_file import read_photo

SCHEMES = ("http://", "https://", "file://")
MAX_BYTES = 64 * 2**20
TIMEOUT, LONGEST = 10.0, 30.0
"""Seconds in which a server must answer or send on, and in which all of the photo must be there."""

_CHUNK = 2**16


def is_url(text: str) -> bool:
    """Whether a text names a photo by one of `SCHEMES`, not by its path."""
    return text[:8].lower().startswith(SCHEMES)


def fetcher(url: str) -> Callable[[], bytes]:
    """What fetches the photo of a URL when it is called."""
    return partial(fetch, url)


def fetch(url: str, limit: int = MAX_BYTES, timeout: float = TIMEOUT, longest: float = LONGEST) -> bytes:
    """The bytes that a URL names.

    Args:
        url: Of one of `SCHEMES`; redirections are followed to http and https alone.
        limit: Most bytes.
        timeout: Seconds that the server may be silent.
        longest: Seconds that all of it may take, one `timeout` more at most.

    Raises:
        NotFetched: it did not come; the text is the reason.
        BadImage, OSError: a file:// URL names a file that cannot be read.
    """
    if url[:7].lower() == "file://":
        return read_photo(_local(url))
    end = time.monotonic() + longest
    try:
        with _opener().open(urllib.request.Request(url, headers={"User-Agent": "Selvedge"}), timeout=timeout) as answer:
            return _body(answer, limit, end)
    except NotFetched:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise NotFetched(f"the server answers {error.code} {error.reason}") from error
    except TimeoutError as error:
        raise NotFetched(f"the server was silent for {timeout:g} seconds") from error
    except urllib.error.URLError as error:
        silent = isinstance(error.reason, TimeoutError)
        why = f"the server was silent for {timeout:g} seconds" if silent else f"it cannot be reached: {error.reason}"
        raise NotFetched(why) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotFetched(f"it cannot be fetched: {str(error) or type(error).__name__}") from error


def _body(answer: http.client.HTTPResponse, limit: int, end: float) -> bytes:
    parts, size = [], 0
    while part := answer.read1(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise NotFetched(f"it has more than {limit} bytes, the most that are fetched")
        if time.monotonic() > end:
            raise NotFetched("it takes too long to come")
    said = answer.length
    if said:
        raise NotFetched(f"the server stopped {said} bytes before its end")
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


def _local(url: str) -> Path:
    place = urllib.parse.urlsplit(url)
    if place.netloc not in ("", "localhost"):
        raise NotFetched(
            f"a file:// URL names a file of this machine, as in file:///photos/a.jpg; found {place.netloc!r}"
        )
    return Path(urllib.request.url2pathname(place.path))
