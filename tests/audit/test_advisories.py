"""What pip-audit finds, and what it does not find out: it asks a copy of OSV on this machine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from audit.advisories import ask

KNOWN = {
    "id": "PYSEC-1",
    "details": "It is weak.",
    "aliases": [],
    "affected": [
        {
            "package": {"name": "weak", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
        }
    ],
}


class Database(BaseHTTPRequestHandler):
    """Knows one weakness."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"vulns": [KNOWN]} if asked["package"]["name"] == "weak" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def serving() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Database) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    return tmp_path / "constraints.txt"


@pytest.fixture(autouse=True)
def directly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_version_with_a_known_weakness_is_told_with_its_remedy(pins: Path) -> None:
    pins.write_text("fine==2.0\nweak==1.0\n", encoding="utf-8")
    with serving() as database:
        assert ask(database, pins) == ["weak 1.0: PYSEC-1, fixed in 1.1"]


def test_nothing_is_told_where_nothing_is_known(pins: Path) -> None:
    pins.write_text("fine==2.0\n", encoding="utf-8")
    with serving() as database:
        assert ask(database, pins) == []


def test_a_database_that_cannot_be_reached_is_not_taken_for_one_that_knows_nothing(pins: Path) -> None:
    pins.write_text("fine==2.0\n", encoding="utf-8")
    with serving() as database:
        pass
    (line,) = ask(database, pins)
    assert line.startswith(f"not checked, for {database!r} could not be asked: ")
