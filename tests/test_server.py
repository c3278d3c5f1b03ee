"""A real process on a real socket: start, stop, and everything in between that only a process can show."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.api.waiting import PATIENCE, eventually
from tests.serving import HOLD

ROOT = Path(__file__).parents[1]


class Process:
    """`python -m tests.serving` on a free port; decoding waits while it is held."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._hold = folder / "hold"
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.serving"],
                cwd=ROOT,
                env=environment(**{HOLD: str(self._hold), "PRECIS_PORT": "0", "PRECIS_MAX_ROWS": "8", **settings}),
                stdout=output,
                stderr=subprocess.PIPE,
            )
        eventually(lambda: self.process.poll() is not None or self.lines("listening"))
        self.port: int = self.lines("listening")[0]["port"]
        self.url = f"http://127.0.0.1:{self.port}"

    def lines(self, event: str) -> list[Any]:
        complete = [line for line in self._output.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in map(json.loads, complete) if line["event"] == event]

    def hold(self) -> None:
        self._hold.touch()

    def go_on(self) -> None:
        self._hold.unlink(missing_ok=True)

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=PATIENCE)

    def summarize(self, text: str = "alpha bravo charlie") -> httpx2.Response:
        return httpx2.post(f"{self.url}/summarize", json={"text": text}, timeout=PATIENCE)

    def metric(self, name: str) -> float:
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def waiting_or_live(self) -> bool:
        return self.metric("precis_live_rows") > 0

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        self.go_on()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()


def environment(**settings: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **settings}


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment(**settings), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path)
    yield process
    process.close()


def test_it_answers_over_a_socket_and_does_not_name_its_software(server: Process) -> None:
    response = server.summarize()
    assert response.status_code == 200
    assert response.json()["summary"]
    assert "server" not in response.headers
    assert server.get("/readyz").status_code == 200
    (line,) = [line for line in server.lines("request") if line["route"] == "/summarize"]
    assert line["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_with_status_0(server: Process, number: signal.Signals) -> None:
    server.process.send_signal(number)
    assert server.wait() == 0
    assert server.lines("stopped")
    assert server.process.stderr is not None
    assert server.process.stderr.read() == b""


def test_after_sigterm_admitted_work_is_answered_and_new_work_refused(server: Process) -> None:
    server.hold()
    with ThreadPoolExecutor(30) as pool, httpx2.Client(base_url=server.url, timeout=PATIENCE) as kept:
        assert kept.get("/readyz").status_code == 200
        admitted = _admit(server, pool, 25)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: kept.get("/readyz").status_code == 503)
        server.process.send_signal(signal.SIGTERM)
        for refused in (kept.post("/summarize", json={"text": "alpha"}), server.summarize()):
            assert refused.status_code == 503
            assert refused.json()["error_type"] == "draining"
            assert int(refused.headers["retry-after"]) >= 1
        assert server.get("/livez").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.get("/readyz").status_code == 503
        assert server.process.poll() is None
        assert not any(answer.done() for answer in admitted)
        server.go_on()
        assert [answer.result().status_code for answer in admitted] == [200] * len(admitted)
    assert server.wait() == 0


def test_what_is_not_done_when_the_grace_ends_is_refused_honestly(tmp_path: Path) -> None:
    server = Process(tmp_path, PRECIS_DRAIN_SECONDS="0.2")
    try:
        server.hold()
        with ThreadPoolExecutor(2) as pool:
            (admitted,) = _admit(server, pool, 1)
            server.process.send_signal(signal.SIGTERM)
            assert admitted.result().status_code == 503
            assert admitted.result().json()["error_type"] == "draining"
            server.go_on()
        assert server.wait() == 0
    finally:
        server.close()


def test_a_caller_who_closes_the_socket_frees_its_rows(server: Process) -> None:
    server.hold()
    body = b'{"text": "alpha bravo"}'
    head = (
        f"POST /summarize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as caller:
        caller.sendall(head.encode() + body)
        eventually(server.waiting_or_live)
    eventually(lambda: [line for line in server.lines("request") if line["status"] == 499])
    server.go_on()
    eventually(lambda: server.metric("precis_live_rows") == 0)
    assert server.metric("precis_cancelled_total") == 1


def test_a_body_that_is_too_large_is_refused_while_it_arrives(server: Process) -> None:
    head = "POST /summarize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as caller:
        caller.sendall(head.encode())
        for _ in range(60):  # 3.75 MiB; the limit is 2.4 million bytes
            caller.sendall(chunk)
        assert caller.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PRECIS_PORT", "http", "PRECIS_PORT"),
        ("PRECIS_PROT", "8000", "did you mean PRECIS_PORT?"),
        ("PRECIS_MODEL", "nope", "cannot load the default model 'nope'"),
        ("PRECIS_MODEL_STORE", "/nowhere", "/nowhere"),
        ("PRECIS_HOST", "203.0.113.1", "cannot listen on 203.0.113.1"),
    ],
)
def test_a_start_that_fails_is_one_line_and_a_status(name: str, value: str, told: str) -> None:
    ended = run("app", **{"PRECIS_PORT": "0", name: value})
    assert ended.returncode in (1, 2)
    (line,) = ended.stderr.splitlines()
    assert line.startswith("precis: ")
    assert told in line
    assert "Traceback" not in ended.stdout


def test_a_port_that_is_taken_is_one_line_and_a_status() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("app", PRECIS_PORT=port)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [f"precis: cannot listen on 127.0.0.1, port {port}: Address already in use"]


def _admit(server: Process, pool: ThreadPoolExecutor, texts: int) -> list[Future[httpx2.Response]]:
    """Requests that are certainly admitted: waiting or live."""
    answers = [pool.submit(server.summarize, f"alpha bravo {number}") for number in range(texts)]
    beams = 2
    eventually(lambda: server.metric("precis_queue_texts") + server.metric("precis_live_rows") / beams == texts)
    return answers
