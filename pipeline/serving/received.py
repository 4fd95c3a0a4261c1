"""The photos of a request: read within its bytes, its time and its number of photos, held in memory alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from pipeline.errors import NotFetched, OptionError, printable
from pipeline.features.backbone.photo_file import read_photo
from pipeline.features.sources import Source
from pipeline.options import ServeOptions
from pipeline.serving.refused import Refused
from pipeline.system import parsed, wrong_text

HELD = 8
"""Requests of the largest size that may be in memory at a time."""

_LONGEST_NAME, _LONGEST_PATH = 300, 4096
_LONGEST_JSON = 2**20
"""Bytes of paths: they are parsed while no other request is answered, and lists take many times their memory."""

_FIELDS = 8

Photo = tuple[str, Source]
"""What an answer calls a photo, and what reads it."""


class Intake:
    """What reads the bodies of all requests, in the thread of the event loop.

    Args:
        options: Bytes, photos and seconds of a request; the folder whose photos it may name.

    Raises:
        OptionError: There is no such folder.
    """

    def __init__(self, options: ServeOptions) -> None:
        self.options, self.held = options, 0
        self.folder = None if options.allow_paths is None else _folder(options.allow_paths)

    @contextlib.contextmanager
    def place(self) -> Iterator[Share]:
        """What one request holds of the memory that is there for all, until the block ends."""
        share = Share(self)
        try:
            yield share
        finally:
            self.held -= share.bytes

    async def photos(self, request: Request, share: Share) -> list[Photo]:
        """The photos of a request, in their order.

        Raises:
            Refused: It holds none, or more than is allowed, cannot be read, or takes too long to come.
        """
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and len(stated) < 20:
            share.check(int(stated))
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        read = {"multipart/form-data": self._form, "application/json": self._named}.get(kind, self._body)
        try:
            async with asyncio.timeout(self.options.request_timeout):
                photos = await read(request, share)
        except TimeoutError:
            text = f"the request did not come within {self.options.request_timeout:g} seconds"
            raise Refused(408, "slow", text) from None
        except ClientDisconnect:
            raise Refused(400, "client_gone", "the client has gone") from None
        if not photos:
            raise Refused(400, "bad_request", "no photo in the request: send one as its body, or files in a form")
        if len(photos) > self.options.max_photos:
            raise self._too_many()
        return photos

    async def _body(self, request: Request, share: Share) -> list[Photo]:
        data = await _whole(request, share)
        return [("photo 0", data)] if data else []

    async def _form(self, request: Request, share: Share) -> list[Photo]:
        chunks = _chunks(request, share)
        parser = MultiPartParser(request.headers, chunks, max_files=self.options.max_photos, max_fields=_FIELDS)
        # Beyond this a part would be written to a file; no part is as large as that.
        parser.spool_max_size = self.options.max_bytes + 1
        try:
            form = await parser.parse()
        except MultiPartException as error:
            if error.message.startswith("Too many files"):
                raise self._too_many() from None
            raise Refused(400, "bad_request", f"the form cannot be read: {error.message}") from None
        photos: list[Photo] = []
        for name, part in form.multi_items():
            if not isinstance(part, UploadFile):
                text = f"the field {_shown(name)!r} of the form is no file; send photos as files"
                raise Refused(400, "bad_request", text)
            photos.append((_shown(part.filename or f"photo {len(photos)}"), await part.read()))
        return photos

    async def _named(self, request: Request, share: Share) -> list[Photo]:
        if self.folder is None:
            text = "photos can be named only where the server was started with --allow-paths FOLDER; send their bytes"
            raise Refused(403, "bad_request", text)
        data = await _whole(request, share, _LONGEST_JSON)
        try:
            with parsed(OptionError, "the request is no JSON (", ")"):
                content = json.loads(data)
            names = _names(content)
        except OptionError as error:
            raise Refused(400, "bad_request", str(error)) from None
        if len(names) > self.options.max_photos:
            raise self._too_many()
        return [(_shown(name), partial(_read, self.folder, name)) for name in names]

    def _too_many(self) -> Refused:
        return Refused(413, "too_many_photos", f"more than {self.options.max_photos} photos in one request")


class Share:
    """The bytes that one request holds."""

    def __init__(self, intake: Intake) -> None:
        self.intake, self.bytes = intake, 0

    def add(self, count: int) -> None:
        """Hold more bytes.

        Raises:
            Refused: The request, or all of them together, would hold too many.
        """
        self.check(count)
        self.bytes += count
        self.intake.held += count

    def check(self, more: int) -> None:
        """Refuse what `add` would refuse."""
        most = self.intake.options.max_bytes
        if self.bytes + more > most:
            raise Refused(413, "too_large", f"the request has more than {most} bytes")
        if self.intake.held + more > HELD * most:
            raise Refused(429, "overloaded", "too many bytes are on their way to the server; come again", 1.0)


async def _chunks(request: Request, share: Share) -> AsyncGenerator[bytes, None]:
    async for chunk in request.stream():
        share.add(len(chunk))
        yield chunk


async def _whole(request: Request, share: Share, most: int | None = None) -> bytes:
    parts = []
    async for chunk in _chunks(request, share):
        if most is not None and share.bytes > most:
            raise Refused(413, "too_large", f"the request has more than {most} bytes of JSON")
        parts.append(chunk)
    return b"".join(parts)


def _names(content: object) -> list[str]:
    """The paths that a JSON request names."""
    names = content.get("photos") if isinstance(content, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise OptionError('expected {"photos": ["a.jpg", "more/b.jpg"]}, paths below the folder of --allow-paths')
    return names


def _read(folder: Path, name: str) -> bytes:
    """A photo that is named by its path below a folder, or by a file:// URL of it; in a decoding thread.

    Raises:
        NotFetched: There is none of that name there.
        BadImage: It is no regular file, or too large.
    """
    # Whether it is elsewhere, a folder or nothing is not for the client to know.
    absent = NotFetched("no such photo in the folder whose photos may be named")
    if "://" in name and not name.lower().startswith("file:///"):
        raise NotFetched("a URL is not fetched; a photo can be named by its path, or as file:///folder/photo.jpg")
    path = unquote(urlsplit(name).path) if "://" in name else name
    if wrong_text(path) or len(path) > _LONGEST_PATH:
        raise absent
    try:
        found = (folder / path).resolve(strict=True)
        if not found.is_relative_to(folder) or not found.is_file():
            raise absent
        return read_photo(found)
    except (OSError, RuntimeError):  # RuntimeError: links that lead in a circle
        raise absent from None


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise OptionError(f"--allow-paths is {path}, which is no folder")
    return path.resolve()


def _shown(name: str) -> str:
    return printable(name[:_LONGEST_NAME])
