"""A server that answers every request with one problem: what the service itself does not answer on demand."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import orjson

from app.api.problems import MEDIA_TYPE, Failure

REQUEST_ID = "5f0c9a7e2d8b4c31a6e4f1d2c3b4a596"


class Refusing(ThreadingHTTPServer):
    def __init__(self, failure: Failure) -> None:
        super().__init__(("127.0.0.1", 0), Refusal)
        self.failure = failure
        self.asked = 0
        self.url = f"http://127.0.0.1:{self.server_port}"


class Refusal(BaseHTTPRequestHandler):
    server: Refusing

    def do_POST(self) -> None:
        self.server.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        failure = self.server.failure
        body = orjson.dumps(failure.document(instance="/", request_id=REQUEST_ID))
        self.send_response(failure.status)
        own = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), "X-Request-ID": REQUEST_ID}
        for name, value in {**failure.headers, **own}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def refusing(failure: Failure) -> Iterator[Refusing]:
    with Refusing(failure) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
