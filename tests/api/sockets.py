"""The application behind the real server, on a real socket of this process: its model can be held between two steps."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from app.api.service import Service
from app.server import Server, configuration
from tests.api.waiting import PATIENCE, eventually

FEW_BYTES = 4096


@dataclass(frozen=True)
class Served:
    server: Server
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stalled(self, **body: Any) -> socket.socket:
        """A caller who has posted this to `/summarize` and reads nothing. Its system takes little off the server."""
        sent = json.dumps(body).encode()
        head = f"POST /summarize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(sent)}"
        caller = socket.socket()
        caller.settimeout(PATIENCE)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FEW_BYTES)
        caller.connect(("127.0.0.1", self.port))
        caller.sendall(f"{head}\r\n\r\n".encode() + sent)
        return caller


@contextmanager
def served(app: FastAPI) -> Iterator[Served]:
    """Until the block ends. The system takes little off the server for a reader who is slow."""
    service: Service = app.state.service
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, FEW_BYTES)  # its connections inherit it
    server = Server(configuration(app), service)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        eventually(lambda: server.started)
        yield Served(server, listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
    assert not thread.is_alive()


@contextmanager
def refused_port() -> Iterator[int]:
    """A port of this machine on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
