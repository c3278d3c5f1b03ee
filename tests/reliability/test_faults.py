"""Whatever happens to the processes, the disk or the clock of a service: only guilty texts fail, and it recovers."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest

from tests.api.waiting import PATIENCE, eventually
from tests.fakes import POISON, WORDS
from tests.reliability.lanes import forkserver, lanes, zygotes
from tests.reliability.serving import FEVER, IMPATIENT, JUMPING, WITHOUT_TMP, store
from tests.test_server import ROOT, Process, environment

MODULE = "tests.reliability.serving"
TEXTS = [" ".join(WORDS[start : start + 5]) for start in range(20)]  # none of them has the fever
LANES = 2


@contextlib.contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Process]:
    """Ready, and with all its lanes; at the end it stops as it should."""
    settings = {"PRECIS_MODEL_STORE": str(store(folder)), "PRECIS_MAX_ROWS": "16", **settings}
    with Process(folder, MODULE, **settings) as server:
        eventually(lambda: ready(server))
        yield server
        server.stop()
        assert server.wait() == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One for all the tests after which it is as before."""
    with serving(tmp_path_factory.mktemp("service")) as process:
        yield process


def ready(server: Process) -> bool:
    return server.get("/readyz").status_code == 200


def pids(server: Process) -> list[int]:
    """Of all the lanes, once they are there."""
    eventually(lambda: len(lanes(server.process.pid)) == LANES)
    return lanes(server.process.pid)


def kill(pid: int | None, number: int = signal.SIGKILL) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def summary(server: Process, text: str) -> str:
    response = server.summarize(text)
    assert response.status_code == 200, response.text
    return str(response.json()["summary"])


@contextlib.contextmanager
def load(server: Process, clients: int = 8) -> Iterator[list[httpx2.Response]]:
    """So many callers, each with its next text when the last is answered; what they were answered."""
    answers: list[httpx2.Response] = []
    over = threading.Event()

    def call(number: int) -> None:
        random = Random(number)
        with httpx2.Client(base_url=server.url, timeout=PATIENCE) as client:
            while not over.is_set():
                answers.append(client.post("/summarize", json={"text": random.choice(TEXTS)}))

    with ThreadPoolExecutor(clients) as pool:
        calls = [pool.submit(call, number) for number in range(clients)]
        try:
            yield answers
        finally:
            over.set()
        for each in calls:
            each.result()


def strike(server: Process, folder: Path, random: Random, kind: int) -> None:
    """Kill or stop a lane, or kill all of them with what they are forked from; until they are replaced."""
    struck, restarts = pids(server), len(backs(folder))
    if kind == 2:
        for pid in (forkserver(server.process.pid), *zygotes(server.process.pid)):
            kill(pid)
    else:
        struck = [random.choice(struck)]
    for pid in struck:
        kill(pid, signal.SIGSTOP if kind == 1 else signal.SIGKILL)
    eventually(lambda: len(backs(folder)) >= restarts + len(struck))


def backs(folder: Path) -> list[str]:
    return [line for line in log(folder) if "is back" in line]


def some_more(answers: list[httpx2.Response]) -> None:
    before = len(answers)
    eventually(lambda: len(answers) > before + 50)


def test_a_lane_that_dies_at_rest_is_replaced_before_there_is_work(server: Process) -> None:
    struck, before = pids(server)[0], server.metric("precis_worker_restarts_total")
    kill(struck)
    eventually(lambda: server.metric("precis_worker_restarts_total") == before + 1)
    assert struck not in pids(server)
    assert ready(server)
    assert summary(server, TEXTS[0])


