"""Converted models in the cache folder (`runtimes/`): whole as they were written, or made again.

    runtimes/<fingerprint>/     the files of one model, and seal.json: its fingerprint and the SHA-256 of each file
    runtimes/<digest>.json      what is known of a network (see `pipeline.features.backbone.network.known`)

A damaged model would give wrong vectors under a right key, so a model is only taken from bytes that were compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from cache.owner import is_abandoned, owned_name
from pipeline import shapes
from pipeline.errors import BackboneError
from pipeline.system import open_regular, parsed, read_text, sync_folder

SEAL = "seal.json"
_TEMPORARY = ".converting-"
_SEAL = shapes.record({"model": shapes.text, "files": shapes.mapping(shapes.text)})
_MOST_SEAL_BYTES = 2**20


def check_converted(folder: Path) -> str | None:
    """Compare every byte of a converted model with what was written. Nothing is changed.

    Args:
        folder: A folder of the store, such as `features/runtimes/<fingerprint>`.

    Returns:
        What is wrong with it, or None. A model with something wrong is made again by the next `extract`.

    Raises:
        OSError: the files cannot be read, which says nothing about their content.
    """
    try:
        read_converted(folder)
    except BackboneError as error:
        return str(error)
    return None


def converted_models(store: Path) -> list[Path]:
    """Folders of the converted models in a store, sorted; temporary ones are none."""
    entries = store.iterdir() if store.is_dir() else ()
    return sorted(path for path in entries if path.is_dir() and not path.name.startswith("."))


def damaged_models(store: Path) -> list[tuple[Path, str]]:
    """The converted models of a store that are damaged or cannot be read, each with what is wrong with it."""
    damaged = []
    for folder in converted_models(store):
        try:
            detail = check_converted(folder)
        except OSError as error:
            detail = f"cannot be read ({error.strerror or error})"
        if detail is not None:
            damaged.append((folder, detail))
    return damaged


def read_converted(folder: Path) -> dict[str, bytes]:
    """The files of a converted model.

    Args:
        folder: Its folder in the store.

    Returns:
        Content per file name, the very bytes that were compared.

    Raises:
        BackboneError: these are not the files that were written.
        OSError: the files cannot be read.
    """
    try:
        text = read_text(folder / SEAL, _MOST_SEAL_BYTES)
    except FileNotFoundError:
        raise BackboneError(f"{folder} has no {SEAL}, so its files cannot be checked") from None
    except UnicodeDecodeError:
        raise BackboneError(f"{folder / SEAL} is damaged") from None
    with parsed(BackboneError, f"{folder / SEAL} is damaged (", ")"):
        seal = json.loads(text)
        _SEAL(seal, "")
        model, digests = seal["model"], seal["files"]
    if model != folder.name:
        raise BackboneError(f"{folder} holds the model of another folder, {model}")
    there = {path.name for path in folder.iterdir()} - {SEAL}
    if there != set(digests):
        raise BackboneError(f"{folder} holds {', '.join(sorted(there)) or 'nothing'} instead of what was written")
    files = {name: _content(folder / name) for name in sorted(digests)}
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != digests[name]:
            raise BackboneError(f"{folder / name} is not what was written: its SHA-256 differs")
    return files


def _content(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def store_converted(folder: Path, save: Callable[[Path], None], replace: bool = False) -> None:
    """Put a converted model into the store, durably and whole or not at all.

    Args:
        folder: Its folder in the store; the name is its fingerprint.
        save: Writes the files of the model into the folder it is given.
        replace: There is a damaged one to be replaced.

    Raises:
        OSError: the store cannot be written, or another process has stored this model meanwhile.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=owned_name(_TEMPORARY), dir=folder.parent) as work:
        ready = Path(work, "ready")
        ready.mkdir()
        save(ready)
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(ready.iterdir())}
        (ready / SEAL).write_text(json.dumps({"model": folder.name, "files": digests}, indent=1))
        for path in ready.iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        sync_folder(ready)
        if replace:
            folder.rename(Path(work, "damaged"))
        ready.rename(folder)
        sync_folder(folder.parent)


def store_record(path: Path, text: str) -> None:
    """Put a text into the store, durably and whole or not at all; what had its name before is replaced.

    Raises:
        OSError: The store cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{_TEMPORARY}{os.getpid()}-", dir=path.parent) as work:
        ready = Path(work, path.name)
        ready.write_text(text, encoding="utf-8")
        with ready.open("rb") as stream:
            os.fsync(stream.fileno())
        ready.rename(path)
        sync_folder(path.parent)


def remove_temporary(store: Path) -> None:
    """Remove what conversions that were killed left behind; those of living processes, and of other hosts, stay."""
    for unfinished in store.glob(f"{_TEMPORARY}*"):
        if is_abandoned(unfinished, _TEMPORARY):
            shutil.rmtree(unfinished, ignore_errors=True)
