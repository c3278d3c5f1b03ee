"""What lanes are forked from: it loads once what all of them read, and tells how each of them ended."""

import os
import re
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from app.engine.lane import LaneUnavailableError
from app.engine.zygote import Loaded, LoadModel, Zygote
from tests.api.waiting import eventually
from tests.engine import loading
from tests.engine.test_process import gone
from tests.fakes import FakeModel

DIGEST = FakeModel().info.digest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere lanes are threads")


def opened(load: LoadModel = loading.fake, digest: str = DIGEST) -> Zygote:
    zygote = Zygote(load, digest)
    zygote.wait_until_ready()
    return zygote


def tell(status: int, loaded: Loaded, end: socket.socket) -> None:
    """How much of its memory no other process has, in MiB, and who it is; then end so, when told to."""
    loaded.model.tokenize("alpha")
    rollup = Path("/proc/self/smaps_rollup").read_text()
    own = sum(int(size) for size in re.findall(r"^Private_\w+:\s+(\d+) kB", rollup, re.MULTILINE))
    end.sendall(f"{own // 1024} {os.getpid()}".encode())
    end.recv(1)
    os._exit(status)


class Forked:
    """Lives until its end is closed."""

    def __init__(self, zygote: Zygote, status: int = 0) -> None:
        self.end, theirs = socket.socketpair()
        with theirs:
            zygote.fork(partial(tell, status), theirs)
        self.own_mib, self.pid = map(int, self.end.recv(100).split())


def test_what_is_forked_from_it_shares_what_it_has_loaded() -> None:
    zygote = opened(loading.heavy)
    for forked in [Forked(zygote) for _ in range(3)]:
        assert forked.own_mib < loading.HEAVY_MIB / 2
        forked.end.close()


@pytest.mark.parametrize("status", [0, 3])
def test_it_tells_how_each_ended(status: int) -> None:
    zygote = opened()
    first, second = Forked(zygote, status), Forked(zygote)
    os.kill(second.pid, signal.SIGKILL)
    first.end.close()
    second.end.close()
    assert zygote.status_of(second.pid, 60) == -signal.SIGKILL
    assert zygote.status_of(first.pid, 60) == status
    assert zygote.status_of(first.pid, 0) is None


def test_of_one_who_lives_nothing_is_told() -> None:
    zygote = opened()
    forked = Forked(zygote)
    assert zygote.status_of(forked.pid, 0.01) is None
    forked.end.close()


def test_it_ends_with_its_object_and_those_who_were_forked_live_on() -> None:
    zygote = opened()
    forked, pid = Forked(zygote), zygote.pid
    del zygote
    eventually(gone(pid))
    os.kill(forked.pid, 0)
    forked.end.close()


def test_one_that_was_killed_is_not_alive_and_forks_nobody() -> None:
    zygote = opened()
    assert zygote.alive
    os.kill(zygote.pid, signal.SIGKILL)
    eventually(lambda: not zygote.alive)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(LaneUnavailableError, match="has loaded its model is dead"):
        zygote.fork(partial(tell, 0), theirs)


def test_what_it_cannot_run_ends_at_once_and_it_goes_on() -> None:
    zygote = opened()
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            zygote.fork(print, theirs)  # which answers nobody
        assert ours.recv(1) == b""
    Forked(zygote).end.close()


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (loading.missing, "no checkpoint here any more"),
        (loading.changed, "has changed"),
        (loading.fatal, "died at once"),
    ],
)
def test_why_there_can_be_none_is_said(load: LoadModel, reason: str) -> None:
    with pytest.raises(LaneUnavailableError, match=reason):
        opened(load)


def test_a_signal_that_is_meant_for_the_service_does_not_end_it() -> None:
    zygote = opened()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(zygote.pid, number)
    time.sleep(0.1)
    Forked(zygote).end.close()
