"""Access, as callers of a real process meet it."""

import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from app.cli.command import app
from app.client import Client, Summary, TooManyRequestsError, UnauthorizedError
from tests.api.waiting import PATIENCE, eventually
from tests.test_server import Process

TEXT = "alpha bravo charlie"
WARNING = "no API keys: whoever reaches this address may use the service"


def new(name: str, *options: str) -> tuple[str, str]:
    """A key and its line, as an operator makes them."""
    result = CliRunner().invoke(app, ["keys", "new", name, *options])
    assert result.exit_code == 0
    return result.stderr.split()[-1], result.stdout.strip()


class Keyed:
    """A service with keys in a file that can be changed."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "keys"
        self.key, self.line = new("desk")
        self.write(self.line)
        self.process = Process(folder, PRECIS_API_KEYS_FILE=str(self.file))

    def write(self, *lines: str) -> None:
        changed = self.file.with_suffix(".new")
        changed.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        os.replace(changed, self.file)

    def summarize(self, key: str, times: int = 1) -> list[Summary]:
        with Client(self.process.url, api_key=key, retries=0) as client:
            return [client.summarize(TEXT) for _ in range(times)]

    def get(self, key: str, path: str = "/models") -> httpx2.Response:
        return httpx2.get(self.process.url + path, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE)

    def status(self, key: str) -> int:
        return self.get(key).status_code


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    keyed = Keyed(tmp_path_factory.mktemp("keyed"))
    with keyed.process:
        yield keyed


def test_a_key_is_made_revoked_and_replaced_while_the_service_runs(keyed: Keyed) -> None:
    assert keyed.summarize(keyed.key)
    other, line = new("other")
    assert keyed.status(other) == 401
    keyed.write(keyed.line, line)  # side by side
    assert [keyed.status(key) for key in (keyed.key, other)] == [200, 200]
    keyed.write(line)
    assert [keyed.status(key) for key in (keyed.key, other)] == [401, 200]
    with pytest.raises(UnauthorizedError):
        keyed.summarize(keyed.key)
    keyed.write(keyed.line)


def test_whoever_was_let_in_is_answered_though_the_key_is_revoked_meanwhile(keyed: Keyed) -> None:
    keyed.process.hold()
    with ThreadPoolExecutor(1) as pool:
        try:
            answer = pool.submit(keyed.summarize, keyed.key)
            eventually(lambda: re.search(r"^precis_live_rows\{.*\} [1-9]", keyed.get(keyed.key, "/metrics").text, re.M))
            keyed.write("# nobody")
            assert keyed.status(keyed.key) == 401
        finally:
            keyed.process.go_on()
        assert answer.result()
    keyed.write(keyed.line)


def test_limits_are_told_to_a_client_over_a_socket(keyed: Keyed) -> None:
    key, line = new("slow", "--requests", "2")
    keyed.write(keyed.line, line)
    with pytest.raises(TooManyRequestsError, match="2 requests a minute") as caught:
        keyed.summarize(key, times=6)  # more than two: a minute of the clock may end meanwhile
    assert caught.value.retry_after is not None
    assert 1 <= caught.value.retry_after <= 120


def test_whoever_is_not_let_in_is_answered_before_the_body_was_sent(keyed: Keyed) -> None:
    head = "POST /summarize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", keyed.process.port), PATIENCE) as caller:
        caller.sendall(head.encode())
        assert caller.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_no_line_of_the_log_holds_a_key(keyed: Keyed) -> None:
    keyed.status(keyed.key)
    eventually(lambda: "desk" in [line.get("key") for line in keyed.process.lines("request")])
    log = (keyed.file.parent / "output").read_text()
    assert keyed.key not in log
    assert "Bearer" not in log
    assert keyed.line.split("sha256:")[1] not in log


def test_the_parser_answers_with_the_same_safe_headers(keyed: Keyed) -> None:
    with socket.create_connection(("127.0.0.1", keyed.process.port), PATIENCE) as caller:
        caller.sendall(b"NOT HTTP\r\n\r\n")
        answer = caller.recv(65536).lower()
    assert answer.startswith(b"http/1.1 400 ")
    for header in (b"x-content-type-options: nosniff", b"content-security-policy: default-src 'none'", b"no-store"):
        assert header in answer


def test_without_keys_the_log_says_so_beyond_loopback_and_administration_is_off(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    with Process(tmp_path / "open", PRECIS_HOST="0.0.0.0") as beyond:
        eventually(lambda: len(beyond.lines(WARNING)) == 1)
        assert beyond.lines(WARNING)[0]["level"] == "warning"
        assert beyond.get("/models").status_code == 200
    with Process(tmp_path) as here:
        here.get("/livez")
        eventually(lambda: here.lines("request"))
        assert here.lines(WARNING) == []


def test_with_keys_nothing_is_said_beyond_loopback(tmp_path: Path) -> None:
    with Process(tmp_path, PRECIS_HOST="0.0.0.0", PRECIS_API_KEYS=new("desk")[1]) as process:
        assert process.get("/models").status_code == 401
        eventually(lambda: process.lines("request"))
        assert process.lines(WARNING) == []
