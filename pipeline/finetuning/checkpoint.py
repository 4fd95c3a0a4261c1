"""Files that are whole or not there, and the one training that may write to a folder."""

from __future__ import annotations

import contextlib
import fcntl
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import OptionError, RunError
from pipeline.features.backbone.torch_file import load_torch_file
from pipeline.system import open_regular, parsed, whole_file

NAME = "checkpoint.pt"


def save_checkpoint(folder: Path, content: Mapping[str, Any]) -> None:
    """Replace the folder's checkpoint: tensors, numbers, texts, lists and dicts of them."""
    # In memory first: where the disk is full, the library tells of positions in the file and not of the disk.
    stream = io.BytesIO()
    torch.save(dict(content), stream)
    with whole_file(folder / NAME) as partial:
        partial.write_bytes(stream.getbuffer())


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The folder's checkpoint, on the CPU; None when there is none.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return None
    with parsed(RunError, f"{path} is damaged (", "); remove it to start again", lines=1):
        with open_regular(path) as file:
            content: dict[str, Any] = load_torch_file(file)
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}; expected a dict")
    return content


def require_same(folder: Path, given: Mapping[str, Any], held: Mapping[str, Any]) -> None:
    """Compare what decides the numbers of this training with what a folder's training was started with.

    Raises:
        OptionError: naming what differs, with both values.
    """
    names = [name for name in {**held, **given} if given.get(name) != held.get(name)]
    if names:
        said = "; ".join(f"{name} was {held.get(name)}, now {given.get(name)}" for name in names)
        raise OptionError(f"{folder} holds a training with other settings ({said}); name another folder with --out")


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which dies with the process.

    Raises:
        RunError: While another training has it.
    """
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another process is training in {folder}; let it finish, or name another --out") from None
        yield
