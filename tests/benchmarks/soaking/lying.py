"""A service that lies: its true answers are changed on their way out. `python -m …` lies to a soak as a real process.

The soak should find it out.
"""

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import Settings, load_settings
from app.logs import configure_logs
from app.main import create_app
from app.models.base import Limits
from app.server import serve
from benchmarks.soaking.questions import CHINESE, ENGLISH
from tests.api.sockets import Served, served
from tests.fakes import FakeModel, fake_info

SUMMARY = b'"summary":"'
LIMITS = Limits(max_source_tokens=400, max_summary_tokens=64, max_beams=8)


@dataclass
class Told:
    """An answer on its way."""

    path: str
    status: int
    headers: MutableHeaders
    body: bytes


@dataclass
class Lie:
    """Changes answers while it is `awake`."""

    change: Callable[[Told], None] = field(default=lambda _: None)
    awake: bool = False


class Lying:
    """Middleware around all others."""

    def __init__(self, app: ASGIApp, lie: Lie) -> None:
        self._app = app
        self._lie = lie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "HEAD" or not self._lie.awake:
            await self._app(scope, receive, send)
            return
        start: Message = {}
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                body.extend(message.get("body", b""))

        await self._app(scope, receive, collect)
        if not start:  # the caller has left
            return
        told = Told(scope["path"], start["status"], MutableHeaders(raw=list(start["headers"])), bytes(body))
        self._lie.change(told)
        told.headers["content-length"] = str(len(told.body))
        await send({**start, "status": told.status, "headers": told.headers.raw})
        await send({"type": "http.response.body", "body": told.body})


def lying_app(settings: Settings, lie: Lie) -> FastAPI:
    models = [FakeModel(fake_info(name, limits=LIMITS)) for name in (ENGLISH, CHINESE)]
    app = create_app(settings, models=models)
    app.add_middleware(Lying, lie=lie)
    return app


@contextmanager
def liar(lie: Lie) -> Iterator[Served]:
    """On a socket of this process."""
    with served(lying_app(Settings(max_rows=16), lie)) as server:
        yield server


def main() -> int:
    """Now and then a summary begins with another letter."""
    numbers = itertools.count(1)

    def change(told: Told) -> None:
        if told.path == "/summarize" and SUMMARY in told.body and next(numbers) % 20 == 0:
            told.body = told.body.replace(SUMMARY, SUMMARY + b"x")

    settings = load_settings()
    configure_logs(settings)
    return serve(lying_app(settings, Lie(change, awake=True)), settings)


if __name__ == "__main__":
    sys.exit(main())
