"""The stage that serves fitted models over HTTP until it is told to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pipeline.errors import OptionError
from pipeline.options import ServeOptions

if TYPE_CHECKING:
    from pipeline.serving.models import ServedModel

_NEEDED = ("starlette", "uvicorn", "python_multipart", "prometheus_client")


@dataclass(frozen=True)
class Started:
    """A server that takes requests.

    Attributes:
        address: Where a browser finds it.
        models: What it serves.
        open_to_others: Whether other machines can reach it.
    """

    address: str
    models: tuple[ServedModel, ...]
    open_to_others: bool


@dataclass(frozen=True)
class ServeReport:
    """What a server did until it was stopped.

    Attributes:
        photos: How many it predicted.
        refused: Photos and requests that it refused.
    """

    photos: int
    refused: int


def serve(options: ServeOptions, started: Callable[[Started], None], told: Callable[[str], None]) -> ServeReport:
    """Serve until SIGTERM, SIGINT (or SIGHUP, which `options.reload` has mean something else); drains its queue first.

    Args:
        options: What is served, where, and what a request may cost.
        started: Called once, when the models were tried and requests are taken.
        told: Called with a line about what happens meanwhile, such as a reload.

    Raises:
        OptionError: A library of requirements-serve.txt is missing, the port cannot be had, an option cannot work.
        ModelFileError, BackboneError: A model or its backbone cannot be had.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise OptionError(f"serve needs {missing[0]}, which is not installed: pip install -r requirements-serve.txt")
    from pipeline.serving.server import Server

    server = Server(options, told)
    models = tuple(server.service.shelf.models.values())
    server.run(lambda: started(Started(server.address, models, server.open_to_others)))
    predicted, refused = server.service.metrics.totals()
    return ServeReport(predicted, refused)
