"""Servers are started with their settings and leave nothing behind."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks import systems
from benchmarks.peers.settings import PeerSettings
from benchmarks.systems import KINDS, System, descendants, running


@pytest.mark.parametrize("kind", KINDS)
def test_every_system_is_asked_for_the_same_search(kind: str) -> None:
    body = json.loads(System(kind, "float32").body("Rain fell.", 4))
    assert "Rain fell." in json.dumps(body)
    assert 'beams": 4' in json.dumps(body)


def test_the_summary_is_found_in_either_kind_of_answer() -> None:
    assert (
        System("bentoml", "float32").summary(["one"]) == System("ray", "float32").summary({"summary": "one"}) == "one"
    )


def test_a_peer_reads_back_the_settings_it_is_started_with(monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = PeerSettings(batch=7, wait_ms=3, workers=2, threads=1)
    environment = System("ray", "bfloat16", tuning=tuning).environment(port=1234)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    read = PeerSettings.read()
    assert (read.batch, read.wait_ms, read.workers, read.threads) == (7, 3, 2, 1)
    assert (read.precision, read.port, read.folder) == ("bfloat16", 1234, "model_store/news-en")


def test_a_server_that_ends_at_once_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "KINDS", {"broken": ("-c", "raise SystemExit(1)")})
    with pytest.raises(RuntimeError, match="broken float32"), running(System("broken", "float32")):
        pass


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_what_a_server_started_is_found() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (grandchild,) = set(descendants(process.pid))
        assert grandchild in descendants(os.getpid())
        process.communicate(b"\n")
    assert descendants(process.pid) == {}
