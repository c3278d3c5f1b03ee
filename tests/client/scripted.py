"""A server on a real socket that answers as it is told, whatever it is asked."""

import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from app.examples import PROBLEM, SUMMARY
from tests.api.waiting import PATIENCE


@dataclass(frozen=True)
class Reply:
    """`cut` ends the connection after so many bytes of the body; 0 before any answer."""

    status: int = 200
    body: bytes = json.dumps(SUMMARY).encode()
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    held: bool = False  # after the body nothing comes, until the caller leaves


@dataclass(frozen=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    port: int


@dataclass
class Script:
    """What was received."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    caller_left: threading.Event = field(default_factory=threading.Event)


def refusal(status: int, **headers: str) -> Reply:
    problem = {**PROBLEM, "status": status, "detail": "in words", "errors": []}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, json.dumps(problem).encode(), {"Content-Type": "application/problem+json", **named})


def events(*pairs: tuple[str, object], **changes: Any) -> Reply:
    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in pairs)
    return Reply(200, body.encode(), {"Content-Type": "text/event-stream"}, **changes)


def in_turn(replies: Sequence[Reply]) -> Callable[[Received], Reply]:
    """One reply after another, the last one for ever."""
    left = deque(replies)
    return lambda _received: left.popleft() if len(left) > 1 else left[0]


@contextmanager
def scripted(replies: Sequence[Reply] | Callable[[Received], Reply]) -> Iterator[Script]:
    script, choose = Script(), replies if callable(replies) else in_turn(replies)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = PATIENCE

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            sent = json.loads(body) if body else None
            received = Received(self.command, self.path, headers, sent, self.client_address[1])
            script.received.append(received)
            script.asked.set()
            reply = choose(received)
            if reply.cut != 0:
                with suppress(ConnectionError):  # a caller who leaves amid it
                    self._send(reply)
            if reply.cut is not None:
                self.connection.shutdown(socket.SHUT_RDWR)
            if reply.held:
                script.caller_left.set()
            self.close_connection = reply.held or reply.cut is not None

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body) + reply.held))
            self.end_headers()
            self.wfile.write(reply.body[: reply.cut])
            if reply.held:
                self.rfile.read(1)

        do_GET = do_POST = answer  # noqa: N815  # as the library wants it

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()