def test_it_is_ready_while_one_lane_is_there_and_not_when_all_hang_until_they_are_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, **{IMPATIENT: "1"}) as server:
        expected = summary(server, TEXTS[0])
        kill(pids(server)[0], signal.SIGSTOP)
        assert summary(server, TEXTS[0]) == expected
        assert ready(server)
        eventually(lambda: server.metric("precis_worker_restarts_total") == 1 and backs(tmp_path))
        for pid in pids(server):
            kill(pid, signal.SIGSTOP)
        eventually(lambda: not ready(server))
        assert summary(server, TEXTS[0]) == expected, "it waited for a lane"
        eventually(lambda: ready(server))
        eventually(lambda: server.metric("precis_worker_restarts_total") == 1 + LANES)


def test_under_load_no_fault_fails_a_text_or_changes_its_summary(tmp_path: Path) -> None:
    random = Random(0)
    with serving(tmp_path, **{IMPATIENT: "1"}) as server:
        expected = {text: summary(server, text) for text in TEXTS}
        with load(server) as answers:
            for number in range(6):
                some_more(answers)
                strike(server, tmp_path, random, number % 3)
        statuses = {answer.status_code for answer in answers}
        assert statuses == {200}
        assert {answer.json()["summary"] for answer in answers} <= set(expected.values())
        assert {text: summary(server, text) for text in TEXTS} == expected
        eventually(lambda: ready(server))
        assert server.metric("precis_live_rows") == 0


def test_texts_that_kill_or_break_the_model_fail_alone(server: Process) -> None:
    guilty = [FEVER, *POISON]
    expected = {text: summary(server, text) for text in TEXTS}
    body = {"texts": [*TEXTS[:5], guilty[0], *TEXTS[5:8], *guilty[1:], *TEXTS[8:]]}
    response = httpx2.post(f"{server.url}/summarize/batch", json=body, timeout=PATIENCE)
    assert response.status_code == 200
    for text, result in zip(body["texts"], response.json()["results"], strict=True):
        if text in guilty:
            assert result["error"]["status"] == 500
        else:
            assert result["summary"] == expected[text]
    eventually(lambda: ready(server))


def test_when_the_model_store_vanishes_a_lane_comes_back_without_it(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        expected = summary(server, TEXTS[0])
        (tmp_path / "store").rename(tmp_path / "vanished")
        for pid in pids(server):
            before = len(backs(tmp_path))
            kill(pid)
            eventually(lambda before=before: len(backs(tmp_path)) > before)  # type: ignore[misc]
        assert summary(server, TEXTS[0]) == expected


def test_when_what_has_the_model_dies_too_serving_goes_on_and_lanes_come_back_with_the_store(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        first, second = pids(server)
        (zygote,) = zygotes(server.process.pid)
        expected = summary(server, TEXTS[0])
        (tmp_path / "store").rename(tmp_path / "vanished")
        with load(server) as answers:
            kill(zygote)
            kill(first)
            eventually(lambda: reasons(tmp_path))
            some_more(answers)
        assert {answer.status_code for answer in answers} == {200}
        assert ready(server)
        assert "no checkpoint 'news-en' in " in reasons(tmp_path)[0]
        kill(second)
        eventually(lambda: not ready(server))
        eventually(lambda: server.summarize(TEXTS[0]).status_code == 503)
        refusal = server.summarize(TEXTS[0])
        assert refusal.status_code == 503
        assert int(refusal.headers["retry-after"]) >= 1
        assert server.get("/livez").status_code == 200
        (tmp_path / "vanished").rename(tmp_path / "store")
        eventually(lambda: ready(server))
        assert summary(server, TEXTS[0]) == expected


def log(folder: Path) -> list[str]:
    return (folder / "output").read_text().splitlines()


def reasons(folder: Path) -> list[str]:
    """Why lanes could not be opened."""
    return [line for line in log(folder) if "cannot be opened yet" in line]


def test_where_the_system_gives_nothing_more_a_lane_is_replaced_when_it_does_again(tmp_path: Path) -> None:
    with serving(tmp_path) as server, httpx2.Client(base_url=server.url, timeout=PATIENCE) as kept:
        pid = server.process.pid
        first, _ = pids(server)
        expected = kept.post("/summarize", json={"text": TEXTS[0]}).json()["summary"]
        usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, usual[1]))
        kill(first)
        eventually(lambda: reasons(tmp_path))
        assert kept.post("/summarize", json={"text": TEXTS[0]}).json()["summary"] == expected
        assert kept.get("/readyz").status_code == 200
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
        assert len(pids(server)) == LANES
        assert "Too many open files" in reasons(tmp_path)[0]


