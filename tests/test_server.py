"""A real process on a real socket: start, stop, and everything in between that only a process can show."""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest

from app.__main__ import main
from app.config import Settings
from app.connection import MOST_HEADER_BYTES
from app.errors import ConfigurationError
from app.main import create_app
from app.schemas import Problem
from app.server import COLLECT_AFTER, Server, listen, serve
from tests.api.waiting import PATIENCE, eventually
from tests.serving import HOLD

ROOT = Path(__file__).parents[1]
PATIENT = {"PRECIS_TIMEOUT_MS": "600000", "PRECIS_DRAIN_SECONDS": "600"}  # a slow machine changes nothing


class Address:
    """A service at `url`; decoding waits while it is held."""

    url: str

    def __init__(self, hold: Path) -> None:
        self._hold = hold

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


class Process(Address):
    """`python -m tests.serving`, or another module, on a free port."""

    def __init__(self, folder: Path, module: str = "tests.serving", **settings: str) -> None:
        super().__init__(folder / "hold")
        self._module = module
        self._output = folder / "output"
        self._settings = {HOLD: str(self._hold), "PRECIS_PORT": "0", "PRECIS_MAX_ROWS": "8", **PATIENT, **settings}

    def __enter__(self) -> Self:
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                cwd=ROOT,
                env=environment(**self._settings),
                stdout=output,
                stderr=subprocess.PIPE,
            )
        try:
            eventually(lambda: self.process.poll() is not None or self.lines("listening"))
            self.port: int = self.lines("listening")[0]["port"]
        except BaseException:
            self.__exit__()
            raise
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_error: object) -> None:
        self.go_on()
        if self.process.poll() is None:
            self.process.kill()
        self.errors = self.process.communicate()[1]

    def lines(self, event: str) -> list[Any]:
        complete = [line for line in self._output.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in map(json.loads, complete) if line["event"] == event]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(PATIENCE)


