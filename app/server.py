"""The HTTP server: uvicorn, with a shutdown that loses nothing."""

import asyncio
import gc
import math
import os
import resource
import socket
import sys
import time
from ipaddress import ip_address
from types import FrameType

import httptools
import orjson
import structlog
import uvicorn
from fastapi import FastAPI
from starlette.datastructures import Headers
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.middleware import SAFE_HEADERS
from app.api.problems import MEDIA_TYPE, Failure
from app.api.record import open_record
from app.api.service import Service
from app.config import Settings
from app.errors import ConfigurationError

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 30
MOST_HEADER_BYTES = 32 * 1024
# New objects, then collections of younger ones. It looks through all that is new and waits, 100 ms for a thousand
# callers, and finds nothing: what a request leaves holds no circles.
COLLECT_AFTER = 100_000, 10, 10
UNREADABLE = Failure(
    400,
    "Malformed HTTP",
    "malformed-http",
    f"this cannot be read as HTTP/1.1, or its head is longer than {MOST_HEADER_BYTES} bytes",
)
log = structlog.get_logger("precis")


class Protocol(HttpToolsProtocol):
    """Bounds what the parser would collect without end: the head of a request, its trailers, a line that never ends.

    And reads the body of a request that offers an upgrade: some clients offer HTTP/2 with every first request.
    """

    _head = 0  # bytes of this request's URL and headers, trailers included
    _silent = 0  # bytes in which the parser found nothing complete
    _in_body = False
    _refused = False

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
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
        self._head = 0
        self._in_body = False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(len(name) + len(value))
        if not self._in_body:  # a trailer is no header (RFC 9110, 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._upgrade_offered:
            super().on_headers_complete()
            self._in_body = True

    def on_body(self, body: bytes) -> None:
        self._silent = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        if not self._upgrade_offered:
            super().on_message_complete()

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

    def _refuse(self) -> None:
        """Never in another answer nor in the place of one: what came before is answered, and nothing after it."""
        self._refused = True
        if self.transport.is_closing():
            return
        if self._in_body and (self.pipeline or self.cycle.response_started):
            self.transport.close()
        elif self._in_body or self.cycle is None or self.cycle.response_complete:
            self.send_400_response(UNREADABLE.detail)
        else:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # the signature is uvicorn's
        """A problem like any other, though no route and no middleware sees such a request."""
        request_id = open_record(Headers()).request_id
        body = orjson.dumps(UNREADABLE.document(instance="", request_id=request_id))
        head = (
            "HTTP/1.1 400 Bad Request",
            f"Content-Type: {MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            f"X-Request-ID: {request_id}",
            "Connection: close",
            *(f"{name.decode().title()}: {value.decode()}" for name, value in SAFE_HEADERS),
        )
        self.transport.write("\r\n".join((*head, "", "")).encode() + body)
        self.transport.close()


class Server(uvicorn.Server):
    """On SIGTERM or SIGINT the socket stays open, and new work gets its 503, until all that was admitted is answered.

    A second signal changes nothing, and a shutdown that was asked for ends with status 0.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the signature is uvicorn's
        self.service.draining = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port, *_ = self.servers[0].sockets[0].getsockname()
        log.info("listening", host=host, port=port)
        if not self.service.settings.keys_on and not ip_address(host.partition("%")[0]).is_loopback:
            log.warning("no API keys: whoever reaches this address may use the service", see="docs/access.md")

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self.service.failure is not None

    async def main_loop(self) -> None:
        await super().main_loop()
        deadline = time.monotonic() + self.service.settings.drain_seconds
        log.info("draining")
        draining = asyncio.create_task(self.service.drain())
        while not draining.done():
            await super().on_tick(0)
            await asyncio.wait({draining}, timeout=0.1)
        await draining
        # What is left to do is to send the last answers: uvicorn closes the socket and waits for that.
        self.config.timeout_graceful_shutdown = max(1, math.ceil(deadline - time.monotonic()))


def serve(app: FastAPI, settings: Settings) -> int:
    """Serve until a signal; the exit status of the process."""
    service: Service = app.state.service
    allow_connections()
    try:
        listener = listen(settings)
    except ConfigurationError as error:
        return fail(error)
    gc.set_threshold(*COLLECT_AFTER)
    Server(configuration(app), service).run([listener])
    if service.failure is not None:
        return fail(service.failure)
    log.info("stopped")
    return 0


def allow_connections() -> None:
    """As many open files as the system lets us have: the usual 1,024 are too few for a thousand callers."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ConfigurationError(f"cannot listen on {settings.host}, port {settings.port}: {reason}") from error


def configuration(app: FastAPI) -> uvicorn.Config:
    """One log line a request is written by the application; the server adds none and does not name itself."""
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


def fail(reason: object) -> int:
    """One line on standard error; the log goes to standard output."""
    print(f"precis: {reason}", file=sys.stderr)
    return 1
