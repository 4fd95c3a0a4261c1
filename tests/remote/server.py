"""A server on loopback that holds photos: plain http, and the part of S3 that listing and reading need.

What can go wrong is planted per key: answers 500, silence, an object that vanishes, that may not be read, or that never
ends. Every request is noted.
"""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "photos"


@dataclass
class Objects:
    """What the server holds and what it does wrong.

    Attributes:
        held: Key -> (bytes, seconds since the epoch when they were written).
        fails: Key -> how many more times the answer is 500.
        slow: Key -> seconds before an answer.
        vanished: Keys that are listed and not there.
        denied: Keys that may not be read; "" for the whole bucket.
        endless: Keys whose bytes never end, under a lying length or none.
        moved: Key -> where its answer, whose reason would clear a terminal, sends who asks.
        requests: (method, key or "list") of each request.
        page: Keys per page of a listing.
    """

    url: str = ""
    held: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    fails: dict[str, int] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    vanished: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    endless: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    page: int = 7

    def put(self, key: str, data: bytes, when: float = 1_700_000_000.0) -> None:
        self.held[key] = (data, when)

    def count(self, method: str) -> int:
        return sum(each == method for each, key in self.requests if key != "list")


@contextmanager
def served() -> Iterator[Objects]:
    objects = Objects()

    class Handler(_Handler):
        there = objects

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        objects.url = f"http://127.0.0.1:{running.server_address[1]}"
        yield objects
        running.shutdown()


class _Handler(http.server.BaseHTTPRequestHandler):
    there: Objects
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if "list-type" in parse_qs(url.query):
            self._list(parse_qs(url.query))
        else:
            self._serve(body=True)

    def log_message(self, *args: object) -> None:
        pass

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}").lstrip("/")

    def _serve(self, body: bool) -> None:
        there, key = self.there, self._key()
        there.requests.append((self.command, key))
        time.sleep(there.slow.get(key, 0))
        if there.fails.get(key, 0) > 0:
            there.fails[key] -= 1
            return self._error(500, "InternalError")
        if key in there.moved:
            self.send_response(302, "\x1b[2J")
            self.send_header("Location", there.moved[key])
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if "" in there.denied or key in there.denied:
            return self._error(403, "AccessDenied")
        if key not in there.held or key in there.vanished:
            return self._error(404, "NoSuchKey")
        data, when = there.held[key]
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        if self.headers.get("If-Match", tag) != tag:
            return self._error(412, "PreconditionFailed")
        self.send_response(200)
        self.send_header("ETag", tag)
        self.send_header("Last-Modified", formatdate(when, usegmt=True))
        self.send_header("Content-Length", str(2**40 if key in there.endless and body else len(data)))
        self.end_headers()
        if body and key in there.endless:
            for _ in range(2**20):
                self.wfile.write(bytes(2**16))
        elif body:
            self.wfile.write(data)

    def _list(self, query: dict[str, list[str]]) -> None:
        there = self.there
        there.requests.append(("GET", "list"))
        if "" in there.denied:
            return self._error(403, "AccessDenied")
        if there.fails.get("list", 0) > 0:
            there.fails["list"] -= 1
            return self._error(503, "SlowDown")
        prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
        keys = sorted(key for key in there.held if key.startswith(prefix) and key > after)
        page = keys[: there.page]
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_iso(there.held[key][1])}</LastModified>"
            f"<ETag>&quot;{hashlib.md5(there.held[key][0]).hexdigest()}&quot;</ETag>"
            f"<Size>{len(there.held[key][0])}</Size></Contents>"
            for key in page
        )
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(keys) > len(page) else ""
        self._send(200, f"<ListBucketResult><Name>{BUCKET}</Name>{rows}{more}</ListBucketResult>")

    def _error(self, status: int, code: str) -> None:
        self._send(status, f"<Error><Code>{code}</Code></Error>")

    def _send(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _iso(when: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(when))