def environment(**settings: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **settings}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One process for all the tests that leave it running as it was."""
    with Process(tmp_path_factory.mktemp("server")) as process:
        yield process


def test_it_answers_over_a_socket_and_does_not_name_its_software(server: Process) -> None:
    response = server.summarize()
    assert response.status_code == 200
    assert response.json()["summary"]
    assert "server" not in response.headers
    assert server.get("/readyz").status_code == 200
    (line,) = [line for line in server.lines("request") if line["route"] == "/summarize"]
    assert line["request_id"] == response.headers["x-request-id"]


def test_an_idle_server_stops_with_status_0_when_it_is_interrupted(tmp_path: Path) -> None:
    with Process(tmp_path) as server:
        server.stop(signal.SIGINT)
        assert server.wait() == 0
    assert server.lines("stopped")
    assert server.errors == b""


def test_after_sigterm_admitted_work_is_answered_and_new_work_refused(tmp_path: Path) -> None:
    with (
        Process(tmp_path) as server,
        ThreadPoolExecutor(30) as pool,
        httpx2.Client(base_url=server.url, timeout=PATIENCE) as kept,
    ):
        server.hold()
        assert kept.get("/readyz").status_code == 200
        admitted = _admit(server, pool, 25)
        server.stop()
        eventually(lambda: kept.get("/readyz").status_code == 503)
        server.stop()
        eventually(lambda: server.lines("draining"))
        assert {server.get("/readyz").status_code for _ in range(50)} == {503}  # each on a new connection
        for refused in (kept.post("/summarize", json={"text": "alpha"}), server.summarize()):
            assert refused.status_code == 503
            assert refused.json()["error_type"] == "draining"
            assert int(refused.headers["retry-after"]) >= 1
        assert server.get("/livez").status_code == 200
        server.stop()
        assert server.get("/readyz").status_code == 503
        assert server.process.poll() is None
        assert not any(answer.done() for answer in admitted)
        server.go_on()
        assert [answer.result().status_code for answer in admitted] == [200] * len(admitted)
        assert server.wait() == 0


def test_what_is_not_done_when_the_grace_ends_is_refused_honestly(tmp_path: Path) -> None:
    with Process(tmp_path, PRECIS_DRAIN_SECONDS="0.2") as server, ThreadPoolExecutor(2) as pool:
        server.hold()
        (admitted,) = _admit(server, pool, 1)
        server.stop()
        assert admitted.result().status_code == 503
        assert admitted.result().json()["error_type"] == "draining"
        server.go_on()
        assert server.wait() == 0


def test_a_caller_who_closes_the_socket_frees_its_rows(server: Process) -> None:
    server.hold()
    body = b'{"text": "alpha bravo"}'
    head = (
        f"POST /summarize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as caller:
        caller.sendall(head.encode() + body)
        eventually(lambda: server.metric("precis_live_rows") > 0)
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


GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST /summarize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = b"x" * (2 * 1024 * 1024)


@pytest.mark.parametrize(
    "sent",
    [
        b"NONSENSE\r\n\r\n",
        GET + b"X-Long: " + b"x" * MOST_HEADER_BYTES + b"\r\n\r\n",
        GET + b"X-Many: x\r\n" * (MOST_HEADER_BYTES // 6) + b"\r\n",
        b"GET /" + b"x" * MOST_HEADER_BYTES + b" HTTP/1.1\r\n\r\n",
        GET + b"X-Endless: " + ENDLESS,
        CHUNKED + b"1\r\n{\r\n0\r\nX-Endless: " + ENDLESS,
        CHUNKED + b"1\r\n{\r\n0\r\n" + b"X-Many: x\r\n" * (MOST_HEADER_BYTES // 6),
        b"\r\n" * (1024 * 1024),
    ],
    ids=["nonsense", "header", "headers", "url", "endless header", "endless trailer", "trailers", "blank lines"],
)
def test_a_head_that_is_wrong_or_too_long_is_400_and_the_connection_closed(server: Process, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as caller:
        answered = b""
        with contextlib.suppress(ConnectionError):  # it need not read all of what it refuses
            caller.sendall(sent)
            answered = caller.makefile("rb").read()
    assert answered[:13] in (b"HTTP/1.1 400 ", b"")
    assert server.get("/livez").status_code == 200


def test_what_is_no_http_is_answered_with_a_problem_all_the_same(server: Process) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as caller:
        caller.sendall(b"NONSENSE\r\n\r\n")
        head, body = caller.makefile("rb").read().split(b"\r\n\r\n")
    problem = Problem.model_validate_json(body)
    headers = dict(line.split(b": ") for line in head.split(b"\r\n")[1:])
    assert (problem.status, problem.error_type) == (400, "malformed-http")
    assert headers[b"Content-Type"] == b"application/problem+json"
    assert headers[b"Content-Length"] == b"%d" % len(body)
    assert headers[b"X-Request-ID"] == problem.request_id.encode()


def test_a_head_within_its_limit_is_read_piece_by_piece(server: Process) -> None:
    head = GET + b"X-Long: " + b"x" * (MOST_HEADER_BYTES - 1000) + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as caller:
        for start in range(0, len(head), 1000):
            caller.sendall(head[start : start + 1000])
        assert caller.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_requests_that_come_together_are_answered_in_turn(server: Process) -> None:
    last = GET.replace(b"/livez", b"/nope") + b"Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as caller:
        caller.sendall((GET + b"\r\n") * 2 + last)
        answered = caller.makefile("rb").read()
    assert re.findall(rb"HTTP/1.1 (\d+)", answered) == [b"200", b"200", b"404"]


def test_a_request_that_offers_http_2_is_answered_in_http_1(server: Process) -> None:
    body = b'{"text": "alpha bravo charlie"}'
    head = b"POST /summarize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 31\r\n"
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as caller:
        caller.sendall(head + offer + body[:9])
        caller.sendall(body[9:] + GET + b"Connection: close\r\n\r\n")
        answered = caller.makefile("rb").read()
    assert re.findall(rb"HTTP/1.1 (\d+)", answered) == [b"200", b"200"]


def test_a_thousand_callers_stay_connected_where_few_files_may_be_open(tmp_path: Path) -> None:
    callers = 1000
    few, (soft, hard) = callers // 2, resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3 * callers:
        pytest.skip(f"this machine allows {hard} open files")
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))  # the process inherits it
        try:
            server = stack.enter_context(Process(tmp_path))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * callers), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        address = ("127.0.0.1", server.port)
        connected = [stack.enter_context(socket.create_connection(address, timeout=PATIENCE)) for _ in range(callers)]
        for caller in connected:
            caller.sendall(GET + b"\r\n")
        assert {caller.recv(12) for caller in connected} == {b"HTTP/1.1 200"}
        assert server.summarize().status_code == 200


def test_without_its_default_model_it_ends_with_one_line_and_a_status() -> None:
    command, settings = [sys.executable, "-m", "app"], {"PRECIS_PORT": "0", "PRECIS_MODEL": "nope"}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(**settings), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("precis: cannot load the default model 'nope' from model_store: ")
    assert "Traceback" not in ended.stdout


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PRECIS_PORT", "http", "PRECIS_PORT: "),
        ("PRECIS_PROT", "1", "PRECIS_PROT is not a setting; did you mean PRECIS_"),
    ],
)
def test_a_wrong_setting_ends_start_up_with_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    assert main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"precis: {told}")


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_sleep_unless_the_operator_wants_otherwise(before: str | None, after: str) -> None:
    given = environment()
    given.pop("OMP_WAIT_POLICY", None)
    given |= {} if before is None else {"OMP_WAIT_POLICY": before}
    code = """
import os, sys
from app.__main__ import main
import app.config
assert "torch" not in sys.modules
class Torch:
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print(os.environ["OMP_WAIT_POLICY"])
            sys.exit()
sys.meta_path.insert(0, Torch())
main()
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=given, capture_output=True, text=True, check=True)
    assert told.stdout == f"{after}\n"


def test_the_garbage_of_a_few_requests_is_left_until_it_is_worth_looking_for(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[tuple[int, ...]] = []
    monkeypatch.setattr("gc.set_threshold", lambda *thresholds: chosen.append(thresholds))
    monkeypatch.setattr(Server, "run", lambda _server, sockets: [each.close() for each in sockets])
    settings = Settings(port=0)
    assert serve(create_app(settings, models=[]), settings) == 0
    assert chosen == [COLLECT_AFTER]


def test_a_port_that_is_taken_is_one_line_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(port=port)
        assert serve(create_app(settings, models=[]), settings) == 1
    told = capsys.readouterr().err
    assert told == f"precis: cannot listen on 127.0.0.1, port {port}: Address already in use\n"


def test_a_host_that_does_not_exist_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"^cannot listen on no host, port 0: \w"):
        listen(Settings(host="no host", port=0))


def test_an_ipv6_host_is_listened_on() -> None:
    with listen(Settings(host="::1", port=0)) as listener:
        assert listener.family == socket.AF_INET6


def _admit(server: Process, pool: ThreadPoolExecutor, texts: int) -> list[Future[httpx2.Response]]:
    """Requests that are certainly admitted: waiting or live."""
    answers = [pool.submit(server.summarize, f"alpha bravo {number}") for number in range(texts)]
    beams = 2
    eventually(lambda: server.metric("precis_queue_texts") + server.metric("precis_live_rows") / beams == texts)
    return answers
