"""The routes: what each path answers, and what holds for all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pipeline.arrays import Float32, Float64
from pipeline.errors import BadImage, OptionError, PipelineError
from pipeline.evaluation.thresholds import without_rows_to_tune_on
from pipeline.options import ServeOptions
from pipeline.serving import answers
from pipeline.serving.batches import Batches
from pipeline.serving.guard import Guard, body_of
from pipeline.serving.metrics import CONTENT_TYPE, Metrics
from pipeline.serving.models import ServedModel, Shelf, read_shelf
from pipeline.serving.page import page_files
from pipeline.serving.received import Intake
from pipeline.serving.refused import Refused, reason_of

Told = Callable[[str], None]


class Service:
    """The models, the queue and the routes of one server.

    Args:
        options: What is served and what a request may cost.
        told: Takes lines about what happens while it serves.

    Raises:
        OptionError, ModelFileError, BackboneError: A model, its backbone, or the folder of photos cannot be had.
    """

    def __init__(self, options: ServeOptions, told: Told) -> None:
        if options.max_photos > options.queue:
            text = f"--max-photos is {options.max_photos}, more than fit into the queue (--queue {options.queue})"
            raise OptionError(text)
        self.options, self.told = options, told
        self.intake = Intake(options)
        self.shelf: Shelf = read_shelf(options)
        self.metrics = Metrics(options.queue)
        self.batches = Batches(options, self.shelf.streams, self.metrics)
        self.metrics.measure(lambda: self.batches.inside, lambda: self.batches.alive)
        self._reloading = asyncio.Lock()

    def app(self, hosts: frozenset[str] | None) -> Guard:
        """The application.

        Args:
            hosts: Names by which requests may call this server; any where None.
        """
        routes = [
            *(Route(path, _file(content, kind)) for path, (content, kind) in page_files().items()),
            Route("/predict", self.predict, methods=["POST"]),
            Route("/labels", self.labels),
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self.measured),
        ]
        if self.options.reload:
            routes.append(Route("/reload", self.reload_asked, methods=["POST"]))
        handlers = {Refused: self.refused, HTTPException: self.not_served, Exception: self.failed}
        inner = Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]  # of each its own
        paths = frozenset(route.path for route in routes)
        return Guard(inner, self.metrics, paths, hosts)

    async def predict(self, request: Request) -> Response:
        """Values of the photos in a request."""
        model = self._model(request)
        limits = _thresholds(model, request.query_params.get("threshold"))
        with self.intake.place() as share:
            photos = await self.intake.photos(request, share)
            names = [name for name, _ in photos]
            futures = self.batches.submit(model, [source for _, source in photos])
            del photos
            found = await self._found(request, futures)
        for row in found:
            if isinstance(row, BadImage):
                self.metrics.rejected(reason_of(row))
            else:
                self.metrics.predicted.labels(model.name).inc()
        return JSONResponse(answers.answer(model, names, found, limits), answers.status(found))

    async def labels(self, request: Request) -> Response:
        """What the models know."""
        return JSONResponse(answers.labels(self.shelf, self.options))

    async def health(self, request: Request) -> Response:
        """That the process is up."""
        return PlainTextResponse("up\n")

    async def ready(self, request: Request) -> Response:
        """Whether photos can be predicted: the models are loaded and were tried, the inference thread lives."""
        if self.batches.alive:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("the inference thread is not running\n", 503)

    async def measured(self, request: Request) -> Response:
        """Counts and times."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def reload_asked(self, request: Request) -> Response:
        """Read the model files again; what is served stays where that fails."""
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
            raise Refused(403, "bad_request", "a page of another site cannot ask for this")
        try:
            changed = await self.reload()
        except PipelineError as error:
            raise Refused(409, "bad_request", f"the models are as they were: {error}") from None
        return JSONResponse({"models": {name: model.digest for name, model in self.shelf.models.items()}, **changed})

    async def reload(self) -> dict[str, bool]:
        """Read the model files again and, once all are tried, serve them in place of the present ones.

        Raises:
            PipelineError: One cannot be had; what is served stays.
        """
        async with self._reloading:
            try:
                shelf = await asyncio.to_thread(read_shelf, self.options)
            except PipelineError as error:
                self.metrics.reloads.labels("failed").inc()
                self.told(f"reload failed, the models are as they were: {error}")
                raise
            changed = [m.digest for m in shelf.models.values()] != [m.digest for m in self.shelf.models.values()]
            self.shelf = shelf
            self.metrics.reloads.labels("done").inc()
            self.told("reloaded: the model files have changed" if changed else "reloaded: the model files are the same")
            return {"changed": changed}

    async def refused(self, request: Request, error: Refused) -> Response:
        """The answer to a request that is not served."""
        self.metrics.rejected(error.reason)
        if error.reason != "slow":
            await body_of(request.scope).drained(self.options.max_bytes)
        return JSONResponse({"error": {"reason": error.reason, "text": str(error)}}, error.status, error.headers)

    async def failed(self, request: Request, error: Exception) -> Response:
        """The answer where a fault of this program came between; what it is stands in the server's log."""
        self.metrics.rejected("internal")
        return JSONResponse({"error": {"reason": "internal", "text": "a fault of the server; its log has more"}}, 500)

    async def not_served(self, request: Request, error: HTTPException) -> Response:
        """The answer where there is no such path or method."""
        await body_of(request.scope).drained(self.options.max_bytes)
        content = {"error": {"reason": "not_found", "text": error.detail}}
        return JSONResponse(content, error.status_code, dict(error.headers or {}))

    def _model(self, request: Request) -> ServedModel:
        name = request.query_params.get("model")
        model = self.shelf.named(name)
        if model is None:
            near = self.shelf.likeliest(name or "")
            hint = f"; did you mean {near}?" if near else ""
            raise Refused(404, "not_found", f"no such model; there are {', '.join(self.shelf.models)}{hint}")
        return model

    async def _found(self, request: Request, futures: Sequence[Future[Float32]]) -> list[Float32 | BadImage]:
        """Probabilities or error of each photo, unless its client goes or the time is over first."""
        done = asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            either: set[asyncio.Future[Any]] = {done, gone}
            timeout = self.options.request_timeout
            await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return [_own(row) for row in done.result()]
            if gone.done():
                raise Refused(400, "client_gone", "the client has gone")
            raise Refused(503, "overloaded", f"no answer within {timeout:g} seconds; come again", timeout)
        finally:
            gone.cancel()
            if not done.done():
                for future in futures:
                    future.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await done


def _own(row: Float32 | BaseException) -> Float32 | BadImage:
    if isinstance(row, BaseException) and not isinstance(row, BadImage):
        raise row
    return row


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _thresholds(model: ServedModel, asked: str | None) -> Float64:
    if asked is None:
        return np.asarray(model.predictor.model["thresholds"], np.float64)
    try:
        return without_rows_to_tune_on(asked[:100], model.predictor.schema)
    except OptionError as error:
        raise Refused(400, "bad_request", str(error).replace("--threshold", "threshold", 1)) from None


def _file(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer
