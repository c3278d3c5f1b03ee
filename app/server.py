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

import structlog
import uvicorn
from fastapi import FastAPI

from app.api.service import Service
from app.config import Settings
from app.connection import SPARE_CONNECTIONS, Protocol
from app.errors import ConfigurationError

BACKLOG = 2048
ACCEPTED_AT_ONCE = 16  # connections, each time the event loop goes round: libuv accepts one at each listener
KEEP_ALIVE_SECONDS = 30
LAST_CALL_SECONDS = 0.25  # after the socket is closed, for the refusals of those who were just connecting
RESERVED_FILES = 128  # open ones that are no connections
TICKS_A_SECOND = 10
# New objects, then collections of younger ones. It looks through all that is new and waits, 100 ms for a thousand
# callers, and finds nothing: what a request leaves holds no circles.
COLLECT_AFTER = 100_000, 10, 10
log = structlog.get_logger("precis")


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
        if counter % TICKS_A_SECOND == 0:
            self._check_connections()
        return await super().on_tick(counter) or self.service.failure is not None

    def _check_connections(self) -> None:
        """End those that stall; those that are only kept, where newcomers would find no place; and, of answers that
        nobody takes, the largest, where together they hold too much."""
        now, most = asyncio.get_running_loop().time(), self.config.limit_concurrency
        connections = [each for each in self.server_state.connections if isinstance(each, Protocol)]
        full = most is not None and len(connections) >= most
        for each in connections:
            each.check(now)
            if full and each.idle:
                each.transport.close()
        too_much = sum(each.unsent for each in connections) - (self.service.settings.max_transit_mb << 20)
        while too_much > 0:
            largest = max(connections, key=lambda each: each.unsent)
            connections.remove(largest)
            too_much -= largest.unsent
            largest.transport.abort()

    async def main_loop(self) -> None:
        await super().main_loop()
        deadline = time.monotonic() + self.service.settings.drain_seconds
        log.info("draining")
        draining = asyncio.create_task(self.service.drain())
        while not draining.done():
            await self.on_tick(0)
            await asyncio.wait({draining}, timeout=0.1)
        await draining
        # What is left to do is to send the last answers: uvicorn closes the socket and waits for that.
        self.config.timeout_graceful_shutdown = max(1, math.ceil(deadline - time.monotonic()))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for each in sockets or []:  # while it is open, callers connect to nobody
            each.close()
        await asyncio.sleep(LAST_CALL_SECONDS)
        await super().shutdown(sockets)


def serve(app: FastAPI, settings: Settings) -> int:
    """Serve until a signal; the exit status of the process."""
    service: Service = app.state.service
    allow_connections()
    try:
        listener = listen(settings)
    except ConfigurationError as error:
        return fail(error)
    gc.set_threshold(*COLLECT_AFTER)
    Server(configuration(app), service).run([listener, *(listener.dup() for _ in range(ACCEPTED_AT_ONCE - 1))])
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


def most_connections(settings: Settings) -> int:
    """As the operator wants, as far as the system allows."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = (
        settings.max_connections if files == resource.RLIM_INFINITY else files - RESERVED_FILES - SPARE_CONNECTIONS
    )
    return max(1, min(settings.max_connections, allowed))


def configuration(app: FastAPI) -> uvicorn.Config:
    """One log line a request is written by the application; the server adds none and does not name itself."""
    service: Service = app.state.service
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
        limit_concurrency=most_connections(service.settings),
    )


def fail(reason: object) -> int:
    """One line on standard error; the log goes to standard output."""
    print(f"precis: {reason}", file=sys.stderr)
    return 1
