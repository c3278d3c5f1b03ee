"""What the proxy before several replicas passes on, to whom, and what it says by itself."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import pytest

from app.config import LONGEST_TIMEOUT_MS, Settings
from app.schemas import Problem
from tests.deploy.proxied import (
    CONFIGURATION,
    PATIENCE_SECONDS,
    Asked,
    Conduct,
    Names,
    Proxy,
    Replica,
    answering,
    dying,
    free_port,
    listed,
    named,
    proxy,
)

BODY = json.dumps({"text": "A council approved a bridge."}).encode()
Serve = Callable[..., tuple[Proxy, list[Replica]]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(*conducts: Conduct) -> tuple[Proxy, list[Replica]]:
            replicas = [Replica(conduct) for conduct in conducts]
            for replica in replicas:
                stack.callback(replica.close)
            return stack.enter_context(proxy(tmp_path, listed(replicas))), replicas

        yield start


def post(nginx: Proxy, path: str = "/summarize", **headers: str) -> httpx2.Response:
    return nginx.post(path, BODY, **headers)


def problem_of(answer: httpx2.Response) -> Problem:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(answer.content)
    assert problem.status == answer.status_code
    assert problem.request_id == answer.headers["x-request-id"]
    return problem


# --- whom it asks ---


def test_a_text_that_one_replica_refuses_is_sent_to_another_one(serve: Serve) -> None:
    nginx, (refusing, other) = serve(answering(503), answering(200, b"summary"))
    answers = [post(nginx) for _ in range(4)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, b"summary")] * 4
    assert len(other.asked) == 4
    assert refusing.asked
    assert {asked.body for asked in refusing.asked + other.asked} == {BODY}


def test_a_refusal_comes_from_the_second_replica_and_no_third_one_is_asked(serve: Serve) -> None:
    full = answering(503, b'{"title": "Overloaded"}', "Retry-After: 7")
    nginx, replicas = serve(full, full, full)
    answer = post(nginx)
    assert (answer.status_code, answer.headers["retry-after"], answer.content) == (503, "7", b'{"title": "Overloaded"}')
    assert sum(len(replica.asked) for replica in replicas) == 2


def test_refusals_take_no_replica_out_of_service(serve: Serve) -> None:
    nginx, replicas = serve(answering(503), answering(503))
    for _ in range(5):
        assert post(nginx).status_code == 503
    for replica in replicas:
        replica.conduct = answering(200)
    assert {post(nginx).status_code for _ in range(4)} == {200}
    assert all(len(replica.asked) > 5 for replica in replicas)


def test_a_text_that_a_replica_died_over_is_sent_to_another_one(serve: Serve) -> None:
    nginx, (dead, other) = serve(dying, answering(200))
    assert [post(nginx).status_code for _ in range(3)] == [200] * 3
    assert dead.asked
    assert len(other.asked) == 3


def test_a_replica_that_does_not_listen_is_passed_over(serve: Serve) -> None:
    nginx, (gone, other) = serve(answering(200), answering(200))
    gone.close()
    assert [post(nginx).status_code for _ in range(4)] == [200] * 4
    assert len(other.asked) == 4


def test_an_answer_that_had_begun_is_not_begun_again(serve: Serve) -> None:
    def break_off(_asked: Asked, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.close()

    nginx, replicas = serve(break_off, break_off)
    with pytest.raises(httpx2.RemoteProtocolError):
        post(nginx)
    assert sum(len(replica.asked) for replica in replicas) == 1


def test_the_replica_with_the_fewest_open_requests_is_asked(serve: Serve) -> None:
    held, release = threading.Event(), threading.Event()

    def hold(asked: Asked, connection: socket.socket) -> None:
        if "x-hold" in asked.headers:
            held.set()
            release.wait(PATIENCE_SECONDS)
        answering(200)(asked, connection)

    nginx, replicas = serve(hold, hold)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(post, nginx, x_hold="yes")
        assert held.wait(PATIENCE_SECONDS)
        for _ in range(4):
            post(nginx)
        release.set()
        assert waiting.result().status_code == 200
    assert sorted(len(replica.asked) for replica in replicas) == [1, 4]


# --- replicas that come and go ---


@contextmanager
def looked_up(folder: Path, *conducts: Conduct) -> Iterator[tuple[Proxy, Names, list[Replica]]]:
    """Replicas on addresses of their own, of which the first one is known."""
    port = free_port()
    with ExitStack() as stack:
        replicas = [Replica(conduct, (f"127.0.1.{place}", port)) for place, conduct in enumerate(conducts, 1)]
        names = Names("127.0.1.1")
        for close in (names.close, *(replica.close for replica in replicas)):
            stack.callback(close)
        nginx = stack.enter_context(proxy(folder, named(names, port)))
        until(lambda: post(nginx).status_code == 200)
        yield nginx, names, replicas


def until(happens: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not happens():
        assert time.monotonic() < end


def test_a_replica_that_comes_is_asked_and_one_that_goes_is_not(tmp_path: Path) -> None:
    with looked_up(tmp_path, answering(200), answering(200)) as (nginx, names, (first, second)):
        assert second.asked == []
        names.addresses = ["127.0.1.1", "127.0.1.2"]
        until(lambda: post(nginx).status_code == 200 and bool(second.asked))
        names.addresses = ["127.0.1.2"]
        first.conduct = answering(404)
        first.asked.clear()
        until(lambda: [post(nginx).status_code for _ in range(8)] == [200] * 8)
        first.asked.clear()
        assert [post(nginx).status_code for _ in range(8)] == [200] * 8
        assert first.asked == []


def test_a_text_whose_replica_died_is_answered_although_the_list_changed_meanwhile(tmp_path: Path) -> None:
    with looked_up(tmp_path, answering(200), answering(204)) as (nginx, names, (first, _)):

        def die_when_the_list_has_changed(asked: Asked, connection: socket.socket) -> None:
            if "x-first" in asked.headers:
                names.addresses = ["127.0.1.2"]
                until(lambda: post(nginx).status_code == 204)
                connection.close()
            else:
                answering(200)(asked, connection)

        first.conduct = die_when_the_list_has_changed
        assert post(nginx, x_first="yes").status_code == 204


def test_a_name_server_that_knew_nobody_for_a_moment_costs_no_later_request(tmp_path: Path) -> None:
    with looked_up(tmp_path, answering(200)) as (nginx, names, _):
        known, names.addresses = names.addresses, []
        until(lambda: post(nginx).status_code == 503)
        names.addresses = known
        assert [post(nginx).status_code for _ in range(8)] == [200] * 8


# --- what it passes on ---


def test_an_event_reaches_the_caller_before_the_next_one_is_written(serve: Serve) -> None:
    read = threading.Event()

    def stream(_asked: Asked, connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nevent: token\n\n"
        )
        assert read.wait(PATIENCE_SECONDS)
        connection.sendall(b"event: done\n\n")
        connection.close()

    nginx, _ = serve(stream)
    with nginx.client.stream("POST", "/summarize", content=BODY) as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == b"event: token\n\n"
        read.set()
        assert b"".join(pieces) == b"event: done\n\n"


def test_a_caller_who_leaves_is_gone_for_the_replica_too(serve: Serve) -> None:
    asked, left = threading.Event(), threading.Event()

    def wait(_asked: Asked, connection: socket.socket) -> None:
        asked.set()
        connection.settimeout(PATIENCE_SECONDS)
        if connection.recv(1) == b"":
            left.set()

    nginx, _ = serve(wait)
    with socket.create_connection(("127.0.0.1", nginx.port)) as caller:
        caller.sendall(b"POST /summarize HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{}")
        assert asked.wait(PATIENCE_SECONDS)
    assert left.wait(PATIENCE_SECONDS)


def test_headers_go_through_both_ways(serve: Serve) -> None:
    nginx, (replica,) = serve(
        answering(200, b"{}", "X-Request-ID: mine", "Server-Timing: queue;dur=1", "Retry-After: 3")
    )
    sent = {"x-request-id": "mine", "authorization": "Bearer key", "traceparent": "00-1-2-01"}
    answer = post(nginx, **{name.replace("-", "_"): value for name, value in sent.items()})
    heard = replica.asked[0].headers
    assert {name: heard[name] for name in sent} == sent
    assert heard["host"] == f"127.0.0.1:{nginx.port}"
    assert heard["x-forwarded-for"] == "127.0.0.1"
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["server-timing"] == "queue;dur=1"


def test_the_log_has_the_id_and_the_replicas_but_nothing_that_a_caller_typed(serve: Serve) -> None:
    nginx, (refusing, other) = serve(answering(503), answering(200, b"{}", "X-Request-ID: known"))
    post(nginx, "/models/a-secret?another=secret", authorization="Bearer secret", user_agent="secret")
    post(nginx, "/secret")
    while len(lines := nginx.log.read_text().splitlines()) < 2:
        pass
    asked_twice = next(line for line in map(json.loads, lines) if ", " in line["replicas"])
    assert asked_twice["replicas"] == f"127.0.0.1:{refusing.port}, 127.0.0.1:{other.port}"
    assert (asked_twice["replica_statuses"], asked_twice["status"]) == ("503, 200", 200)
    assert asked_twice["request_id"] == "known"
    assert "secret" not in "".join(lines)


# --- what it says by itself ---


def test_without_any_replica_the_answer_is_a_problem_that_says_when_to_try_again(serve: Serve) -> None:
    nginx, (gone,) = serve(answering(200))
    gone.close()
    answer = post(nginx)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert problem_of(answer).instance == "/summarize"


def test_a_body_that_is_too_large_is_a_problem_and_asks_nobody(serve: Serve) -> None:
    nginx, (replica,) = serve(answering(200))
    with closing(HTTPConnection("127.0.0.1", nginx.port, timeout=PATIENCE_SECONDS)) as connection:
        connection.putrequest("POST", '/summarize?"quoted"')
        connection.putheader("Content-Length", str(105 * 2**20))
        connection.endheaders()
        with connection.getresponse() as response:
            answer = httpx2.Response(response.status, headers=response.getheaders(), content=response.read())
    assert answer.status_code == 413
    problem = problem_of(answer)
    assert (problem.error_type, problem.instance, problem.error) == ("content-too-large", "/summarize", problem.detail)
    assert replica.asked == []


def test_a_head_that_is_too_long_is_a_problem(serve: Serve) -> None:
    nginx, (replica,) = serve(answering(200))
    answer = post(nginx, long="x" * 40_000)
    assert answer.status_code == 400
    assert problem_of(answer).error_type == "bad-request"
    assert replica.asked == []


@pytest.mark.parametrize("path", ["/metrics", "/models/news-en/reload", "/models/news%2den/reload"])
def test_what_one_replica_alone_would_tell_or_do_is_not_found(serve: Serve, path: str) -> None:
    nginx, (replica,) = serve(answering(200))
    answer = post(nginx, path)
    assert answer.status_code == 404
    assert "each replica" in problem_of(answer).detail.lower()
    assert replica.asked == []


# --- limits ---


def set_to(directive: str) -> str:
    (value,) = re.findall(rf"^ *{directive} ([^;]+);", CONFIGURATION.read_text(encoding="utf-8"), re.MULTILINE)
    return str(value)


def test_it_is_more_patient_than_the_most_patient_caller() -> None:
    assert int(set_to("proxy_read_timeout").rstrip("s")) > LONGEST_TIMEOUT_MS / 1000


def test_every_body_that_the_service_takes_by_default_comes_through() -> None:
    limit = int(set_to("client_max_body_size").rstrip("m")) * 2**20
    assert 0 <= limit - Settings().max_batch_body_bytes < 10 * 2**20
    assert set_to("client_body_timeout") == set_to("client_header_timeout") == f"{Settings().stall_seconds:g}s"
