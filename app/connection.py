"""One connection: HTTP/1.1 as httptools reads it, and bounds on what a caller may take by being large, slow or many.

- Large: the head of a request, its trailers, a line that never ends; requests that are sent ahead of their answers.
- Slow: a head, a body or an answer that hardly moves ends its connection. The server asks for that now and then
  (`Protocol.check`), so that nobody else pays for a timer.
- Many: a connection beyond the limit gets one answer, 503 unless it asks how the service is, and is closed. And where
  requests wait too long for their turn, new ones are answered with 503 before anything more is done for them.
"""

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import httptools
import orjson
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.api.middleware import SAFE_HEADERS, UNMATCHED
from app.api.problems import MEDIA_TYPE, Failure, describe, instance_at
from app.api.record import open_record
from app.api.service import Service
from app.errors import OverloadedError

MOST_HEADER_BYTES = 32 * 1024
MOST_AHEAD = 16  # requests sent before the one in front is answered
SPARE_CONNECTIONS = 256  # beyond the limit, for those who get one answer
SPARE_SECONDS = 2.0  # in which one of those must have asked
SLOWEST = 64 * 1024  # bytes a second of a body or an answer, after the first seconds
ABOUT_THE_SERVICE = {b"/livez", b"/readyz", b"/health", b"/metrics"}  # answered however many come
SAFE = {name.decode().title(): value.decode() for name, value in SAFE_HEADERS}
UNREADABLE = Failure(
    400,
    "Malformed HTTP",
    "malformed-http",
    f"this cannot be read as HTTP/1.1, or its head is longer than {MOST_HEADER_BYTES} bytes",
)
STALLED = Failure(408, "Request timeout", "request-timeout", "the request came too slowly; send all of it at once")


