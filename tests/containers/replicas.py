"""`python3 -m tests.containers.replicas URL`: replicas behind nginx, of which one stops, comes back, and one is killed.

All of that under load. Fails when a request failed that was not in flight in a replica that was killed, when a replica
that came back is given nothing to do, or when the log of nginx holds a text. Runs where `docker` speaks to the engine.
"""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CLIENTS = 8
PATIENCE_SECONDS = 120.0
MOST_REQUESTS = 20_000  # of one client
ARTICLE = json.loads(Path(__file__).with_name("article.json").read_text(encoding="utf-8"))
Answered = tuple[int, dict[str, str], bytes]


def main(url: str) -> None:
    replicas = docker("ps", "-q", "--filter", "label=com.docker.compose.service=api").split()
    assert len(replicas) == 3, f"{len(replicas)} replicas"
    host = urlsplit(url).netloc
    streams(host)
    belongs_to_one_replica(host)
    with load(host) as failures:
        until("all replicas work", lambda: len(working()) == 3)
        docker("stop", replicas[0])
        until("two replicas work", lambda: len(working()) == 2)
        docker("start", replicas[0])
        until("the replica that was stopped works again", lambda: len(working()) == 3)
    assert not failures, f"stopped and started: {Counter(failures)}, {refused()}"
    with load(host) as failures:
        docker("kill", "--signal", "KILL", replicas[1])
        until("two replicas work", lambda: len(working()) == 2)
        docker("start", replicas[1])
        until("the replica that was killed works again", lambda: len(working()) == 3)
    assert len(failures) <= CLIENTS, f"more than were in flight: {Counter(failures)}, {refused()}"
    print(f"a replica was killed: {len(failures)} of at most {CLIENTS} that were in flight failed")
    log = docker("logs", proxy())
    assert ARTICLE["text"].split(".")[0] not in log
    statuses = Counter(line["status"] for line in logged(log))
    print(f"nginx answered {dict(statuses)}; asked twice: {sum(', ' in line['replicas'] for line in logged(log))}")


def streams(host: str) -> None:
    status, headers, body = ask(HTTPConnection(host, timeout=30), {**ARTICLE, "stream": True}, "a-stream")
    assert (status, headers["x-request-id"]) == (200, "a-stream"), (status, headers)
    assert headers["content-type"].startswith("text/event-stream"), headers
    events = [line for line in body.decode().splitlines() if line.startswith("event: ")]
    assert events[0] == "event: token", events
    assert events[-2:] == ["event: summary", "event: done"], events


def belongs_to_one_replica(host: str) -> None:
    connection = HTTPConnection(host, timeout=30)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    problem = json.load(answer)
    assert answer.getheader("Content-Type") == "application/problem+json", answer.headers
    assert (answer.status, problem["status"], problem["instance"]) == (404, 404, "/metrics"), problem


@contextmanager
def load(host: str) -> Iterator[list[str]]:
    """Clients who ask again at once, until this ends; what failed of theirs."""
    failures: list[str] = []
    over = threading.Event()
    clients = [threading.Thread(target=_client, args=(host, number, failures, over)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield failures
    finally:
        over.set()
        for client in clients:
            client.join()


def _client(host: str, number: int, failures: list[str], over: threading.Event) -> None:
    connection = HTTPConnection(host, timeout=30)
    for count in range(MOST_REQUESTS):
        if over.is_set():
            return
        name = f"client-{number}-{count}"
        try:
            status, headers, body = ask(connection, ARTICLE, name)
        except (OSError, HTTPException) as error:
            failures.append(repr(error))
            connection.close()
            continue
        if (status, headers["x-request-id"], json.loads(body).get("id")) != (200, name, name):
            failures.append(f"{status} {body[:200]!r}")


def ask(connection: HTTPConnection, article: dict[str, Any], name: str) -> Answered:
    headers = {"Content-Type": "application/json", "X-Request-ID": name}
    connection.request("POST", "/summarize", json.dumps(article), headers)
    answer = connection.getresponse()
    return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()


def working() -> set[str]:
    """Replicas that answered 200 within the last two seconds."""
    lines = logged(docker("logs", "--since", "2s", proxy()))
    return {line["replicas"].split(", ")[-1] for line in lines if line["status"] == 200}


def refused() -> str:
    """Whom nginx asked in vain, how often, and when first and last."""
    lines = [line for line in logged(docker("logs", proxy())) if line["status"] != 200]
    asked = Counter(f"{line['replicas']} ({line['replica_statuses']})" for line in lines)
    return f"{asked}, from {lines[0]['time']} to {lines[-1]['time']}" if lines else "nginx refused nothing"


def until(what: str, happens: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not happens():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.5)


def logged(log: str) -> Sequence[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def proxy() -> str:
    return docker("ps", "-q", "--filter", "label=com.docker.compose.service=nginx").strip()


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
