"""One request over a socket, with good manners or bad ones."""

import asyncio
import random
import socket
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

PATIENCE = 120.0  # seconds for one exchange: longer than any deadline
IDLE_SECONDS = 5.0  # shorter than the service keeps a connection
FEW_BYTES = 4096
PIECES = 5
END_OF_HEAD = b"\r\n\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Manner(Enum):
    """How a caller behaves."""

    PLAIN = "plain"
    SLOW_SENDER = "sends slowly"
    SLOW_READER = "reads slowly"
    LEAVES_IN_HEAD = "leaves amid the head"
    LEAVES_IN_BODY = "leaves amid the body"
    LEAVES_WAITING = "leaves while waiting"
    LEAVES_READING = "leaves amid the answer"

    @property
    def slow(self) -> bool:
        return self in (Manner.SLOW_SENDER, Manner.SLOW_READER)


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent; `wants_body` is false for HEAD."""

    head: bytes
    body: bytes = b""
    wants_body: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """Names of headers in lower case; the body without the framing of its chunks."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Caller:
    """Many callers of one service, on one event loop. Those with good manners keep their connections."""

    def __init__(self, url: str, source: random.Random) -> None:
        self.host = urlsplit(url).netloc
        self._address = (urlsplit(url).hostname, urlsplit(url).port)
        self._random = source
        self._idle: deque[tuple[float, Connection]] = deque()

    async def exchange(self, message: Message, manner: Manner = Manner.PLAIN) -> Answer | None:
        """The whole answer, or None for one who left.

        Raises OSError or EOFError where the connection broke, TimeoutError where nothing came, ValueError where what
        came cannot be read.
        """
        async with asyncio.timeout(PATIENCE):
            if manner is Manner.PLAIN:
                return await self._plainly(message)
            reader, writer = await self._connect(FEW_BYTES if manner is Manner.SLOW_READER else None)
            try:
                return await self._behave(manner, message, reader, writer)
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    def close(self) -> None:
        for _, (_, writer) in self._idle:
            writer.close()
        self._idle.clear()

    async def _plainly(self, message: Message) -> Answer:
        reader, writer = self._kept() or await self._connect()
        try:
            writer.write(message.head + message.body)
            answer = await _read(reader, message)
        except BaseException:
            writer.transport.abort()
            raise
        if answer.headers.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append((time.monotonic(), (reader, writer)))
        self._forget_old()
        return answer

    async def _behave(
        self, manner: Manner, message: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Answer | None:
        sent = message.head + message.body
        if manner is Manner.SLOW_SENDER:
            await self._send_slowly(sent, writer)
            return await _read(reader, message)
        if manner is Manner.SLOW_READER:
            writer.write(sent)
            await self._wait(2.0)
            return await _read(reader, message, pause=self._random.uniform(0.02, 0.2))
        if manner is Manner.LEAVES_IN_HEAD:
            writer.write(message.head[: self._random.randrange(len(message.head))])
            await self._wait(0.5)
        elif manner is Manner.LEAVES_IN_BODY:
            writer.write(message.head + message.body[: self._random.randrange(len(message.body))])
            await self._wait(0.5)
        elif manner is Manner.LEAVES_WAITING:
            writer.write(sent)
            await self._wait(0.2)
        elif manner is Manner.LEAVES_READING:
            writer.write(sent)
            await reader.readexactly(1 + self._random.randrange(100))
            writer.transport.abort()
        return None

    async def _send_slowly(self, sent: bytes, writer: asyncio.StreamWriter) -> None:
        size = 1 + len(sent) // PIECES
        for start in range(0, len(sent), size):
            writer.write(sent[start : start + size])
            with suppress(OSError):  # it may have been refused by now: the answer tells
                await writer.drain()
            await self._wait(0.8)

    async def _wait(self, most: float) -> None:
        await asyncio.sleep(self._random.uniform(0.0, most))

    def _kept(self) -> Connection | None:
        """The last one that was used."""
        self._forget_old()
        while self._idle:
            _, (reader, writer) = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    def _forget_old(self) -> None:
        """After a burst there are more than are needed."""
        while self._idle and time.monotonic() - self._idle[0][0] > IDLE_SECONDS:
            _, (_, writer) = self._idle.popleft()
            writer.close()

    async def _connect(self, buffer: int | None = None) -> Connection:
        """With a small buffer the system takes little off the server."""
        own = socket.socket()
        try:
            own.setblocking(False)
            if buffer:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            await asyncio.get_running_loop().sock_connect(own, self._address)
            return await asyncio.open_connection(sock=own, limit=buffer or 1 << 16)
        except BaseException:
            own.close()
            raise


async def _read(reader: asyncio.StreamReader, message: Message, pause: float = 0.0) -> Answer:
    first, *lines = (await reader.readuntil(END_OF_HEAD)).decode("latin-1").rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    status = int(first.split(" ")[1])
    if not message.wants_body or status in (204, 304):
        return Answer(status, headers, b"")
    if "content-length" in headers:
        return Answer(status, headers, await _read_exactly(reader, int(headers["content-length"]), pause))
    body = bytearray()
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await _read_exactly(reader, size + 2, pause))[:-2]
    await reader.readexactly(2)
    return Answer(status, headers, bytes(body))


async def _read_exactly(reader: asyncio.StreamReader, size: int, pause: float) -> bytes:
    body = bytearray()
    while len(body) < size:
        if pause:
            await asyncio.sleep(pause)
        body += await reader.readexactly(min(size - len(body), 4 * FEW_BYTES if pause else size))
    return bytes(body)
