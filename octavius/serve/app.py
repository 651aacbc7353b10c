"""The HTTP application: routes, token, limits on size, time and number of requests.

    POST /v1/chat/completions   answers a conversation, whole or streamed
    GET  /v1/models             the model, its experts and what it takes
    GET  /health                200 if questions are answered
    GET  /metrics               counts in Prometheus' text format

FastAPI is an extra: it is imported when the application is built, not with this module.
"""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from octavius.limits import POSITIVE_INT, POSITIVE_NUMBER
from octavius.serve.backend import Backend, ClosedError
from octavius.serve.metrics import Metrics
from octavius.serve.replies import Reply, error_object, event
from octavius.serve.requests import MODEL, ChatRequest, RequestError, media_files, read_request
from octavius.serve.rows import Answer, Row

if TYPE_CHECKING:
    from fastapi import FastAPI

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

CHAT = "/v1/chat/completions"
ROUTES = (CHAT, "/v1/models", f"/v1/models/{MODEL}", "/health", "/metrics")
OPEN = ("/health",)
"""Paths that need no token."""

ROW = "octavius.row"
"""Key of a request's row in its ASGI scope."""

DISCARDED, PATIENCE = 1 << 28, 10.0
"""Bytes and seconds for which the body of a refused request is read and dropped.

A client that is still sending would otherwise see a broken connection instead of the reason.
"""


@dataclass(frozen=True)
class Limits:
    """What a server grants.

    Attributes:
        body: bytes of a request.
        tokens: tokens of an answer.
        seconds: time from the first byte of a request to the end of its answer.
        queue: requests that wait, besides those that are answered.
    """

    body: int = 32 << 20
    tokens: int = 1024
    seconds: float = 120.0
    queue: int = 64

    def __post_init__(self) -> None:
        """Validates the numbers, which are called as the options of `octavius serve`."""
        POSITIVE_INT.check(queue=self.queue, max_new_tokens=self.tokens, body_limit=self.body)
        POSITIVE_NUMBER.check(timeout=self.seconds)


class Door:
    """ASGI middleware: checks token and queue before a body is read, counts requests, and cancels orphaned rows."""

    def __init__(self, app: Application, metrics: Metrics, limits: Limits, token: str | None) -> None:
        """Wraps an application.

        Args:
            app: the application.
            metrics: where requests are counted.
            limits: the limits.
            token: what `Authorization: Bearer` has to hold; None lets everyone in.
        """
        self.app, self.metrics, self.limits, self.token = app, metrics, limits, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, begin, status = scope["path"], time.monotonic(), 500
        chat = path == CHAT and scope["method"] == "POST"
        scope["octavius.end"] = begin + self.limits.seconds

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        self.metrics.open += chat
        try:
            if (error := self._refusal(scope, chat)) is not None:
                await refuse(error, receive, noting)
            else:
                await self.app(scope, receive, noting)
        finally:
            self.metrics.open -= chat
            if (row := scope.get(ROW)) is not None:
                row.cancel()  # has no effect on a whole answer
            route = path if path in ROUTES else "other"
            self.metrics.note(route, status, time.monotonic() - begin)

    def _refusal(self, scope: Scope, chat: bool) -> RequestError | None:
        headers = dict(scope["headers"])
        if self.token is not None and scope["path"] not in OPEN:
            kind, _, given = headers.get(b"authorization", b"").partition(b" ")
            if kind.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self.token.encode()):
                said = "the token is wrong" if given else "the token is missing"
                return RequestError(
                    f"{said}: expected the header Authorization: Bearer TOKEN",
                    status=401,
                    code="invalid_api_key",
                )
        if not chat:
            return None
        if self.metrics.open > self.limits.queue + self.metrics.engine.batch_size:
            return RequestError("too many requests are waiting; try again", status=429, code="queue_full")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.limits.body:
            return too_large(self.limits.body)
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":  # a form of a web page elsewhere could send any other without asking
            return RequestError("the header Content-Type should be application/json", status=415)
        return None


def build_app(engine: Backend, limits: Limits, token: str | None = None) -> "FastAPI":
    """The application around an engine.

    Args:
        engine: the running engine.
        limits: the limits.
        token: see `Door`.

    Raises:
        ImportError: FastAPI is not installed.
    """
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.exceptions import HTTPException

    app = FastAPI(title="Octavius", docs_url=None, redoc_url=None, openapi_url=None)
    metrics = Metrics(engine)
    app.add_middleware(Door, metrics=metrics, limits=limits, token=token)

    def failed(error: RequestError) -> Response:
        return JSONResponse(error_object(error), error.status, headers_of(error))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        said = f"{request.method} {request.url.path}: {error.detail}; there are {', '.join(ROUTES)}"
        return failed(RequestError(said, status=error.status_code))

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> Response:
        return failed(error)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:  # the server logs its traceback
        return failed(engine_error(error))

    @app.get("/health")
    async def health() -> Response:
        status = "ok" if engine.alive else "closing"
        return JSONResponse({"status": status, "model": MODEL}, 200 if engine.alive else 503)

    @app.get("/metrics")
    async def counts() -> Response:
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [described(engine)]})

    @app.get("/v1/models/{name}")
    async def model(name: str) -> Response:
        if name != MODEL:
            raise RequestError(f"there is no model {name:.60}", "model", 404, "model_not_found")
        return JSONResponse(described(engine))

    @app.post(CHAT)
    async def chat(request: Request) -> Response:
        end: float = request.scope["octavius.end"]
        asked = read_request(await read_body(request.receive, limits.body, end), limits.tokens)
        answers: asyncio.Queue[Answer | Exception] = asyncio.Queue()
        row = await prepare(engine, asked, end)
        request.scope[ROW] = row
        loop = asyncio.get_running_loop()
        try:
            engine.submit(row, lambda answer: _tell(loop, answers, answer))
        except ClosedError as error:
            raise RequestError(str(error), status=503) from None
        reply = Reply(asked.usage)
        watch = asyncio.create_task(cancel_when_gone(request.receive, row))
        try:
            answer = await next_answer(answers, row, end)
            if asked.stream:
                return StreamingResponse(
                    events(answer, answers, row, end, reply), media_type="text/event-stream"
                )
            while answer.finish is None:
                answer = await next_answer(answers, row, end)
            return JSONResponse(reply.whole(answer))
        finally:
            watch.cancel()

    return app


