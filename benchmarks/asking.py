"""Clients who ask in a closed loop and remember what became of every request, whatever happens to the service."""

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.load import read_answer, request

PATIENCE = 120.0
REFUSED, UNANSWERED = "no connection", "no answer"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: `kind` is its status, or why there is none. Moments on the monotonic clock."""

    name: str
    sent: float  # all of it; when it was begun if it was never sent
    ended: float
    kind: str
    digest: str = ""


@dataclass(slots=True)
class Clients:
    """So many who ask in a closed loop until they are told to stop, or nobody is there any more."""

    url: str
    bodies: Sequence[bytes]
    number: int
    asked: list[Asked] = field(default_factory=list)
    over: bool = False

    async def run(self) -> None:
        waiting = itertools.cycle(self.bodies)
        await asyncio.gather(
            *(self._loop(_Client(self.url, number % 2 == 0), waiting) for number in range(self.number))
        )

    async def _loop(self, client: "_Client", waiting: "itertools.cycle[bytes]") -> None:
        try:
            while not self.over:
                self.asked.append(await client.ask(next(waiting)))
                if self.asked[-1].kind == REFUSED:
                    return
        finally:
            client.close()


class _Client:
    def __init__(self, url: str, keeps: bool) -> None:
        self._url, self._keeps = url, keeps
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: bytes) -> Asked:
        name, sent = uuid.uuid4().hex, time.monotonic()
        try:
            reader, writer = await self._connected()
        except OSError:
            return Asked(name, sent, time.monotonic(), REFUSED)
        try:
            writer.write(request(self._url, body, f"X-Request-ID: {name}"))
            await writer.drain()
            sent = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                status, headers, content = await read_answer(reader)
        except (OSError, EOFError, TimeoutError):
            self.close()
            return Asked(name, sent, time.monotonic(), UNANSWERED)
        ended = time.monotonic()
        if not self._keeps or headers.get("connection") == "close":
            self.close()
        digest = json.loads(content)["model"]["digest"] if status == 200 else ""
        return Asked(name, sent, ended, str(status), digest)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            address = urlsplit(self._url)
            self._streams = await asyncio.open_connection(address.hostname, address.port)
        return self._streams

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
