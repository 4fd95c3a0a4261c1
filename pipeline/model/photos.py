"""What callers name photos by: files, folders, patterns, URLs, bytes, open files, images, arrays; and their names."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeGuard

import numpy as np

from pipeline.catalogue.reading.photos import is_photo
from pipeline.errors import BadImage, OptionError
from pipeline.features.backbone.limits import MAX_FILE_BYTES
from pipeline.remote import RemotePhoto, RemotePhotos, is_bucket, is_url, list_photos, local_path, place_of
from pipeline.system import open_regular, parsed

if TYPE_CHECKING:
    from pipeline.features.sources import Source


def listed(photos: Any) -> list[Any]:
    """One photo, or several, as a list of photos: whatever `named_source` takes."""
    one = isinstance(photos, str | os.PathLike | bytes | bytearray | memoryview | np.ndarray)
    return [photos] if one or hasattr(photos, "read") or _is_image(photos) else list(photos)


def named_source(photo: Any, index: int) -> tuple[str, Source]:
    """What reads one photo, and its name: its path or URL, or `photo <index>` for what has neither.

    Args:
        photo: A path, a URL (http, https, file), the bytes of a file, an open binary file, an image of Pillow, or a
            uint8 array (h, w, 3) of RGB or (h, w) of grey.
        index: Its position.

    Raises:
        TypeError: it is nothing that can be a photo.
    """
    if isinstance(photo, str) and is_url(photo):
        return _of_url(photo)
    if isinstance(photo, str | os.PathLike):
        return os.fspath(photo), photo
    name = f"photo {index}"
    if isinstance(photo, bytes | bytearray | memoryview):
        return name, bytes(photo)
    if isinstance(photo, np.ndarray) or _is_image(photo):
        return name, photo
    if hasattr(photo, "read"):
        return name, partial(_read, photo)
    raise TypeError(
        f"photo {index} is a {type(photo).__name__}; expected a path, a URL, bytes, an open binary file, an image of"
        " Pillow or a uint8 array"
    )


def find_photos(given: Sequence[str | os.PathLike[str]]) -> tuple[list[str], list[str | RemotePhoto]]:
    """(names, photos) that files, folders, patterns and URLs stand for, each once, folders in sorted order.

    Names are relative to the folder when one folder is all that is given, else the paths as found.

    Raises:
        OptionError: For something that does not exist and when no photo is found.
        RemoteError: A bucket cannot be listed.
    """
    paths: dict[str | RemotePhoto, None] = {}
    for each in given:
        paths.update(dict.fromkeys(_photos_of(os.fspath(each))))
    if not paths:
        where = ", ".join(os.fspath(each) for each in given) or "nothing"
        raise OptionError(f"no photo found in {where}; name image files, folders or patterns such as 'photos/*.jpg'")
    found = list(paths)
    if len(given) == 1 and not is_url(os.fspath(given[0])) and Path(given[0]).is_dir():
        return [Path(str(path)).relative_to(given[0]).as_posix() for path in found], found
    return [str(path) for path in found], found


def found_sources(photos: Any) -> tuple[list[str], list[Source]]:
    """(names, sources) of photos among which paths may also be folders and patterns.

    Raises:
        OptionError: as `find_photos` does.
        TypeError: as `named_source` does.
    """
    given = listed(photos)
    if all(_is_path(photo) for photo in given):
        names, paths = find_photos(given)
        return names, list(paths)
    names, sources = [], []
    for photo in given:
        each = find_photos([photo])[1] if _is_path(photo) else [photo]
        for found in each:
            name, source = named_source(found, len(names))
            names.append(name)
            sources.append(source)
    return names, sources


def _is_path(photo: Any) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(photo, os.PathLike) or (isinstance(photo, str) and not is_url(photo))


def _is_image(photo: Any) -> bool:
    from PIL.Image import Image

    return isinstance(photo, Image)


def _read(file: BinaryIO) -> bytes:
    """What is left of an open file, one byte more than allowed at most."""
    data: object = file.read(MAX_FILE_BYTES + 1)
    if not isinstance(data, bytes):
        raise BadImage("a file that is open as text; open it in binary mode, as in open(path, 'rb')")
    return data


def _require_photo(path: Path) -> None:
    """OptionError for a file that is called otherwise than a photo and does not begin like one, such as a CSV."""
    from PIL import Image, UnidentifiedImageError

    if not path.suffix or is_photo(path.name) or not path.is_file():
        return
    where = f"; labelled photos of a catalogue are for evaluate --data {path}" if path.suffix == ".csv" else ""
    advice = f"); name photos, folders of photos or patterns{where}"
    with parsed(OptionError, f"{path} is no photo (", advice), open_regular(path) as file:
        try:
            Image.open(file)
        except UnidentifiedImageError:
            # Pillow's own text names the open file, not its path.
            raise ValueError("not an image in a known format") from None


def _of_url(url: str) -> tuple[str, Source]:
    """A URL's photo by itself: its name without secrets, and what reads it."""
    if url[:7].lower() == "file://":
        return url, partial(_read_local, url)
    photo = RemotePhoto.named(url)
    return photo.name, photo


def _read_local(url: str) -> bytes:
    from pipeline.features.backbone.photo_file import read_photo

    return read_photo(local_path(url))


def _photos_at(url: str) -> list[RemotePhoto]:
    """The photo that a URL names, or all under a prefix of a bucket."""
    if not is_bucket(url):
        return [RemotePhoto.named(url)]
    place = place_of(url)
    if not url.endswith("/") and is_photo(place.path):
        return [RemotePhoto.named(url)]
    stamps = {name: stamp for name, stamp in sorted(list_photos(place).items()) if is_photo(name)}
    if not stamps:
        raise OptionError(f"no photo found under {place}; is it the right bucket and prefix?")
    return list(RemotePhotos(place, list(stamps), list(stamps.values())))


def _photos_of(name: str) -> Sequence[str | RemotePhoto]:
    if name[:7].lower() == "file://":
        name = str(local_path(name))
    elif is_url(name):
        return _photos_at(name)
    path = Path(name)
    if path.is_dir():
        return sorted(str(found) for found in path.rglob("*") if is_photo(found.name) and found.is_file())
    if path.exists():
        _require_photo(path)
        return [name]
    # Path.glob refuses absolute patterns; the plain function takes what a shell would.
    matches = sorted(match for match in glob.glob(name, recursive=True) if Path(match).is_file())  # noqa: PTH207
    if not matches:
        raise OptionError(f"no such photo or folder: {name}")
    return [match for match in matches if is_photo(match)]
