"""The HTTP server: uvicorn, with a shutdown that loses nothing."""

import asyncio
import math
import os
import socket
import sys
import time
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from app.api.service import Service
from app.config import Settings
from app.errors import ConfigurationError

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 30
MOST_HEADER_BYTES = 32 * 1024
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
    try:
        listener = listen(settings)
    except ConfigurationError as error:
        return fail(error)
    Server(configuration(app), service).run([listener])
    if service.failure is not None:
        return fail(service.failure)
    log.info("stopped")
    return 0


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
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
    )


def fail(reason: object) -> int:
    """One line on standard error; the log goes to standard output."""
    print(f"precis: {reason}", file=sys.stderr)
    return 1
