"""Bytes to a server and what comes back, as they are: other clients would not send what is sent here."""

import contextlib
import http.client
import io
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.api.waiting import PATIENCE

SHOWN = 400  # bytes of an attack in a report


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, repr=False)
class Attack:
    """A request whose framing is right, whatever else is wrong with it, so that it must be answered."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    chunk: int = 0  # bytes of each chunk of the body; 0 tells its length instead

    @property
    def head(self) -> bytes:
        framing = (b"Transfer-Encoding", b"chunked") if self.chunk else (b"Content-Length", b"%d" % len(self.body))
        lines = (b"%s: %s" % header for header in ((b"Host", b"x"), *self.headers, framing))
        return b"\r\n".join((b"%s %s HTTP/1.1" % (self.method.encode(), self.target), *lines, b"", b""))

    @property
    def content(self) -> bytes:
        if not self.chunk:
            return self.body
        parts = (self.body[start : start + self.chunk] for start in range(0, len(self.body), self.chunk))
        return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"

    def __repr__(self) -> str:
        return f"{_shown(self.head)} {_shown(self.content)}"


def ask(port: int, attack: Attack) -> Answer:
    """The answer. Raises TimeoutError where none comes, ConnectionError where the connection ends before it."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as caller:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
            caller.sendall(attack.head + attack.content)
        return _read(http.client.HTTPResponse(caller, method=attack.method))


def converse(port: int, sent: bytes, *, cut: bool = True) -> list[Answer]:
    """Everything that comes back until the server closes. Nothing follows what was sent, which we say if `cut`."""
    received = bytearray()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as caller,
        contextlib.suppress(BrokenPipeError, ConnectionResetError),  # it need not read all of what it refuses
    ):
        caller.sendall(sent)
        if cut:
            caller.shutdown(socket.SHUT_WR)
        while part := caller.recv(1 << 16):
            received += part
    return answers_of(bytes(received))


def answers_of(received: bytes) -> list[Answer]:
    """Several answers, one after the other. Raises HTTPException where they are not well formed."""
    received = received.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")  # which answers nothing
    stream, answers = _Received(received), []
    while stream.tell() < len(received):
        answers.append(_read(http.client.HTTPResponse(stream)))  # type: ignore[arg-type]  # it only makes a file of it
    return answers


class _Received(io.BytesIO):
    """In the place of a socket; an answer that is read does not close it for the next one."""

    def makefile(self, _mode: str) -> "_Received":
        return self

    def close(self) -> None:
        pass


def _read(response: http.client.HTTPResponse) -> Answer:
    response.begin()
    body = response.read()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def _shown(sent: bytes) -> str:
    return repr(sent) if len(sent) <= SHOWN else f"{sent[:SHOWN]!r}… ({len(sent)} bytes)"


def lines(*parts: bytes) -> bytes:
    """A head of such lines."""
    return b"\r\n".join((*parts, b"", b""))


def statuses(answers: Sequence[Answer]) -> list[int]:
    return [answer.status for answer in answers]