def test_when_the_folder_for_temporary_files_is_emptied_a_lane_is_replaced_all_the_same(
    tmp_path: Path, temporary: Path
) -> None:
    with serving(tmp_path, TMPDIR=str(temporary)) as server:
        struck, (zygote,) = pids(server)[0], zygotes(server.process.pid)
        (used,) = temporary.iterdir()
        shutil.rmtree(used)
        kill(zygote)
        kill(struck)
        eventually(lambda: backs(tmp_path))
        assert summary(server, TEXTS[0])


def test_without_a_folder_for_temporary_files_it_serves_in_threads_and_says_so(tmp_path: Path) -> None:
    with serving(tmp_path, **{WITHOUT_TMP: "1"}) as server:
        assert lanes(server.process.pid) == []
        assert summary(server, TEXTS[0])
        (line,) = [line for line in log(tmp_path) if "can have no processes" in line]
        assert "No such file or directory" in line


def test_a_wall_clock_that_jumps_changes_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, **{JUMPING: "1", "PRECIS_TIMEOUT_MS": "60000"}) as server:
        with load(server) as answers:
            some_more(answers)
            kill(pids(server)[0])
            some_more(answers)
        assert {answer.status_code for answer in answers} == {200}


def test_callers_who_neither_read_nor_leave_keep_nobody_else_waiting(server: Process) -> None:
    with contextlib.ExitStack() as stack:
        body = b'{"text": "%s", "stream": true, "parameters": {"min_length": 60, "max_length": 60}}' % TEXTS[0].encode()
        head = b"POST /summarize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        for number in range(20):
            caller = stack.enter_context(socket.socket())
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            caller.connect(("127.0.0.1", server.port))
            caller.sendall((head % len(body) + body)[: -1 if number % 2 else None])  # half of them never finish
        assert {summary(server, text) for text in TEXTS}
        eventually(lambda: server.metric("precis_live_rows") == 0)
        assert ready(server)


@contextlib.contextmanager
def logging_to(output: Any, folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """The service with this for its standard output; its address, once it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = {"PRECIS_PORT": str(port), "PRECIS_MODEL_STORE": str(store(folder)), "PRECIS_MAX_ROWS": "16"}
    command = [sys.executable, "-m", MODULE]
    if output is None:
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    with subprocess.Popen(command, cwd=ROOT, env=environment(**settings), stdout=output, stderr=output) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: process.poll() is not None or answers(url))
            yield process, url
        finally:
            if process.poll() is None:
                process.kill()


def answers(url: str) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return httpx2.get(f"{url}/readyz", timeout=PATIENCE).status_code == 200
    return False


@pytest.mark.parametrize("kind", ["full", "closed", "unread"])
def test_a_log_that_cannot_be_written_stops_nobody(kind: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        output: Any = None
        if kind == "full":
            output = stack.enter_context(open("/dev/full", "wb"))
        elif kind == "unread":
            output = subprocess.PIPE
        process, url = stack.enter_context(logging_to(output, tmp_path))
        with httpx2.Client(base_url=url, timeout=PATIENCE) as client:
            for _ in range(600):  # a pipe holds the lines of half of these
                assert client.get("/livez").status_code == 200
            kill(lanes(process.pid)[0])
            eventually(lambda: "precis_worker_restarts_total 1.0" in client.get("/metrics").text)
            assert client.post("/summarize", json={"text": TEXTS[0]}).status_code == 200
        process.terminate()
        assert process.wait(PATIENCE) == 0