def described(engine: Backend) -> dict[str, Any]:
    """The entry of the model in the list of models."""
    facts = {"experts": engine.experts, "modalities": list(engine.modalities)}
    return {"id": MODEL, "object": "model", "created": 0, "owned_by": "octavius", **facts}


def headers_of(error: RequestError) -> dict[str, str]:
    """The headers that go with an error's status."""
    return {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}, 503: {"Retry-After": "10"}}.get(
        error.status, {}
    )


def too_large(most: int) -> RequestError:
    """The error of a body over the limit."""
    return RequestError(f"the body has more than {most:,} bytes; scale pictures down", status=413)


async def refuse(error: RequestError, receive: Receive, send: Send) -> None:
    """Drops the body of a request and sends the error."""
    from fastapi.responses import JSONResponse

    left = DISCARDED
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    response = JSONResponse(error_object(error), error.status, headers_of(error))
    await response({"type": "http"}, receive, send)


async def read_body(receive: Receive, most: int, end: float) -> bytes:
    """The body of a request.

    Args:
        receive: the request's messages.
        most: largest number of bytes.
        end: the time by which it has to be there.

    Raises:
        RequestError: it is larger, takes longer, or the client has gone.
    """
    parts, size = [], 0
    try:
        async with asyncio.timeout(end - time.monotonic()):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RequestError("the client has gone", status=499)
                size += len(message.get("body", b""))
                if size <= most:
                    parts.append(message.get("body", b""))
                elif size > most + DISCARDED:
                    raise too_large(most)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise RequestError("the body did not arrive in time", status=408) from None
    if size > most:
        raise too_large(most)
    return b"".join(parts)


async def prepare(engine: Backend, asked: ChatRequest, end: float) -> Row:
    """Builds the prompt and loads the media on a thread.

    Raises:
        RequestError: the question cannot be answered, or there was no time.
    """

    def on_thread() -> Row:
        named = asked.placed or tuple(asked.media.items())
        with media_files([medium for _, medium in named]) as files:
            media = tuple(zip((modality for modality, _ in named), files, strict=True))
            if asked.placed:
                return engine.prepare(replace(asked.question, placed=media))
            return engine.prepare(replace(asked.question, media=dict(media)))

    try:
        async with asyncio.timeout(end - time.monotonic()):
            return await asyncio.to_thread(on_thread)
    except TimeoutError:
        raise out_of_time() from None
    except ValueError as error:
        raise RequestError(str(error), "messages") from None


def out_of_time() -> RequestError:
    """The error of a request without any answer at the end of its time."""
    return RequestError("there was no time to answer; ask again later, or raise --timeout", status=504)


async def next_answer(answers: asyncio.Queue[Answer | Exception], row: Row, end: float) -> Answer:
    """The next state of an answer; at the end of the time, the answer so far as cancelled.

    Raises:
        RequestError: there is none at the end of the time, or the engine failed.
    """
    try:
        async with asyncio.timeout(end - time.monotonic()):
            answer = await answers.get()
    except TimeoutError:
        row.cancel()
        if not row.answer.tokens:
            raise out_of_time() from None
        return replace(row.answer, finish=row.answer.finish or "cancelled")
    if isinstance(answer, Exception):
        raise engine_error(answer) from None
    return answer


def engine_error(error: Exception) -> RequestError:
    """What a client is told of an error in the engine: what it can do about it, but nothing of the inside."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, ClosedError):
        return RequestError(str(error), status=503)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return RequestError("there was not enough memory for this question", status=503)
    if isinstance(error, ValueError):
        return RequestError(str(error), "messages")
    return RequestError("the question could not be answered because of an error in the server", status=500)


async def events(
    answer: Answer, answers: asyncio.Queue[Answer | Exception], row: Row, end: float, reply: Reply
) -> AsyncIterator[str]:
    """The server-sent events of a streamed answer, from its first state on."""
    yield reply.first(answer)
    sent = 0
    while True:
        if len(answer.text) > sent:
            yield reply.more(answer.text[sent:])
            sent = len(answer.text)
        if answer.finish is not None:
            break
        try:
            answer = await next_answer(answers, row, end)
        except RequestError as error:
            yield event(error_object(error))
            return
    yield reply.last(answer)


async def cancel_when_gone(receive: Receive, row: Row) -> None:
    """Cancels a row as soon as its client has gone; the body was read before."""
    while (await receive())["type"] != "http.disconnect":
        pass
    row.cancel()


def _tell(
    loop: asyncio.AbstractEventLoop, answers: asyncio.Queue[Answer | Exception], answer: Answer | Exception
) -> None:
    """Hands a state from the engine's thread to the event loop."""
    with suppress(RuntimeError):  # the loop has been closed
        loop.call_soon_threadsafe(answers.put_nowait, answer)
