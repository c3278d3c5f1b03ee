"""A real process among callers who are too many, too slow or too large, or who leave."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from app.connection import MOST_AHEAD
from app.schemas import Problem
from benchmarks.flood import flood
from tests.api.waiting import PATIENCE, eventually
from tests.test_server import Process

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
STALL = "1"
FEW_BYTES = 4096
MIB = 1 << 20
MOST = 4


def post(path: str = "/summarize", length: int | None = None, /, **body: Any) -> bytes:
    """A whole request, or one that announces more than it brings."""
    sent = json.dumps({"text": "alpha bravo charlie", **body}).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {length or len(sent)}", "", ""]).encode() + sent


class Caller(socket.socket):
    """Reads little at a time."""

    def __init__(self, server: Process) -> None:
        super().__init__()
        self.settimeout(PATIENCE)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FEW_BYTES)
        self.connect(("127.0.0.1", server.port))

    def answer(self) -> bytes:
        """One of them, whole."""
        heard = self.recv(FEW_BYTES)
        while not (length := re.search(rb"content-length: (\d+)", heard)) or b"\r\n\r\n" not in heard:
            heard += self.recv(FEW_BYTES)
        while len(heard.split(b"\r\n\r\n", 1)[1]) < int(length[1]):
            heard += self.recv(FEW_BYTES)
        return heard

    def answers(self) -> bytes:
        """All that comes until the connection is closed."""
        heard = b""
        with suppress(ConnectionError):
            while more := self.recv(FEW_BYTES):
                heard += more
        return heard


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+) ", answers)]


def problem(answer: bytes) -> tuple[Problem, bytes]:
    head, body = answer.split(b"\r\n\r\n", 1)
    return Problem.model_validate_json(body), head.lower() + b"\r\n"


def refused(server: Process, reason: str) -> float:
    lines = server.get("/metrics").text.splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith(f'precis_refused_total{{reason="{reason}"}}')
    )


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """It waits for nobody who stalls."""
    with Process(tmp_path_factory.mktemp("hasty"), PRECIS_STALL_SECONDS=STALL) as process:
        yield process


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Process]:
    """It takes few connections and little at once."""
    with Process(tmp_path, PRECIS_MAX_CONNECTIONS=str(MOST), PRECIS_MAX_TRANSIT_MB="1") as process:
        yield process


# Many


def test_one_connection_too_many_gets_503_and_is_closed_and_still_hears_that_the_service_lives(small: Process) -> None:
    with ExitStack() as stack:
        there = [stack.enter_context(Caller(small)) for _ in range(MOST)]
        for each in there:
            each.sendall(GET)  # not yet all of it
        more = stack.enter_context(Caller(small))
        more.sendall(post())
        told, head = problem(more.answers())
        assert (told.status, told.error_type) == (503, "overloaded")
        assert re.search(rb"\r\nretry-after: [1-9]", head)
        assert b"\r\nconnection: close\r\n" in head
        well = stack.enter_context(Caller(small))
        well.sendall(GET + b"\r\n" + post())  # the answer to the first is the last one
        assert statuses(well.answers()) == [200]
        there[0].sendall(b"Connection: close\r\n\r\n")
        assert statuses(there[0].answers()) == [200]
        eventually(lambda: small.summarize().status_code == 200)
    assert refused(small, "connections") >= 1


def test_a_large_body_on_one_connection_too_many_does_not_take_its_answer_away(small: Process) -> None:
    with ExitStack() as stack:
        for _ in range(MOST):
            stack.enter_context(Caller(small)).sendall(GET)
        more = stack.enter_context(Caller(small))
        more.sendall(post("/summarize/batch", texts=["alpha " * 200_000]))
        assert statuses(more.answers()) == [503]


def test_connections_that_are_only_kept_make_room_for_others(small: Process) -> None:
    with ExitStack() as stack:
        kept = [stack.enter_context(Caller(small)) for _ in range(MOST)]
        for each in kept:
            each.sendall(GET + b"\r\n")
            assert each.answer().startswith(b"HTTP/1.1 200 ")
        eventually(lambda: small.summarize().status_code == 200)


def test_many_times_what_can_be_answered_is_200_or_503_with_retry_after(tmp_path: Path) -> None:
    bodies = [json.dumps({"text": f"alpha bravo {number}"}).encode() for number in range(20)]
    with Process(tmp_path, PRECIS_MAX_QUEUE="4") as server:
        server.hold()
        found = flood(server.url, bodies, 600.0, 1.0, connections=40, offered_all=server.go_on)
        assert set(found.statuses) == {200, 503}
        assert (found.without_retry_after, found.broken) == (0, 0)
        assert found.statuses.total() == found.offered - found.not_sent
        assert server.summarize().status_code == 200
        eventually(lambda: server.metric("precis_live_rows") == 0)


# Slow


@pytest.mark.parametrize("sent", [GET, GET + b"X-Slow: ", post("/summarize", 1000), post("/summarize/batch", 100_000)])
def test_a_request_that_stalls_is_408_and_the_connection_closed(hasty: Process, sent: bytes) -> None:
    with Caller(hasty) as caller:
        caller.sendall(sent)
        told, head = problem(caller.answers())
    assert (told.status, told.error_type) == (408, "request-timeout")
    assert b"\r\nconnection: close\r\n" in head


@pytest.mark.parametrize("drop", [b"X-More: x\r\n", b"x"], ids=["head", "body"])
def test_a_request_that_drips_is_ended_too(hasty: Process, drop: bytes) -> None:
    before = refused(hasty, "stalled")
    with Caller(hasty) as caller:
        caller.sendall(GET if drop.startswith(b"X") else post("/summarize", 1_000_000))

        def gone() -> bool:
            try:
                caller.sendall(drop)
            except ConnectionError:
                return True
            return False

        eventually(gone)
    assert refused(hasty, "stalled") == before + 1


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "a blank line"])
def test_a_connection_on_which_nobody_asks_is_closed(hasty: Process, sent: bytes) -> None:
    with Caller(hasty) as caller:
        caller.sendall(sent)
        assert caller.answers() == b""


def test_a_body_that_nobody_reads_does_not_keep_its_connection(hasty: Process) -> None:
    with Caller(hasty) as caller:
        caller.sendall(GET + b"Content-Length: 10\r\n\r\n")
        assert statuses(caller.answers()) == [200]


def test_whoever_waits_for_an_answer_may_be_slow_with_the_next_request(hasty: Process) -> None:
    hasty.hold()
    try:
        with Caller(hasty) as caller:
            caller.sendall(post() + GET)
            with Caller(hasty) as other:
                other.sendall(GET)
                assert statuses(other.answers()) == [408], "longer than that"
            hasty.go_on()
            caller.sendall(b"Connection: close\r\n\r\n")
            assert statuses(caller.answers()) == [200, 200]
    finally:
        hasty.go_on()


def test_an_answer_that_is_not_taken_is_given_up(hasty: Process) -> None:
    files = hasty.metric("process_open_fds")
    with Caller(hasty) as caller:
        caller.sendall(post("/attention", text="alpha bravo charlie delta echo " * 4000, truncation="chunk"))
        eventually(lambda: [line for line in hasty.lines("request") if line["route"] == "/attention"])
        eventually(lambda: hasty.metric("process_open_fds") == files)
        taken = caller.answers()
    length = re.search(rb"content-length: (\d+)", taken)
    assert length is not None
    assert len(taken) < int(length[1])


# Large


def test_of_large_bodies_only_so_many_are_received_at_once_and_small_ones_all_the_same(small: Process) -> None:
    half, files = b" " * (MIB // 2 + 100_000), small.metric("process_open_fds")
    with Caller(small) as first, Caller(small) as second:
        for each in (first, second):
            each.sendall(post("/summarize/batch", 3 * MIB))
        first.sendall(half)
        eventually(lambda: small.summarize().status_code == 200)
        second.sendall(half)
        told, head = problem(second.answer())
        assert (told.status, told.error_type) == (503, "overloaded")
        assert b"\r\nretry-after: " in head
        assert small.summarize().status_code == 200
    assert refused(small, "bodies") == 1
    eventually(lambda: small.metric("process_open_fds") == files)
    with Caller(small) as third:
        whole = post("/summarize/batch", 2 * MIB)
        third.sendall(whole.ljust(whole.index(b"{") + 2 * MIB))
        assert statuses(third.answer()) == [422], "alone it may"


def test_of_requests_sent_ahead_only_so_many_are_answered_and_the_last_one_says_so(hasty: Process) -> None:
    with Caller(hasty) as caller:
        with suppress(ConnectionError):
            caller.sendall((GET + b"\r\n") * 5000)
        answers = caller.answers()
    assert MOST_AHEAD < len(statuses(answers)) < 5000
    heads = answers.lower().split(b"http/1.1 ")[1:]
    assert [b"\r\nconnection: close\r\n" in head for head in heads] == [False] * (len(heads) - 1) + [True]


# Those who leave


def test_a_caller_who_leaves_with_requests_ahead_frees_its_rows(hasty: Process) -> None:
    hasty.hold()
    left = len([line for line in hasty.lines("request") if line["status"] == 499])
    with Caller(hasty) as caller:
        caller.sendall(post() * 3)
        eventually(lambda: hasty.metric("precis_live_rows") > 0)
    eventually(lambda: len([line for line in hasty.lines("request") if line["status"] == 499]) > left)
    hasty.go_on()
    eventually(lambda: hasty.metric("precis_live_rows") == 0)


def test_of_many_who_leave_every_row_is_free_after_one_step_and_nothing_else_is_left(tmp_path: Path) -> None:
    callers = 40
    with Process(tmp_path, PRECIS_MAX_QUEUE="100") as server:
        assert server.summarize().status_code == 200
        files = server.metric("process_open_fds")
        server.hold()
        with ExitStack() as stack:
            for number in range(callers):
                body = {"stream": True} if number % 2 else {"parameters": {"num_beams": 1}}
                stack.enter_context(Caller(server)).sendall(post(text=f"alpha {number}", **body))
            eventually(lambda: server.metric("precis_queue_texts") + server.metric("precis_live_rows") == callers)
        eventually(lambda: len([line for line in server.lines("request") if line["status"] == 499]) == callers)
        steps = server.metric("precis_token_seconds_count")
        server.go_on()
        eventually(lambda: server.metric("precis_live_rows") == server.metric("precis_queue_texts") == 0)
        assert server.metric("precis_token_seconds_count") <= steps + 1
        assert server.metric("precis_cancelled_total") == callers
        eventually(lambda: server.metric("process_open_fds") == files)
        assert server.summarize().status_code == 200
