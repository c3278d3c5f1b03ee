"""What every request gets, found or not: an id, safe headers, HEAD, a log line, a count, and an answer at the worst.

Pure ASGI, so that a caller who leaves is seen by the route.
"""

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import describe, respond
from app.api.record import Record, open_record
from app.api.service import Service
from app.api.tracing import Tracing

CLIENT_LEFT = 499
# Where a route says nothing else: answers are no pages, may be shown in none, and are for the caller alone.
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),  # for browsers that do not know the policy's frame-ancestors
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
UNMATCHED = "unmatched"  # instead of a route
log = structlog.get_logger("precis")


class Envelope:
    """The only middleware."""

    def __init__(self, app: ASGIApp, service: Service, tracing: Tracing | None) -> None:
        self.app = app
        self.service = service
        self.tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = open_record(Headers(scope=scope))
        inner = _inner_scope(scope, record)
        answer = Answer(send, record, without_body=scope["method"] == "HEAD", closing=lambda: self.service.draining)
        try:
            await self.app(inner, receive, answer.send)
        except ClientDisconnect:
            answer.status = CLIENT_LEFT  # perhaps after it had begun
        except asyncio.CancelledError:  # how some servers tell it
            answer.status = CLIENT_LEFT
            raise
        except Exception as error:
            _log_unforeseen(error, record)
            if answer.status is None:
                await respond(Request(inner), error)(inner, receive, answer.send)
            else:  # not raised: the server would log its message. It closes the connection of an answer without an end.
                record.status = describe(error).status
        finally:
            route = getattr(inner.get("route"), "path", None)
            self._account(scope, route, record, record.status or answer.status or CLIENT_LEFT)

    def _account(self, scope: Scope, route: str | None, record: Record, status: int) -> None:
        seconds = time.perf_counter() - record.started
        self.service.metrics.count_request(route or UNMATCHED, status, seconds)
        if self.tracing is not None:
            self.tracing.record(scope, record, route, status)
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and not record.texts:  # the engine counts what reaches it
            self.service.metrics.refused.labels("too_large").inc()
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self.service.metrics.refused.labels("key_limit").inc()
        log.log(
            _level(status),
            "request",
            method=scope["method"],
            route=route or UNMATCHED,
            status=status,
            ms=round(seconds * 1000, 1),
            request_id=record.request_id,
            key=record.key,
            texts=record.texts,
            characters=record.characters,
            error=record.error,
            **record.trace(),
        )


class Answer:
    """Sends a response with the headers that all have in common."""

    def __init__(self, send: Send, record: Record, *, without_body: bool, closing: Callable[[], bool]) -> None:
        self.status: int | None = None
        self._send = send
        self._record = record
        self._without_body = without_body
        self._closing = closing

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], *self._headers(message["headers"])]}
        elif self._without_body and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    def _headers(self, given: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        yield b"x-request-id", self._record.request_id.encode()
        if self._closing():
            yield b"connection", b"close"  # so that a caller's next request goes to another process
        names = {name for name, _ in given}
        yield from (header for header in SAFE_HEADERS if header[0] not in names)


def _inner_scope(scope: Scope, record: Record) -> Scope:
    """A copy: the server must go on seeing HEAD, the routes see GET."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    return {**scope, "method": method, "state": {**scope.get("state", {}), "record": record}}


def _level(status: int) -> int:
    return logging.ERROR if status == HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO


def _log_unforeseen(error: Exception, record: Record) -> None:
    """Where it happened and of what kind; not its message, which may quote a caller's text."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error(
        "unforeseen",
        kind=type(error).__name__,
        frames=frames[-8:],
        request_id=record.request_id,
        trace_id=record.trace_id,
    )