class Protocol(HttpToolsProtocol):
    """Reads the body of a request that offers an upgrade, too: some clients offer HTTP/2 with every first request."""

    _head = 0  # bytes of this request's URL and headers, trailers included
    _silent = 0  # bytes in which the parser found nothing complete
    _since: float | None = None  # when what is being read began: a head or a body; None where nothing is
    _in_body = False
    _refused = False  # what came cannot be read: nothing more is
    _received = 0  # bytes of this body
    _unsent: tuple[float, int] | None = None  # since when there is something to send, and how much it was
    _active: RequestResponseCycle | None = None  # what is being answered, or was last; others may be sent ahead
    _one_answer = False  # it is one connection too many
    _last = False  # nothing is read after this request

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._service: Service = cast(FastAPI, self.config.app).state.service
        self._patience = self._service.settings.stall_seconds
        self._serve = self.app
        # uvicorn's own way of refusing names no seconds, and asks nobody's path.
        self._most_connections, self.limit_concurrency = self.limit_concurrency, None

    # Reading

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._since = self.loop.time()
        if self._most_connections is None or len(self.connections) <= self._most_connections:
            return
        self._one_answer = True
        self._patience = min(self._patience, SPARE_SECONDS)
        if len(self.connections) > self._most_connections + SPARE_CONNECTIONS:
            self._end_with(describe(self._refusal("connections")))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._active is not None:  # uvicorn tells only the last one that was sent
            self._active.disconnected = not self._active.response_complete
            self._active.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._since is None:
            self._since = self.loop.time()
        while data and not self._refused:  # as often as requests that came together offer upgrades
            data = self._read(data)

    def _read(self, data: bytes) -> bytes:
        """What is to be read again."""
        self._silent += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._upgrade_offered:
                return self._declined(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse()
        else:
            if self._silent > MOST_HEADER_BYTES:
                self._refuse()
        return b""

    def on_message_begin(self) -> None:
        if self._last:
            raise ValueError("the connection ends with the request before this one")
        self._head, self._in_body = 0, False
        self._since = self.loop.time()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(len(name) + len(value))
        if not self._in_body:  # a trailer is no header (RFC 9110, 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._upgrade_offered:
            return
        if reason := self._reason_to_refuse():
            self.app = partial(self._turn_away, reason)
        super().on_headers_complete()
        self.app = self._serve  # it and this connection would hold each other
        self._since, self._in_body, self._received = self.loop.time(), True, 0
        if self._one_answer or len(self.pipeline) >= MOST_AHEAD:
            self._last, self.cycle.keep_alive = True, False
        if self.pipeline and sum(len(cycle.body) for cycle, _ in self.pipeline) <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()  # only so is it seen that the caller leaves

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._silent = 0
        if not (self._one_answer or self.cycle.response_complete):  # where nobody reads it, it gains no time
            self._received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._since, self._in_body = None, False
        if not self._upgrade_offered:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._since is not None:  # what is still to come is read for nobody, but not for long
            self._since, self._received = self.loop.time(), 0

    def _grow(self, size: int) -> None:
        self._silent = 0
        self._head += size
        if self._head > MOST_HEADER_BYTES:
            raise ValueError("the head of this request is too large")  # the parser makes it one of its errors

    @property
    def _upgrade_offered(self) -> bool:
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _declined(self, rest: bytes) -> bytes:
        """The request without the offer: after one the parser takes what follows for another protocol."""
        line = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        kept = [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join((line, *kept, b"", rest))

    # Too many

    def _reason_to_refuse(self) -> str | None:
        if self.url.partition(b"?")[0] in ABOUT_THE_SERVICE:
            return None
        if self._one_answer:
            return "connections"
        return "busy" if self._service.line.too_long else None

    def _refusal(self, reason: str) -> OverloadedError:
        self._service.metrics.count_request(UNMATCHED, OverloadedError.status, 0.0)
        return self._service.refusal(reason)

    async def _turn_away(self, reason: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Instead of the application: who cannot be served costs as little as possible, a line in the log included."""
        while self._one_answer and (await receive()).get("more_body"):
            pass  # a connection that is closed before all is read takes its answer back
        request_id = open_record(Headers(scope=scope)).request_id
        failure = describe(self._refusal(reason))
        body = orjson.dumps(failure.document(instance=instance_at(scope), request_id=request_id))
        headers = {**failure.headers, "X-Request-ID": request_id, **SAFE}
        await Response(body, failure.status, headers, MEDIA_TYPE)(scope, receive, send)

    # Too slow

    @property
    def unsent(self) -> int:
        """Bytes of answers that the caller has not taken."""
        return self.transport.get_write_buffer_size()

    @property
    def idle(self) -> bool:
        """Kept for a next request, of which there is nothing yet."""
        return self._since is None and not self._answering and not self.unsent

    def check(self, now: float) -> None:
        """End the connection where its caller has stalled."""
        if self._takes_nothing(now):
            self.transport.abort()
        elif self._since is None or self.transport.is_closing():
            return
        elif self._answering and (self._active is not self.cycle or not self._in_body):
            self._since = now  # whoever waits for an answer need not hurry with the next request
        elif now - self._since > self._patience + self._received / SLOWEST:
            self._give_up()

    def resume_writing(self) -> None:
        self._unsent = None
        super().resume_writing()

    @property
    def _answering(self) -> bool:
        return self._active is not None and not self._active.response_complete

    def _takes_nothing(self, now: float) -> bool:
        unsent = self.unsent
        if not unsent:
            self._unsent = None
            return False
        self._unsent = self._unsent or (now, unsent)
        began, first = self._unsent
        return bool(now - began > self._patience + max(0, first - unsent) / SLOWEST)

    def _give_up(self) -> None:
        asked = self._in_body or self.scope is not None
        if not asked or (self._in_body and self.cycle.response_started):
            self.transport.close()
            return
        if self._one_answer:
            self._end_with(describe(self._refusal("connections")))
            return
        self._service.metrics.refused.labels("stalled").inc()
        self._end_with(STALLED)

    # The last words of a connection: problems like any other, though no route and no middleware sees such a request

    def _refuse(self) -> None:
        """Never in another answer nor in the place of one: what came before is answered, and nothing after it."""
        self._refused = True
        if self._last or self.transport.is_closing():
            return
        if self._in_body and (self.pipeline or self.cycle.response_started):
            self.transport.close()
        elif self._in_body or self.cycle is None or self.cycle.response_complete:
            self._end_with(UNREADABLE)
        else:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # the signature is uvicorn's
        self._end_with(UNREADABLE)

    def _end_with(self, failure: Failure) -> None:
        request_id = open_record(Headers()).request_id
        body = orjson.dumps(failure.document(instance="", request_id=request_id))
        head = (
            f"HTTP/1.1 {failure.status} {HTTPStatus(failure.status).phrase}",
            f"Content-Type: {MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in failure.headers.items()),
            f"X-Request-ID: {request_id}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in SAFE.items()),
        )
        self.transport.write("\r\n".join((*head, "", "")).encode() + body)
        self.transport.close()
